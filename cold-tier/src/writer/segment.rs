//! Walking over the records of sealed segments that count as history.
//!
//! Every batch's checksum is verified on the way: a damaged segment is reported, never archived. Left out are control
//! batches, records of aborted transactions, and records below the offset from which the archive continues.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;

use bytes::{Bytes, BytesMut};
use model::batch::{BatchError, BatchHeader, BatchView, Compression, HEADER_LEN, Record, RecordsBuffer};
use model::segment::{AbortedTransaction, SealedSegment};
use model::{Offset, ProducerId};

use crate::error::ArchiveError;

/// Bytes read from a segment at a time; a larger batch is read whole.
const WINDOW_BYTES: usize = 4 << 20;
/// Windows whose memory is kept for the next.
const MAX_RETIRED: usize = 3;
/// Largest decompressed batch: the protocol's lengths are 32 bits wide, and the door has checked the topic's own limit.
const MAX_DECOMPRESSED_BYTES: usize = i32::MAX as usize;

/// What the walk meets.
pub(crate) trait Visitor {
    /// A batch with at least one record that counts begins. `block` is where its records' bytes lie when they need no
    /// copy.
    fn batch(&mut self, header: &BatchHeader, block: Option<&Bytes>);

    /// A record of that batch.
    fn record(&mut self, header: &BatchHeader, record: &Record<'_>) -> Result<(), ArchiveError>;

    /// The batch ends.
    fn batch_end(&mut self) -> Result<(), ArchiveError>;
}

/// What a walk has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Walked {
    /// Bytes of the batches at or above the starting offset, as they lie on disk.
    pub(crate) record_bytes: u64,
}

/// Adjacent segments, and the offset from which they count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk<'a> {
    pub(crate) segments: &'a [SealedSegment],
    pub(crate) from: Offset,
}

impl Walk<'_> {
    /// Shows every record that counts to `visitor`, in offset order.
    pub(crate) fn run(&self, visitor: &mut impl Visitor) -> Result<Walked, ArchiveError> {
        let aborted = Aborted::new(self.segments.iter().flat_map(|segment| &segment.aborted));
        let mut walked = Walked::default();
        let mut expected = Offset::MIN;
        for segment in self.segments {
            let mut reader = Reader::new(segment);
            let mut scratch = RecordsBuffer::new(MAX_DECOMPRESSED_BYTES);
            while let Some((window, batch)) = reader.next()? {
                let header = batch.header;
                if header.base_offset < expected.max(segment.base_offset) || header.next_offset() > segment.next_offset
                {
                    return Err(damaged(segment, header.base_offset, "a batch lies outside its place in the log"));
                }
                expected = header.next_offset();
                if header.next_offset() <= self.from {
                    continue;
                }
                walked.record_bytes += batch.bytes.len() as u64;
                let filter = Filter { from: self.from, aborted: aborted.of(&header) };
                if !header.is_control() {
                    visit_batch(&batch, &window, &filter, (visitor, &mut scratch))
                        .map_err(|e| e.into_archive_error(segment, header.base_offset))?;
                }
            }
        }
        Ok(walked)
    }
}

enum Stop {
    Batch(BatchError),
    Order(Offset),
    Visitor(ArchiveError),
}

impl Stop {
    fn into_archive_error(self, segment: &SealedSegment, base_offset: Offset) -> ArchiveError {
        match self {
            Stop::Batch(error) => damaged(segment, base_offset, &error.to_string()),
            Stop::Order(offset) => damaged(segment, offset, "a record lies outside its batch's offsets"),
            Stop::Visitor(error) => error,
        }
    }
}

struct Filter<'a> {
    from: Offset,
    aborted: &'a [AbortedTransaction],
}

impl Filter<'_> {
    fn admits(&self, offset: Offset) -> bool {
        offset >= self.from && !self.aborted.iter().any(|t| (t.first_offset..=t.last_offset).contains(&offset))
    }
}

fn visit_batch<V: Visitor>(
    batch: &BatchView<'_>,
    window: &Bytes,
    filter: &Filter<'_>,
    (visitor, scratch): (&mut V, &mut RecordsBuffer),
) -> Result<(), Stop> {
    batch.verify_crc().map_err(Stop::Batch)?;
    let header = batch.header;
    let plain = header.attributes.compression().map_err(Stop::Batch)? == Compression::None;
    let mut started = false;
    let mut previous = header.base_offset - 1;
    for record in batch.records(scratch).map_err(Stop::Batch)? {
        let record = record.map_err(Stop::Batch)?;
        if record.offset <= previous || record.offset > header.last_offset() {
            return Err(Stop::Order(record.offset));
        }
        previous = record.offset;
        if !filter.admits(record.offset) {
            continue;
        }
        if !started {
            visitor.batch(&header, plain.then_some(window));
            started = true;
        }
        visitor.record(&header, &record).map_err(Stop::Visitor)?;
    }
    if started { visitor.batch_end().map_err(Stop::Visitor) } else { Ok(()) }
}

