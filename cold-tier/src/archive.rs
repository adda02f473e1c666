//! Writing one archived object: encode, verify, upload (D7 step 1, D8).
//!
//! ```text
//! small object:  encode → verify in memory → one conditional PUT
//! large object:  encode ⇉ parts, complete → read back and verify
//! ```
//!
//! The object is immutable and not named until a manifest is written and the ledger commits its pointer. A crash at
//! any point leaves at most an orphan, which the sweep takes once the archive has moved past its range. Retries inside a
//! call use the same name; another call needs another attempt id.

use std::sync::Arc;

use bytes::Bytes;
use model::archive::ManifestPointer;
use model::batch::Compression;
use model::segment::{EpochStart, SealedSegment};
use model::{LeaderEpoch, Offset, TimestampMs, TopicName, TopicPartition};
use object_store::PutPayload;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::error::ArchiveError;
use crate::footer::Footer;
use crate::manifest::ArchivedSegment;
use crate::manifest::tree::{Commit, ManifestChange};
use crate::names::Span;
use crate::tier::{ColdTier, Inner};
use crate::verify;
use crate::workers::JobError;
use crate::writer::encode::{EncodeError, Encoded, ObjectFacts, encode};
use crate::writer::rows::is_exact;
use crate::writer::segment::Walk;
use crate::writer::sink::{Finished, Sink};

/// Chunks that a read-back may be ahead of the comparison.
const READ_BACK_CHUNKS: usize = 4;

/// How segments are archived.
#[derive(Debug, Clone)]
pub struct ArchiveOptions {
    /// Codec of the object's pages: zstd, lz4, snappy or none; gzip counts as zstd.
    pub codec: Compression,
    /// A fresh random id, part of the object's name.
    pub attempt: Uuid,
    /// Leader epoch under which the caller archives.
    pub leader_epoch: LeaderEpoch,
    /// The time, in ms since the epoch: recorded as the object's age.
    pub now: TimestampMs,
    /// First offset that counts, where the first segment begins below the archive's end: a new leader's segments need not
    /// begin where the old one's did. `None` is the first segment's base offset.
    pub from: Option<Offset>,
}

impl ColdTier {
    /// Archives adjacent segments of one partition as one verified object. Nothing refers to it yet: see
    /// [`Self::write_manifest`].
    ///
    /// # Errors
    /// [`ArchiveError`]; nothing is committed then.
    pub async fn archive(
        &self,
        segments: &[SealedSegment],
        options: ArchiveOptions,
    ) -> Result<ArchivedSegment, ArchiveError> {
        let job = Job::new(&self.inner, segments, &options)?;
        let start = std::time::Instant::now();
        let segment = job.run().await?;
        metrics::counter!("firn_archive_record_bytes_total").increment(segment.record_bytes);
        metrics::counter!("firn_archive_object_bytes_total").increment(segment.bytes);
        metrics::histogram!("firn_archive_object_seconds").record(start.elapsed());
        Ok(segment)
    }

    /// Writes the manifest that follows `previous` (D7 step 2). The caller commits the pointer in the ledger; where that
    /// commit's outcome is uncertain it reads the ledger, and deletes nothing.
    ///
    /// # Errors
    /// [`ArchiveError::Segments`] when the change does not continue the archive.
    pub async fn write_manifest(
        &self,
        partition: &TopicPartition,
        topic: &TopicName,
        previous: Option<&ManifestPointer>,
        change: ManifestChange,
    ) -> Result<ManifestPointer, ArchiveError> {
        let Inner { store, manifests, names, .. } = &*self.inner;
        let commit = Commit { store, manifests, names, topic, partition: *partition };
        commit.write(previous, change).await
    }
}

/// One object in the making.
struct Job {
    tier: Arc<Inner>,
    segments: Arc<[SealedSegment]>,
    facts: Arc<ObjectFacts>,
    from: Offset,
    now: TimestampMs,
}

