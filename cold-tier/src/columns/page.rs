//! One data page: its header in Thrift's compact protocol, and its body decompressed.

use bytes::Bytes;
use parquet::basic::Compression;

use super::bits::unsigned;

/// Fields of a struct may nest this deep.
const MAX_DEPTH: u32 = 8;
const DATA_PAGE: i64 = 0;

/// A page that has been opened.
#[derive(Debug)]
pub(super) struct Page {
    at: u64,
    body: Bytes,
    codec: Compression,
    uncompressed_len: usize,
    num_values: usize,
}

impl Page {
    /// Reads the header of the page at byte `at` of its object; `limit` bounds what it may decompress to.
    pub(super) fn open(at: u64, bytes: Bytes, codec: Compression, limit: u64) -> Result<Page, String> {
        let malformed = |what: &str| format!("the page at byte {at} is malformed: {what}");
        let mut rest = &bytes[..];
        let mut header = Header::default();
        header.read(&mut rest).ok_or_else(|| malformed("its header cannot be read"))?;
        let positive = |value: Option<i64>| value.and_then(|value| usize::try_from(value).ok());
        let (Some(uncompressed_len), Some(compressed_len), Some(num_values)) =
            (positive(header.uncompressed_len), positive(header.compressed_len), positive(header.num_values))
        else {
            return Err(malformed("its header lacks a size"));
        };
        if header.page_type != Some(DATA_PAGE) || compressed_len != rest.len() {
            return Err(malformed("it is no data page of that length"));
        }
        // More values than bits would be a lie that costs memory.
        if uncompressed_len as u64 > limit || num_values as u64 > limit {
            return Err(malformed("it claims to be larger than its chunk"));
        }
        let body = bytes.slice(bytes.len() - rest.len()..);
        Ok(Page { at, body, codec, uncompressed_len, num_values })
    }

    pub(super) fn num_values(&self) -> usize {
        self.num_values
    }

    pub(super) fn expect_values(&self, rows: usize) -> Result<(), String> {
        if self.num_values == rows { Ok(()) } else { Err(self.error("it holds another number of rows")) }
    }

    pub(super) fn error(&self, what: &str) -> String {
        format!("the page at byte {} is malformed: {what}", self.at)
    }

    /// Puts the page's body into `data`.
    pub(super) fn decompress(&self, decompressor: &mut Decompressor, data: &mut Data) -> Result<(), String> {
        let len = self.uncompressed_len;
        let failed = |e: &dyn std::fmt::Display| self.error(&format!("it does not decompress: {e}"));
        match self.codec {
            Compression::UNCOMPRESSED => {
                *data = Data::Shared(self.body.clone());
            }
            Compression::ZSTD(_) => {
                let buffer = data.buffer();
                buffer.clear();
                buffer.reserve_exact(len);
                // Writes at most the vector's capacity; a longer frame is an error.
                decompressor.zstd()?.decompress_to_buffer(&self.body, buffer).map_err(|e| failed(&e))?;
            }
            Compression::LZ4_RAW => {
                let buffer = data.buffer();
                buffer.resize(len, 0);
                let written = lz4_flex::block::decompress_into(&self.body, buffer).map_err(|e| failed(&e))?;
                buffer.truncate(written);
            }
            Compression::SNAPPY => {
                let buffer = data.buffer();
                buffer.resize(len, 0);
                let written = snap::raw::Decoder::new().decompress(&self.body, buffer).map_err(|e| failed(&e))?;
                buffer.truncate(written);
            }
            other => return Err(self.error(&format!("its codec {other} is not one that Firn writes"))),
        }
        if data.bytes().len() == len { Ok(()) } else { Err(self.error("it decompresses to another length")) }
    }
}

/// Decompression contexts that are made once.
#[derive(Default)]
pub(super) struct Decompressor(Option<zstd::bulk::Decompressor<'static>>);

impl Decompressor {
    fn zstd(&mut self) -> Result<&mut zstd::bulk::Decompressor<'static>, String> {
        match &mut self.0 {
            Some(context) => Ok(context),
            slot => {
                let context = zstd::bulk::Decompressor::new().map_err(|e| format!("zstd: {e}"))?;
                Ok(slot.insert(context))
            }
        }
    }
}

/// The body of a page: decompressed into a buffer of our own, or where it lay.
pub(super) enum Data {
    Owned(Vec<u8>),
    Shared(Bytes),
}

impl Default for Data {
    fn default() -> Self {
        Data::Owned(Vec::new())
    }
}

impl Data {
    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Data::Owned(bytes) => bytes,
            Data::Shared(bytes) => bytes,
        }
    }

    fn buffer(&mut self) -> &mut Vec<u8> {
        if let Data::Shared(_) = self {
            *self = Data::Owned(Vec::new());
        }
        match self {
            Data::Owned(buffer) => buffer,
            // Just replaced above.
            Data::Shared(_) => unreachable!("a shared body was replaced by a buffer"),
        }
    }

    pub(super) fn shrink(&mut self, kept_bytes: usize) {
        match self {
            Data::Owned(buffer) if buffer.capacity() <= kept_bytes => {}
            _ => *self = Data::default(),
        }
    }
}

