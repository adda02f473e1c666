//! A chunk's pages, decoded into columns: the common ground of replay, verification and inspection.
//!
//! The pages are those that [`crate::writer::encode`] writes: version 1, PLAIN or DELTA_BINARY_PACKED, no dictionary.
//! Decoding them here instead of through arrow keeps one decompression context and one set of buffers per thread, and
//! values stay where they were decompressed; on 1 KiB records it made chunk to batches a third faster (measured, zstd-1).
//! Nothing in the bytes is trusted: every length is checked, and what a page may decompress to is bounded by what the
//! footer says of its chunk.

mod bits;
mod page;

use std::ops::Range;

use bytes::Bytes;
use model::{NO_TIMESTAMP, Offset, TimestampMs};

use self::page::{Data, Decompressor, Page};
use crate::checksum::Sum;
use crate::footer::{Chunk, Footer};

/// Buffers larger than this, in bytes, are not kept for the next chunk.
const KEPT_BYTES: usize = 8 << 20;

/// Row facts that are constant within a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) timestamp_type: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i32,
}

/// The columns of one chunk. Made once per thread and filled again for each chunk.
#[derive(Default)]
pub(crate) struct Columns {
    decompressor: Decompressor,
    levels: Vec<u8>,
    numbers: Data,
    partitions: Vec<i64>,
    offsets: Vec<i64>,
    /// Milliseconds, or −1.
    timestamps: Vec<i64>,
    keys: ByteStrings,
    values: ByteStrings,
    header_keys: ByteStrings,
    header_values: ByteStrings,
    /// Where each row's headers begin; one more than rows.
    header_starts: Vec<u32>,
    timestamp_types: Vec<i64>,
    leader_epochs: Vec<i64>,
    producer_ids: Vec<i64>,
    producer_epochs: Vec<i64>,
    sequences: Vec<i64>,
}

/// Leaf columns in the order of the schema.
mod leaf {
    pub(super) const PARTITION: usize = 0;
    pub(super) const OFFSET: usize = 1;
    pub(super) const TIMESTAMP: usize = 2;
    pub(super) const KEY: usize = 3;
    pub(super) const VALUE: usize = 4;
    pub(super) const HEADER_KEY: usize = 5;
    pub(super) const HEADER_VALUE: usize = 6;
    pub(super) const TIMESTAMP_TYPE: usize = 7;
    pub(super) const LEADER_EPOCH: usize = 8;
    pub(super) const PRODUCER_ID: usize = 9;
    pub(super) const PRODUCER_EPOCH: usize = 10;
    pub(super) const SEQUENCE: usize = 11;
    pub(super) const TIMESTAMP_MS: usize = 12;
    pub(super) const COUNT: usize = 12;
}

impl Columns {
    /// Decodes a chunk from the bytes of its pages, which are in column order; what was here before is gone.
    ///
    /// # Errors
    /// What is wrong, for a person: a checksum, a count, an offset, an encoding. The columns are then unusable.
    pub(crate) fn decode(&mut self, footer: &Footer, chunk: &Chunk, pages: &[Bytes]) -> Result<(), String> {
        check_bytes(chunk, pages)?;
        let expected = leaf::COUNT + usize::from(footer.with_timestamp_ms);
        if pages.len() != expected || footer.codecs.len() != expected {
            return Err(format!("a chunk has {} columns instead of {expected}", pages.len()));
        }
        let source = Source { footer, chunk, pages };
        self.decode_numbers(&source)?;
        self.decode_timestamps(&source)?;
        source.open(leaf::KEY)?.byte_strings(&mut self.decompressor, &mut self.levels, &mut self.keys)?;
        source.open(leaf::VALUE)?.byte_strings(&mut self.decompressor, &mut self.levels, &mut self.values)?;
        self.decode_headers(&source)?;
        self.check_offsets(chunk)
    }