impl Job {
    fn new(tier: &Arc<Inner>, segments: &[SealedSegment], options: &ArchiveOptions) -> Result<Job, ArchiveError> {
        let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
            let partition = TopicPartition { topic_id: model::TopicId::ZERO, partition: -1 };
            return Err(ArchiveError::Segments { partition, reason: "no segment was given".into() });
        };
        let refuse = |reason: String| Err(ArchiveError::Segments { partition: first.partition, reason });
        for pair in segments.windows(2) {
            if pair[0].partition != pair[1].partition || pair[0].next_offset != pair[1].base_offset {
                return refuse(format!(
                    "segment {} does not follow segment {}",
                    pair[1].base_offset, pair[0].base_offset
                ));
            }
        }
        let (base, next) = (options.from.unwrap_or(first.base_offset), last.next_offset);
        if base < first.base_offset || base >= next {
            return refuse(format!("offset {base} lies outside the segments [{}, {next})", first.base_offset));
        }
        let span = Span { base, next, leader_epoch: options.leader_epoch, attempt: options.attempt };
        let facts = ObjectFacts {
            name: tier.names.data(&first.topic, first.partition, span),
            cluster_id: tier.names.cluster_id().to_owned(),
            topic: first.topic.clone(),
            partition: first.partition,
            span,
            epochs: epochs_in(&last.epochs, base, next),
            producers: last.producers.clone(),
            codec: options.codec,
        };
        let (tier, segments) = (Arc::clone(tier), Arc::from(segments));
        Ok(Job { tier, segments, facts: Arc::new(facts), from: base, now: options.now })
    }

    async fn run(&self) -> Result<ArchivedSegment, ArchiveError> {
        let exact = self.segments.iter().any(|segment| is_exact(segment.max_timestamp));
        let (encoded, etag) = match self.encode_and_send(exact).await {
            Err(EncodeError::NeedsExactTimestamps) => self.encode_and_send(true).await,
            done => done,
        }
        .map_err(|error| match error {
            EncodeError::Archive(error) => error,
            EncodeError::NeedsExactTimestamps => self.encode_error("a timestamp fits no column".into()),
        })?;
        match &encoded.finished {
            Finished::Whole { blocks, size } => {
                let mut entry = self.entry(&encoded, *size, None);
                entry.etag =
                    self.tier.store.put_new(&entry.object, PutPayload::from_iter(blocks.iter().cloned())).await?;
                Ok(entry)
            }
            Finished::Sent { size } => {
                let entry = self.entry(&encoded, *size, etag);
                self.read_back(&entry).await?;
                Ok(entry)
            }
        }
    }

    /// Encodes on a worker thread while full parts, if any, go out. A whole object is verified by the same job.
    async fn encode_and_send(&self, exact: bool) -> Result<(Encoded, Option<String>), EncodeError> {
        let (parts, mut received) = mpsc::channel(1);
        let sink = Sink::new(self.tier.config.upload_part_bytes, parts);
        let (tier, segments, facts) = (Arc::clone(&self.tier), Arc::clone(&self.segments), Arc::clone(&self.facts));
        let (from, now) = (self.from, self.now);
        let encoding = self.tier.archivers.run(move || {
            let walk = Walk { segments: &segments, from };
            let encoded = encode(&walk, &facts, &tier.config, sink, exact)?;
            if let Finished::Whole { blocks, size } = &encoded.finished {
                let entry = entry(&facts, &encoded, *size, now);
                verify_blocks(&walk, &entry, &facts, blocks).map_err(EncodeError::Archive)?;
            }
            Ok(encoded)
        });
        let sending = async move {
            match received.recv().await {
                Some(Some(first)) => self.tier.store.put_parts(&self.facts.name, first, received).await,
                _ => Ok(None),
            }
        };
        let (encoded, sent) = tokio::join!(encoding, sending);
        // An upload that failed makes the encoder fail too: its error is the cause.
        let etag = sent.map_err(|e| EncodeError::Archive(e.into()))?;
        let encoded = encoded.map_err(|e| EncodeError::Archive(self.job_error(e)))??;
        Ok((encoded, etag))
    }

    /// Reads an object that went out in parts, and compares it.
    async fn read_back(&self, entry: &ArchivedSegment) -> Result<(), ArchiveError> {
        let store = &self.tier.store;
        let tail = store.get_range(&entry.object, entry.bytes - entry.footer_bytes..entry.bytes).await?;
        let footer = Arc::new(Footer::parse(entry, tail).map_err(|reason| self.encode_error(reason))?);
        let (pages, mut fetched) = mpsc::channel(READ_BACK_CHUNKS);
        let (segments, facts, parsed, from) =
            (Arc::clone(&self.segments), Arc::clone(&self.facts), Arc::clone(&footer), self.from);
        let comparing = self.tier.archivers.run(move || {
            let walk = Walk { segments: &segments, from };
            let mut source = |_| fetched.blocking_recv().ok_or(ArchiveError::Closed);
            verify::verify(&walk, &facts.name, &parsed, facts.partition.partition, &mut source)
        });
        let feeding = async move {
            for chunk in &footer.chunks {
                let bytes = store.get_ranges(&entry.object, &chunk.pages).await?;
                if pages.send(bytes).await.is_err() {
                    // The comparison has ended early, with its own error.
                    break;
                }
            }
            Ok::<_, ArchiveError>(())
        };
        let (compared, fed) = tokio::join!(comparing, feeding);
        fed?;
        compared.map_err(|e| self.job_error(e))?
    }

    fn entry(&self, encoded: &Encoded, size: u64, etag: Option<String>) -> ArchivedSegment {
        ArchivedSegment { etag, ..entry(&self.facts, encoded, size, self.now) }
    }

    fn encode_error(&self, reason: String) -> ArchiveError {
        ArchiveError::Encode { object: self.facts.name.clone(), reason }
    }

    fn job_error(&self, error: JobError) -> ArchiveError {
        match error {
            JobError::Closed => ArchiveError::Closed,
            JobError::Panicked(words) => self.encode_error(format!("the encoder panicked: {words}")),
        }
    }
}