/// The fields of a `PageHeader` that matter here.
#[derive(Debug, Default)]
struct Header {
    page_type: Option<i64>,
    uncompressed_len: Option<i64>,
    compressed_len: Option<i64>,
    num_values: Option<i64>,
}

/// Types of the compact protocol.
mod wire {
    pub(super) const TRUE: u8 = 1;
    pub(super) const FALSE: u8 = 2;
    pub(super) const BYTE: u8 = 3;
    pub(super) const I16: u8 = 4;
    pub(super) const I32: u8 = 5;
    pub(super) const I64: u8 = 6;
    pub(super) const DOUBLE: u8 = 7;
    pub(super) const BINARY: u8 = 8;
    pub(super) const LIST: u8 = 9;
    pub(super) const SET: u8 = 10;
    pub(super) const STRUCT: u8 = 12;
}

impl Header {
    fn read(&mut self, bytes: &mut &[u8]) -> Option<()> {
        let mut id = 0;
        while let Some(wire_type) = field(bytes, &mut id)? {
            match (id, wire_type) {
                (1, wire::I32) => self.page_type = Some(signed(bytes)?),
                (2, wire::I32) => self.uncompressed_len = Some(signed(bytes)?),
                (3, wire::I32) => self.compressed_len = Some(signed(bytes)?),
                (5, wire::STRUCT) => self.read_data_page(bytes)?,
                _ => skip(bytes, wire_type, 0)?,
            }
        }
        Some(())
    }

    fn read_data_page(&mut self, bytes: &mut &[u8]) -> Option<()> {
        let mut id = 0;
        while let Some(wire_type) = field(bytes, &mut id)? {
            match (id, wire_type) {
                (1, wire::I32) => self.num_values = Some(signed(bytes)?),
                _ => skip(bytes, wire_type, 1)?,
            }
        }
        Some(())
    }
}

/// The next field's type, its id in `id`; `Some(None)` ends the struct, `None` is malformed.
#[allow(clippy::option_option, reason = "the outer one is 'malformed', the inner one the end of the struct")]
fn field(bytes: &mut &[u8], id: &mut i64) -> Option<Option<u8>> {
    let head = byte(bytes)?;
    if head == 0 {
        return Some(None);
    }
    *id = match head >> 4 {
        0 => signed(bytes)?,
        delta => id.checked_add(i64::from(delta))?,
    };
    Some(Some(head & 0x0f))
}

fn skip(bytes: &mut &[u8], wire_type: u8, depth: u32) -> Option<()> {
    if depth > MAX_DEPTH {
        return None;
    }
    match wire_type {
        wire::TRUE | wire::FALSE => {}
        wire::BYTE => drop(byte(bytes)?),
        wire::I16 | wire::I32 | wire::I64 => drop(unsigned(bytes)?),
        wire::DOUBLE => *bytes = bytes.get(8..)?,
        wire::BINARY => {
            let len = usize::try_from(unsigned(bytes)?).ok()?;
            *bytes = bytes.get(len..)?;
        }
        wire::LIST | wire::SET => {
            let head = byte(bytes)?;
            let count = if head >> 4 == 15 { unsigned(bytes)? } else { u64::from(head >> 4) };
            // An element takes a byte at least, a boolean in a list too.
            if count > bytes.len() as u64 {
                return None;
            }
            for _ in 0..count {
                match head & 0x0f {
                    wire::TRUE | wire::FALSE => drop(byte(bytes)?),
                    element => skip(bytes, element, depth + 1)?,
                }
            }
        }
        wire::STRUCT => {
            let mut id = 0;
            while let Some(inner) = field(bytes, &mut id)? {
                skip(bytes, inner, depth + 1)?;
            }
        }
        _ => return None,
    }
    Some(())
}

fn byte(bytes: &mut &[u8]) -> Option<u8> {
    let (&first, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(first)
}

fn signed(bytes: &mut &[u8]) -> Option<i64> {
    model::batch::varint::read_i64(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_a_page_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let codecs = [Compression::UNCOMPRESSED, Compression::LZ4_RAW, Compression::ZSTD(Default::default()), Compression::SNAPPY];
            for codec in codecs {
                if let Ok(page) = Page::open(0, Bytes::from(bytes.clone()), codec, 1 << 20) {
                    let _ = page.decompress(&mut Decompressor::default(), &mut Data::default());
                }
            }
        }
    }

    #[test]
    fn a_page_that_claims_more_than_its_chunk_is_refused() {
        // type 0, uncompressed 1 GiB, compressed 1, data page header with one value.
        let mut bytes = vec![0x15, 0x00, 0x15];
        model::batch::varint::write_i64(&mut bytes, 1 << 30);
        bytes.extend([0x15, 0x02, 0x2c, 0x15, 0x02, 0x00, 0x00, 7]);
        let codec = Compression::UNCOMPRESSED;
        assert!(
            Page::open(0, Bytes::from(bytes.clone()), codec, 1 << 20).unwrap_err().contains("larger than its chunk")
        );
        assert!(Page::open(0, Bytes::from(bytes), codec, 1 << 31).is_ok());
    }
}