    fn decode_numbers(&mut self, source: &Source<'_>) -> Result<(), String> {
        for (leaf, column) in [
            (leaf::PARTITION, &mut self.partitions),
            (leaf::OFFSET, &mut self.offsets),
            (leaf::TIMESTAMP_TYPE, &mut self.timestamp_types),
            (leaf::LEADER_EPOCH, &mut self.leader_epochs),
            (leaf::PRODUCER_ID, &mut self.producer_ids),
            (leaf::PRODUCER_EPOCH, &mut self.producer_epochs),
            (leaf::SEQUENCE, &mut self.sequences),
        ] {
            let page = source.open(leaf)?;
            page.expect_values(source.rows())?;
            page.decompress(&mut self.decompressor, &mut self.numbers)?;
            bits::delta_binary_packed(self.numbers.bytes(), source.rows(), column).map_err(|e| page.error(e))?;
        }
        for column in [
            &mut self.partitions,
            &mut self.timestamp_types,
            &mut self.leader_epochs,
            &mut self.producer_epochs,
            &mut self.sequences,
        ] {
            // 32-bit columns count modulo 2³².
            #[allow(clippy::cast_possible_truncation, reason = "the high half is what the wrapping leaves behind")]
            column.iter_mut().for_each(|value| *value = i64::from(*value as i32));
        }
        Ok(())
    }

    /// Microseconds, nulls and the exact milliseconds become milliseconds or −1.
    fn decode_timestamps(&mut self, source: &Source<'_>) -> Result<(), String> {
        let to_millis = |micros: i64| micros.div_euclid(1000);
        self.timestamps.clear();
        self.timestamps.resize(source.rows(), NO_TIMESTAMP);
        self.decode_nullable(source, leaf::TIMESTAMP, to_millis)?;
        if source.footer.with_timestamp_ms {
            self.decode_nullable(source, leaf::TIMESTAMP_MS, |millis| millis)?;
        }
        Ok(())
    }

    /// Puts the values of a nullable number column into the rows that have one.
    fn decode_nullable(&mut self, source: &Source<'_>, leaf: usize, map: impl Fn(i64) -> i64) -> Result<(), String> {
        let page = source.open(leaf)?;
        page.expect_values(source.rows())?;
        page.decompress(&mut self.decompressor, &mut self.numbers)?;
        let mut bytes = self.numbers.bytes();
        bits::levels(&mut bytes, 1, source.rows(), &mut self.levels).map_err(|e| page.error(e))?;
        let present = self.levels.iter().filter(|&&level| level == 1).count();
        let mut values = Vec::with_capacity(present);
        if present > 0 {
            bits::delta_binary_packed(bytes, present, &mut values).map_err(|e| page.error(e))?;
        }
        let rows = self.timestamps.iter_mut().zip(&self.levels).filter(|(_, level)| **level == 1);
        for ((row, _), value) in rows.zip(values) {
            *row = map(value);
        }
        Ok(())
    }

    /// `headers.list.element.key` and `.value`: a row begins where the repetition level is 0; definition level 0 is an
    /// empty list, and in `value` 1 is null.
    fn decode_headers(&mut self, source: &Source<'_>) -> Result<(), String> {
        let page = source.open(leaf::HEADER_KEY)?;
        page.decompress(&mut self.decompressor, &mut self.header_keys.data)?;
        let mut bytes = self.header_keys.data.bytes();
        let all = bytes.len();
        bits::levels(&mut bytes, 1, page.num_values(), &mut self.levels).map_err(|e| page.error(e))?;
        let mut definitions = Vec::new();
        bits::levels(&mut bytes, 1, page.num_values(), &mut definitions).map_err(|e| page.error(e))?;
        self.header_starts.clear();
        let mut count = 0_u32;
        for (repetition, definition) in self.levels.iter().zip(&definitions) {
            if *repetition == 0 {
                self.header_starts.push(count);
            }
            count += u32::from(*definition);
        }
        self.header_starts.push(count);
        if self.header_starts.len() != source.rows() + 1 || self.levels.first().is_some_and(|&level| level != 0) {
            return Err(page.error("its headers belong to another number of rows"));
        }
        let start = all - bytes.len();
        let present = definitions.iter().filter(|&&level| level == 1).map(|_| true);
        self.header_keys.split(start, present).map_err(|e| page.error(e))?;
        self.header_keys.check_utf8().map_err(|e| page.error(e))?;
        self.decode_header_values(source, count as usize)
    }