fn entry(facts: &ObjectFacts, encoded: &Encoded, size: u64, now: TimestampMs) -> ArchivedSegment {
    ArchivedSegment {
        object: facts.name.clone(),
        base_offset: facts.span.base,
        next_offset: facts.span.next,
        leader_epoch: facts.span.leader_epoch,
        bytes: size,
        record_bytes: encoded.record_bytes,
        records: encoded.rows(),
        min_timestamp: encoded.min_timestamp(),
        max_timestamp: encoded.max_timestamp(),
        archived_at: now,
        epochs: facts.epochs.clone(),
        footer_bytes: encoded.footer_bytes,
        footer_crc32c: encoded.footer_crc32c,
        chunks: u32::try_from(encoded.chunks.len()).unwrap_or(u32::MAX),
        producers: encoded.producers,
        etag: None,
    }
}

/// Compares an object that is still in memory.
fn verify_blocks(
    walk: &Walk<'_>,
    entry: &ArchivedSegment,
    facts: &ObjectFacts,
    blocks: &[Bytes],
) -> Result<(), ArchiveError> {
    let encode_error = |reason: String| ArchiveError::Encode { object: facts.name.clone(), reason };
    let slice = |range: std::ops::Range<u64>| {
        let len = range.end - range.start;
        let bytes = slice_blocks(blocks, range);
        if bytes.len() as u64 == len {
            Ok(bytes)
        } else {
            Err(encode_error("the object is shorter than it should be".into()))
        }
    };
    let tail = slice(entry.bytes - entry.footer_bytes..entry.bytes)?;
    let footer = Footer::parse(entry, tail).map_err(encode_error)?;
    let mut source = |chunk: usize| footer.chunks[chunk].pages.iter().map(|page| slice(page.clone())).collect();
    verify::verify(walk, &facts.name, &footer, facts.partition.partition, &mut source)
}

/// The bytes in `range` of the blocks taken as one; copied only where the range crosses blocks.
fn slice_blocks(blocks: &[Bytes], range: std::ops::Range<u64>) -> Bytes {
    let mut pieces = Vec::new();
    let mut at = 0_u64;
    for block in blocks {
        let end = at + block.len() as u64;
        let (from, to) = (range.start.max(at), range.end.min(end));
        if from < to {
            let index = |position: u64| usize::try_from(position - at).unwrap_or(usize::MAX);
            pieces.push(block.slice(index(from)..index(to)));
        }
        at = end;
    }
    if pieces.len() == 1 { pieces.remove(0) } else { Bytes::from(pieces.concat()) }
}

/// The epochs that occur in `[base, next)`.
fn epochs_in(epochs: &[EpochStart], base: Offset, next: Offset) -> Vec<EpochStart> {
    let first = epochs.partition_point(|epoch| epoch.start_offset <= base).saturating_sub(1);
    epochs[first..].iter().filter(|epoch| epoch.start_offset < next).copied().collect()
}
