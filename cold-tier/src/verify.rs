//! Verify before evict (D8): what a consumer would get from the object is what the segment says.
//!
//! The object's bytes are decoded by the code that serves cold reads, and the segment is read from disk once more. Each
//! record is compared with its row in every field; then the batches that replay makes of the chunk are parsed and
//! compared with the same rows. So the segment, the table and the consumer's view agree, or the object is not committed.

use bytes::Bytes;
use model::PartitionIndex;
use model::batch::{BatchHeader, Batches, Record, RecordsBuffer, TimestampType};

use crate::columns::Columns;
use crate::error::ArchiveError;
use crate::footer::Footer;
use crate::replay::{self, Replayed};
use crate::schema;
use crate::writer::rows::sequence;
use crate::writer::segment::{Visitor, Walk};

/// Answers the pages of the chunk with that number, in column order.
pub(crate) type PageSource<'a> = dyn FnMut(usize) -> Result<Vec<Bytes>, ArchiveError> + 'a;

/// Compares the object with the segments. Runs on a worker thread.
pub(crate) fn verify(
    walk: &Walk<'_>,
    object: &str,
    footer: &Footer,
    partition: PartitionIndex,
    pages: &mut PageSource<'_>,
) -> Result<(), ArchiveError> {
    let mut verifier = Verifier { object, footer, partition, pages, chunk: 0, row: 0, columns: Columns::default() };
    walk.run(&mut verifier)?;
    if verifier.row < verifier.columns.rows() || verifier.chunk < footer.chunks.len() {
        let last = footer.chunks.last().map_or(-1, |chunk| chunk.facts.last_offset);
        return Err(verifier.mismatch(last, schema::OFFSET));
    }
    Ok(())
}

struct Verifier<'a> {
    object: &'a str,
    footer: &'a Footer,
    partition: PartitionIndex,
    pages: &'a mut PageSource<'a>,
    /// The next chunk.
    chunk: usize,
    /// The next row of `columns`.
    row: usize,
    columns: Columns,
}

impl Visitor for Verifier<'_> {
    fn batch(&mut self, _header: &BatchHeader, _block: Option<&Bytes>) {}

    fn record(&mut self, header: &BatchHeader, record: &Record<'_>) -> Result<(), ArchiveError> {
        while self.row == self.columns.rows() {
            self.next_chunk(record.offset)?;
        }
        match difference(&self.columns, self.row, header, record) {
            Some(column) => Err(self.mismatch(record.offset, column)),
            None => {
                self.row += 1;
                Ok(())
            }
        }
    }

    fn batch_end(&mut self) -> Result<(), ArchiveError> {
        Ok(())
    }
}

impl Verifier<'_> {
    fn next_chunk(&mut self, offset: i64) -> Result<(), ArchiveError> {
        let Some(chunk) = self.footer.chunks.get(self.chunk) else { return Err(self.mismatch(offset, schema::OFFSET)) };
        let pages = (self.pages)(self.chunk)?;
        let unreadable = |reason: String| ArchiveError::Encode { object: self.object.to_owned(), reason };
        self.columns.decode(self.footer, chunk, &pages).map_err(unreadable)?;
        let columns = &self.columns;
        if !columns.all_of_partition(self.partition) {
            return Err(self.mismatch(chunk.facts.first_offset, schema::PARTITION));
        }
        let replayed = replay::replay(columns, chunk.facts.record_bytes).map_err(unreadable)?;
        check_replay(columns, &replayed).map_err(|(offset, column)| self.mismatch(offset, column))?;
        self.row = 0;
        self.chunk += 1;
        Ok(())
    }

    fn mismatch(&self, offset: i64, column: &'static str) -> ArchiveError {
        ArchiveError::Mismatch { object: self.object.to_owned(), offset, column }
    }
}

/// Parses the replayed batches and compares them with the rows that they were made from.
fn check_replay(columns: &Columns, replayed: &Replayed) -> Result<(), (i64, &'static str)> {
    let mut row = 0;
    let mut scratch = RecordsBuffer::new(0);
    for batch in Batches::new(&replayed.bytes) {
        let at = columns.offset(row.min(columns.rows() - 1));
        let batch = batch.and_then(|batch| batch.verify_crc().map(|()| batch)).map_err(|_| (at, "batch"))?;
        for record in batch.records(&mut scratch).map_err(|_| (at, "batch"))? {
            let record = record.map_err(|_| (at, "batch"))?;
            if row == columns.rows() {
                return Err((record.offset, schema::OFFSET));
            }
            if let Some(column) = difference(columns, row, &batch.header, &record) {
                return Err((record.offset, column));
            }
            row += 1;
        }
    }
    if row == columns.rows() { Ok(()) } else { Err((columns.offset(row), schema::OFFSET)) }
}

/// The first column in which the row differs from the record.
fn difference(columns: &Columns, row: usize, header: &BatchHeader, record: &Record<'_>) -> Option<&'static str> {
    let facts = columns.facts(row);
    let append_time = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
    let checks = [
        (columns.offset(row) == record.offset, schema::OFFSET),
        (columns.timestamp(row) == record.timestamp, schema::TIMESTAMP),
        (columns.key(row) == record.key, schema::KEY),
        (columns.value(row) == record.value, schema::VALUE),
        (facts.timestamp_type == i32::from(append_time), schema::TIMESTAMP_TYPE),
        (facts.leader_epoch == header.leader_epoch, schema::LEADER_EPOCH),
        (facts.producer_id == header.producer_id, schema::PRODUCER_ID),
        (facts.producer_epoch == i32::from(header.producer_epoch), schema::PRODUCER_EPOCH),
        (columns.sequence(row) == sequence(header, record), schema::SEQUENCE),
        (same_headers(columns, row, record), schema::HEADERS),
    ];
    checks.iter().find(|(same, _)| !same).map(|(_, column)| *column)
}

fn same_headers(columns: &Columns, row: usize, record: &Record<'_>) -> bool {
    let stored = columns.headers(row);
    stored.len() == record.headers.len()
        && stored
            .zip(record.headers.iter())
            .all(|((key, value), original)| original.is_ok_and(|(k, v)| key == k.as_bytes() && value == v))
}