fn damaged(segment: &SealedSegment, offset: Offset, reason: &str) -> ArchiveError {
    ArchiveError::DamagedSegment {
        partition: segment.partition,
        offset,
        reason: format!("{:020}.log: {reason}", segment.base_offset),
    }
}

/// Aborted transactions by producer.
struct Aborted(HashMap<ProducerId, Vec<AbortedTransaction>>);

impl Aborted {
    fn new<'a>(transactions: impl Iterator<Item = &'a AbortedTransaction>) -> Self {
        let mut by_producer: HashMap<_, Vec<_>> = HashMap::new();
        for transaction in transactions {
            by_producer.entry(transaction.producer_id).or_default().push(*transaction);
        }
        Aborted(by_producer)
    }

    fn of(&self, header: &BatchHeader) -> &[AbortedTransaction] {
        if !header.is_transactional() {
            return &[];
        }
        self.0.get(&header.producer_id).map_or(&[], Vec::as_slice)
    }
}

/// Reads whole batches in windows that stay valid as long as somebody refers to them.
struct Reader<'a> {
    segment: &'a SealedSegment,
    /// File position behind `window`.
    position: u64,
    window: Bytes,
    /// Position in `window` of the next batch.
    at: usize,
    /// Earlier windows: their memory is used again once nobody refers to them.
    retired: Vec<Bytes>,
}

impl<'a> Reader<'a> {
    fn new(segment: &'a SealedSegment) -> Self {
        Reader { segment, position: 0, window: Bytes::new(), at: 0, retired: Vec::new() }
    }

    /// The next batch and the window that it lies in.
    fn next(&mut self) -> Result<Option<(Bytes, BatchView<'_>)>, ArchiveError> {
        let available = self.window.len() - self.at;
        let unread = self.segment.size_bytes - self.position;
        if available == 0 && unread == 0 {
            return Ok(None);
        }
        let needed = match BatchHeader::parse(&self.window[self.at..]) {
            Ok(header) => header.size_bytes(),
            Err(BatchError::Truncated { .. }) => HEADER_LEN,
            Err(error) => return Err(self.damaged(&error)),
        };
        if needed > available {
            if unread == 0 {
                return Err(self.damaged(&BatchError::Truncated { needed, available }));
            }
            self.refill(needed)?;
            return self.next();
        }
        let window = self.window.clone();
        let start = self.at;
        self.at += needed;
        let batch = BatchView::parse(&self.window[start..])
            .map_err(|e| damaged(self.segment, self.segment.base_offset, &e.to_string()))?;
        Ok(Some((window, batch)))
    }

    /// Moves on to a window that starts with the bytes left over and holds at least `needed` bytes if the file has them.
    fn refill(&mut self, needed: usize) -> Result<(), ArchiveError> {
        let kept = self.window.slice(self.at..);
        let unread = usize::try_from(self.segment.size_bytes - self.position).unwrap_or(usize::MAX);
        let len = (kept.len() + unread).min(needed.max(WINDOW_BYTES));
        let mut window = self.blank(len);
        let (head, fresh) = window.split_at_mut(kept.len());
        head.copy_from_slice(&kept);
        self.segment.file.read_exact_at(fresh, self.position).map_err(|e| self.unreadable(&e))?;
        self.position += fresh.len() as u64;
        drop(kept);
        let old = std::mem::replace(&mut self.window, window.freeze());
        if self.retired.len() < MAX_RETIRED && old.len() <= WINDOW_BYTES {
            self.retired.push(old);
        }
        self.at = 0;
        Ok(())
    }

    /// `len` bytes of any content, in a retired window's memory where one is free.
    fn blank(&mut self, len: usize) -> BytesMut {
        let mut window = BytesMut::new();
        for _ in 0..self.retired.len() {
            match self.retired.remove(0).try_into_mut() {
                Ok(free) => {
                    window = free;
                    break;
                }
                Err(in_use) => self.retired.push(in_use),
            }
        }
        window.resize(len, 0);
        window
    }

    fn damaged(&self, error: &BatchError) -> ArchiveError {
        let at = self.position - (self.window.len() - self.at) as u64;
        damaged(self.segment, self.segment.base_offset, &format!("{error} (at byte {at} of the segment)"))
    }

    fn unreadable(&self, error: &std::io::Error) -> ArchiveError {
        let at = self.position;
        damaged(self.segment, self.segment.base_offset, &format!("it cannot be read at byte {at}: {error}"))
    }
}
