//! How many rows a batch of a query may have, so that large records do not make large batches.
//!
//! Operators gather rows by number, whatever their size. The number follows from the largest records that a query reads, except
//! those that are few: as many of the largest objects as fit into a batch together are left out of it, so that neither an object
//! of a single record nor one with a few large ones sets the size of all batches. The size of a record is an estimate, because a
//! manifest tells how many bytes the batches of an object took in the log, where they may be compressed, and how many chunks
//! they became, which are about a mebibyte each before compression. Of records that are not archived nothing is known before
//! they are read: a query that runs out of memory by them is planned once more, with what was seen.

use cold_tier::ArchivedSegment;
use parking_lot::Mutex;

/// Bytes that a full chunk takes once it is decoded, with its arrays.
const CHUNK_BYTES: u64 = 2 << 20;
/// How many times their size in the log records are taken for where the number of chunks does not say.
const EXPANSION: u64 = 16;
/// Budgets of a batch that records may take beside those that set its rows.
const FEW: u64 = 4;

/// What is known of the records that a query reads.
#[derive(Debug)]
pub(super) struct Scale {
    batch_bytes: u64,
    read: Mutex<Vec<Weight>>,
    seen: Mutex<Vec<Weight>>,
}

/// Records of about one size.
#[derive(Debug, Clone, Copy)]
struct Weight {
    row_bytes: u64,
    bytes: u64,
}

impl Scale {
    /// Batches are meant to hold at most `batch_bytes` of records, and a few large ones.
    pub(super) fn new(batch_bytes: usize) -> Self {
        Scale { batch_bytes: batch_bytes as u64, read: Mutex::default(), seen: Mutex::default() }
    }

    /// Takes note of an object whose keys, values or headers are to be read.
    pub(super) fn note(&self, segment: &ArchivedSegment) {
        let weight = Weight::of(segment.records, segment.record_bytes, u64::from(segment.chunks));
        self.read.lock().push(weight);
    }

    /// Takes note of records that were read and are not archived: nothing tells their size before.
    pub(super) fn note_read(&self, records: usize, bytes: usize) {
        let (records, bytes) = (records.max(1) as u64, bytes as u64);
        self.seen.lock().push(Weight { row_bytes: (bytes / records).max(1), bytes });
    }

    /// Forgets the objects of an earlier plan of the same query.
    pub(super) fn plan_again(&self) {
        self.read.lock().clear();
    }

    /// Rows that a batch may have, as far as the scans planned and run so far know.
    pub(super) fn rows(&self) -> usize {
        let mut weights = self.read.lock().clone();
        weights.extend_from_slice(&self.seen.lock());
        weights.sort_unstable_by_key(|weight| std::cmp::Reverse(weight.row_bytes));
        // A record larger than the rest of a batch is in one batch or another.
        let largest = weights.first().map_or(0, |weight| weight.row_bytes);
        let few_bytes = self.batch_bytes.saturating_mul(FEW).saturating_add(largest);
        let mut left_out = 0_u64;
        let is_many = |weight: &&Weight| {
            left_out = left_out.saturating_add(weight.bytes);
            left_out > few_bytes
        };
        let rows = weights.iter().find(is_many).map_or(u64::MAX, |weight| self.batch_bytes / weight.row_bytes);
        usize::try_from(rows.max(1)).unwrap_or(usize::MAX)
    }
}

impl Weight {
    fn of(records: u64, logged_bytes: u64, chunks: u64) -> Self {
        let in_chunks = chunks.saturating_mul(CHUNK_BYTES);
        // A single chunk may be nearly empty; all but the last of several are full.
        let at_most = if chunks > 1 { in_chunks } else { in_chunks.min(logged_bytes.saturating_mul(EXPANSION)) };
        let bytes = at_most.max(logged_bytes);
        Weight { row_bytes: (bytes / records.max(1)).max(1), bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: u64 = 4 << 20;

    /// Rows of a batch over so many objects of (records, bytes in the log, chunks).
    fn rows(objects: &[(usize, (u64, u64, u64))]) -> usize {
        let scale = Scale::new(usize::try_from(BUDGET).unwrap());
        for &(count, (records, bytes, chunks)) in objects {
            scale.read.lock().extend(vec![Weight::of(records, bytes, chunks); count]);
        }
        scale.rows()
    }

    #[test]
    fn small_objects_and_few_large_records_do_not_set_the_size_of_all_batches() {
        let many = (20, (1_000_000, 100 << 20, 100));
        let alone = rows(&[many]);
        assert!(alone > 8192, "{alone}");
        let cases = [
            ("one record", 1, (1, 100, 1)),
            ("a quiet year", 8760, (1, 100, 1)),
            ("one large record", 1, (1, 50 << 20, 1)),
            ("a few large records", 3, (2, 6 << 20, 2)),
        ];
        for (what, count, object) in cases {
            let with = rows(&[many, (count, object)]);
            assert!(with > 2000, "{what}: {with}");
        }
        assert_eq!(rows(&[]), usize::MAX);
    }

    #[test]
    fn what_was_read_counts_in_the_next_plan() {
        let scale = Scale::new(usize::try_from(BUDGET).unwrap());
        assert_eq!(scale.rows(), usize::MAX);
        (0..20).for_each(|_| scale.note_read(100, 4 << 20));
        scale.plan_again();
        assert_eq!(scale.rows(), 100);
    }

    #[test]
    fn many_large_records_make_small_batches() {
        assert_eq!(rows(&[(1, (6, 60 << 20, 6))]), 1);
        assert_eq!(rows(&[(100, (1, 2 << 20, 1)), (20, (1_000_000, 100 << 20, 100))]), 2);
        // Compressed in the log: the chunks tell.
        assert_eq!(rows(&[(10, (100, 1000, 100))]), 2);
    }
}