    fn decode_header_values(&mut self, source: &Source<'_>, count: usize) -> Result<(), String> {
        let page = source.open(leaf::HEADER_VALUE)?;
        page.decompress(&mut self.decompressor, &mut self.header_values.data)?;
        let mut bytes = self.header_values.data.bytes();
        let all = bytes.len();
        bits::levels(&mut bytes, 1, page.num_values(), &mut self.levels).map_err(|e| page.error(e))?;
        bits::levels(&mut bytes, 2, page.num_values(), &mut self.levels).map_err(|e| page.error(e))?;
        let start = all - bytes.len();
        let present = self.levels.iter().filter(|&&level| level > 0).map(|&level| level == 2);
        self.header_values.split(start, present).map_err(|e| page.error(e))?;
        if self.header_values.len() != count {
            return Err(page.error("its headers have more keys than values, or fewer"));
        }
        Ok(())
    }

    fn check_offsets(&self, chunk: &Chunk) -> Result<(), String> {
        let (first, last) = (chunk.facts.first_offset, chunk.facts.last_offset);
        let ascending = self.offsets.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending || self.offsets.first() != Some(&first) || self.offsets.last() != Some(&last) {
            return Err(format!("a chunk's offsets are not those from {first} to {last}"));
        }
        Ok(())
    }

    /// Gives back buffers that an unusually large chunk has left.
    pub(crate) fn shrink(&mut self) {
        let strings = [&mut self.keys, &mut self.values, &mut self.header_keys, &mut self.header_values];
        for data in strings.into_iter().map(|strings| &mut strings.data).chain([&mut self.numbers]) {
            data.shrink(KEPT_BYTES);
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.offsets.len()
    }

    /// True when every row belongs to that partition.
    pub(crate) fn all_of_partition(&self, partition: i32) -> bool {
        self.partitions.iter().all(|&value| value == i64::from(partition))
    }

    #[inline]
    pub(crate) fn offset(&self, row: usize) -> Offset {
        self.offsets[row]
    }

    /// Milliseconds, or −1.
    #[inline]
    pub(crate) fn timestamp(&self, row: usize) -> TimestampMs {
        self.timestamps[row]
    }

    #[inline]
    pub(crate) fn key(&self, row: usize) -> Option<&[u8]> {
        self.keys.get(row)
    }

    #[inline]
    pub(crate) fn value(&self, row: usize) -> Option<&[u8]> {
        self.values.get(row)
    }

    /// Keys are UTF-8.
    #[inline]
    pub(crate) fn headers(&self, row: usize) -> impl ExactSizeIterator<Item = (&[u8], Option<&[u8]>)> + Clone {
        let range = self.header_starts[row] as usize..self.header_starts[row + 1] as usize;
        range.map(|i| (self.header_keys.get(i).unwrap_or_default(), self.header_values.get(i)))
    }

    #[inline]
    pub(crate) fn facts(&self, row: usize) -> Facts {
        Facts {
            timestamp_type: narrow(self.timestamp_types[row]),
            leader_epoch: narrow(self.leader_epochs[row]),
            producer_id: self.producer_ids[row],
            producer_epoch: narrow(self.producer_epochs[row]),
        }
    }

    #[inline]
    pub(crate) fn sequence(&self, row: usize) -> i32 {
        narrow(self.sequences[row])
    }
}

#[allow(clippy::cast_possible_truncation, reason = "`decode_numbers` has brought the value into range")]
#[inline]
fn narrow(value: i64) -> i32 {
    value as i32
}

/// Compares the bytes of a chunk's pages with the checksum in its footer.
pub(crate) fn check_bytes(chunk: &Chunk, pages: &[Bytes]) -> Result<(), String> {
    let mut sum = Sum::new();
    for (range, page) in chunk.pages.iter().zip(pages) {
        if page.len() as u64 != range.end - range.start {
            return Err(format!("a page at byte {} has {} bytes", range.start, page.len()));
        }
        sum.update(page);
    }
    if pages.len() != chunk.pages.len() || sum.value() != chunk.facts.crc32c {
        let at = chunk.pages.first().map_or(0, |page| page.start);
        return Err(format!("the checksum of the chunk with its first page at byte {at} does not match"));
    }
    Ok(())
}

/// The pages of a chunk, by leaf column.
struct Source<'a> {
    footer: &'a Footer,
    chunk: &'a Chunk,
    pages: &'a [Bytes],
}

impl Source<'_> {
    fn rows(&self) -> usize {
        self.chunk.facts.rows as usize
    }

    fn open(&self, leaf: usize) -> Result<Page, String> {
        let facts = &self.chunk.facts;
        // No page of a chunk is larger than this: a value takes four bytes of length, and records count with twelve.
        let limit = facts.record_bytes.saturating_mul(4) + u64::from(facts.rows) * 64 + 4096;
        let (range, bytes): (&Range<u64>, &Bytes) = (&self.chunk.pages[leaf], &self.pages[leaf]);
        Page::open(range.start, bytes.clone(), self.footer.codecs[leaf], limit)
    }
}

/// Byte strings inside a page's data.
#[derive(Default)]
struct ByteStrings {
    data: Data,
    /// Position and length; the position [`NULL`] stands for null.
    spans: Vec<(u32, u32)>,
}

const NULL: u32 = u32::MAX;

impl ByteStrings {
    fn len(&self) -> usize {
        self.spans.len()
    }

    #[inline]
    fn get(&self, i: usize) -> Option<&[u8]> {
        let (at, len) = self.spans[i];
        if at == NULL {
            return None;
        }
        Some(&self.data.bytes()[at as usize..at as usize + len as usize])
    }

    /// Finds the PLAIN values from byte `at` of the data on, one for each `true`, which must fill the rest.
    fn split(&mut self, mut at: usize, present: impl Iterator<Item = bool>) -> Result<(), &'static str> {
        let bytes = self.data.bytes();
        self.spans.clear();
        for present in present {
            if !present {
                self.spans.push((NULL, 0));
                continue;
            }
            let len = bytes.get(at..).and_then(|rest| rest.first_chunk()).ok_or("a value's length is cut off")?;
            let len = u32::from_le_bytes(*len);
            at += 4;
            let position = u32::try_from(at).map_err(|_| "it has more than 4 GiB")?;
            at += len as usize;
            if at > bytes.len() {
                return Err("a value is cut off");
            }
            self.spans.push((position, len));
        }
        if at == bytes.len() { Ok(()) } else { Err("bytes follow its last value") }
    }

    fn check_utf8(&self) -> Result<(), &'static str> {
        let valid = (0..self.len()).all(|i| self.get(i).is_none_or(|key| std::str::from_utf8(key).is_ok()));
        if valid { Ok(()) } else { Err("a header key is not UTF-8") }
    }
}

impl Page {
    /// Decodes a nullable column of byte strings.
    fn byte_strings(
        &self,
        decompressor: &mut Decompressor,
        levels: &mut Vec<u8>,
        into: &mut ByteStrings,
    ) -> Result<(), String> {
        self.decompress(decompressor, &mut into.data)?;
        let mut bytes = into.data.bytes();
        let all = bytes.len();
        bits::levels(&mut bytes, 1, self.num_values(), levels).map_err(|e| self.error(e))?;
        let start = all - bytes.len();
        into.split(start, levels.iter().map(|&level| level == 1)).map_err(|e| self.error(e))
    }
}
