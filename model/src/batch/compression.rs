//! The five codecs of the record batch, each with a bound on what it may decompress to.
//!
//! A compressed batch is one block: everything behind the header. Snappy blocks are either raw or in the framing that
//! Java's `SnappyOutputStream` writes (magic, two versions, then length-prefixed raw blocks); both occur in the wild.

use std::cell::RefCell;
use std::fmt;
use std::io::{Read, Write};

use serde::{Deserialize, Serialize};
use zstd::stream::raw::{Decoder as ZstdDecoder, InBuffer, Operation, OutBuffer};

use super::{BatchError, lz4_frame};

/// Codec of a batch's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not compressed.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy in Java's stream framing.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard (KIP-110).
    Zstd,
}

impl Compression {
    /// Every codec, in the order of their codes.
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// The codec with this attribute code.
    ///
    /// # Errors
    /// [`BatchError::Codec`] for a code that does not exist.
    pub fn from_code(code: i16) -> Result<Self, BatchError> {
        usize::try_from(code).ok().and_then(|i| Self::ALL.get(i).copied()).ok_or(BatchError::Codec(code))
    }

    /// The attribute code.
    #[must_use]
    pub fn code(self) -> i16 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    /// The codec's name in settings such as `compression.type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// Checks what the consumers' decoders demand of a compressed `block` beyond our own. What is stored is read without it.
    ///
    /// # Errors
    /// [`BatchError::Decompress`] when some clients could not read the block.
    pub(super) fn check_readable(self, block: &[u8]) -> Result<(), BatchError> {
        match self {
            Compression::Lz4 => lz4_frame::check_readable(block)
                .map_err(|reason| BatchError::Decompress { codec: self, reason: reason.to_owned() }),
            // A table test of the client tests holds the other codecs' decoders against Kafka's.
            Compression::None | Compression::Gzip | Compression::Snappy | Compression::Zstd => Ok(()),
        }
    }

    /// The codec of that name (`uncompressed` is Kafka's other word for `none`).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = if name == "uncompressed" { "none" } else { name };
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A reusable place for decompressed records, with a limit on its size.
#[derive(Debug, Default)]
pub struct RecordsBuffer {
    /// Grows by doubling up to one byte over the limit; only the front is filled.
    bytes: Vec<u8>,
    limit_bytes: usize,
}

/// First size of a buffer.
const FIRST_BYTES: usize = 16 << 10;

impl RecordsBuffer {
    /// An empty buffer that will hold at most `limit_bytes`.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Self {
        RecordsBuffer { bytes: Vec::new(), limit_bytes }
    }

    /// The same buffer with another limit.
    pub fn set_limit(&mut self, limit_bytes: usize) {
        self.limit_bytes = limit_bytes;
    }

    /// Bytes that the buffer holds on to between uses.
    #[must_use]
    pub fn capacity_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives back memory above `capacity_bytes`.
    pub fn shrink_to(&mut self, capacity_bytes: usize) {
        self.bytes.truncate(capacity_bytes);
        self.bytes.shrink_to(capacity_bytes);
    }

    /// Replaces the content by the decompressed `block`.
    ///
    /// # Errors
    /// [`BatchError::Decompress`] when the block is damaged, [`BatchError::TooLarge`] when it exceeds the limit.
    pub(super) fn fill(&mut self, codec: Compression, block: &[u8]) -> Result<&[u8], BatchError> {
        let len = match codec {
            Compression::None => self.copy(block)?,
            Compression::Gzip => self.read_all(codec, flate2::read::MultiGzDecoder::new(block))?,
            Compression::Snappy => self.fill_snappy(block)?,
            Compression::Lz4 => self.read_all(codec, lz4_flex::frame::FrameDecoder::new(block))?,
            Compression::Zstd => self.fill_zstd(block)?,
        };
        Ok(&self.bytes[..len])
    }

    fn too_large(&self) -> BatchError {
        BatchError::TooLarge { limit: self.limit_bytes }
    }

    /// Room behind the first `filled` bytes, at least one byte: doubles, but never passes the limit by more than that
    /// byte, by which a larger content shows itself.
    fn room(&mut self, filled: usize) -> Result<&mut [u8], BatchError> {
        if filled > self.limit_bytes {
            return Err(self.too_large());
        }
        if filled == self.bytes.len() {
            let grown = filled.saturating_mul(2).max(FIRST_BYTES).min(self.limit_bytes.saturating_add(1));
            // Without this, the vector would double once more for the last byte.
            self.bytes.reserve_exact(grown - filled);
            self.bytes.resize(grown, 0);
        }
        Ok(&mut self.bytes[filled..])
    }

    fn copy(&mut self, block: &[u8]) -> Result<usize, BatchError> {
        if block.len() > self.limit_bytes {
            return Err(self.too_large());
        }
        self.bytes.clear();
        self.bytes.extend_from_slice(block);
        Ok(block.len())
    }

    fn read_all(&mut self, codec: Compression, mut from: impl Read) -> Result<usize, BatchError> {
        let mut filled = 0;
        loop {
            match from.read(self.room(filled)?) {
                Ok(0) => return Ok(filled),
                Ok(read) => filled += read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(BatchError::Decompress { codec, reason: e.to_string() }),
            }
        }
    }

    fn fill_snappy(&mut self, block: &[u8]) -> Result<usize, BatchError> {
        let Some(mut rest) = block.strip_prefix(&XERIAL_HEADER[..8]) else { return self.append_raw_snappy(0, block) };
        rest = rest.get(8..).ok_or_else(|| snappy_error("the stream header is cut off"))?;
        let mut filled = 0;
        while !rest.is_empty() {
            let (len, tail) = rest.split_first_chunk::<4>().ok_or_else(|| snappy_error("a block length is cut off"))?;
            let len = u32::from_be_bytes(*len) as usize;
            if len > tail.len() {
                return Err(snappy_error("a block is cut off"));
            }
            let (raw, next) = tail.split_at(len);
            filled = self.append_raw_snappy(filled, raw)?;
            rest = next;
        }
        Ok(filled)
    }

    /// Decompresses one block behind the first `filled` bytes; answers how many are filled then.
    fn append_raw_snappy(&mut self, filled: usize, raw: &[u8]) -> Result<usize, BatchError> {
        let len = snap::raw::decompress_len(raw).map_err(|e| snappy_error(&e.to_string()))?;
        if len > self.limit_bytes.saturating_sub(filled) {
            return Err(self.too_large());
        }
        // Snappy expands 64-fold at most: a larger claim is a lie, and no memory is given for it.
        if len > raw.len().saturating_mul(64) {
            return Err(snappy_error("the block claims more than its bytes can hold"));
        }
        if self.bytes.len() < filled + len {
            self.bytes.resize(filled + len, 0);
        }
        let out = &mut self.bytes[filled..filled + len];
        let written = snap::raw::Decoder::new().decompress(raw, out).map_err(|e| snappy_error(&e.to_string()))?;
        Ok(filled + written)
    }

    fn fill_zstd(&mut self, block: &[u8]) -> Result<usize, BatchError> {
        ZSTD.with_borrow_mut(|slot| {
            let decoder = match slot {
                Some(decoder) => decoder,
                None => slot.insert(ZstdDecoder::new().map_err(|e| zstd_error(&e))?),
            };
            decoder.reinit().map_err(|e| zstd_error(&e))?;
            self.run_zstd(decoder, block)
        })
    }

    fn run_zstd(&mut self, decoder: &mut ZstdDecoder<'_>, block: &[u8]) -> Result<usize, BatchError> {
        let mut input = InBuffer::around(block);
        let mut filled = 0;
        loop {
            let room = self.room(filled)?;
            let room_bytes = room.len();
            let mut output = OutBuffer::around(room);
            let hint = decoder.run(&mut input, &mut output).map_err(|e| zstd_error(&e))?;
            let written = output.pos();
            filled += written;
            if input.pos() < block.len() {
                continue;
            }
            if hint == 0 {
                return if filled > self.limit_bytes { Err(self.too_large()) } else { Ok(filled) };
            }
            if written == 0 && room_bytes > 0 {
                let reason = "the frame is cut off".to_owned();
                return Err(BatchError::Decompress { codec: Compression::Zstd, reason });
            }
        }
    }
}

fn zstd_error(error: &std::io::Error) -> BatchError {
    BatchError::Decompress { codec: Compression::Zstd, reason: error.to_string() }
}

thread_local! {
    /// Setting up a zstd context costs more than decompressing a small batch: one is kept per thread.
    static ZSTD: RefCell<Option<ZstdDecoder<'static>>> = const { RefCell::new(None) };
}

/// Magic, version 1, oldest compatible version 1.
const XERIAL_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
const ZSTD_LEVEL: i32 = 3;

fn snappy_error(reason: &str) -> BatchError {
    BatchError::Decompress { codec: Compression::Snappy, reason: reason.to_owned() }
}

/// Appends the compressed `records` to `out`.
///
/// # Errors
/// What the codec's library says; writing to memory itself cannot fail.
pub fn compress(codec: Compression, records: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    match codec {
        Compression::None => out.extend_from_slice(records),
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
            encoder.write_all(records)?;
            encoder.finish()?;
        }
        Compression::Snappy => compress_snappy(records, out)?,
        Compression::Lz4 => {
            let info = lz4_flex::frame::FrameInfo::new()
                .block_mode(lz4_flex::frame::BlockMode::Independent)
                .block_size(lz4_flex::frame::BlockSize::Max64KB);
            let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, out);
            encoder.write_all(records)?;
            encoder.finish().map_err(std::io::Error::other)?;
        }
        Compression::Zstd => zstd::stream::copy_encode(records, out, ZSTD_LEVEL)?,
    }
    Ok(())
}

fn compress_snappy(records: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    out.extend_from_slice(&XERIAL_HEADER);
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(XERIAL_BLOCK_BYTES) {
        let packed = encoder.compress_vec(block)?;
        // A 32 KiB block never packs to 4 GiB.
        out.extend_from_slice(&u32::try_from(packed.len()).map_err(std::io::Error::other)?.to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COMPRESSED: [Compression; 4] = [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let zeros = vec![0; 4 << 20];
        for codec in COMPRESSED {
            let mut block = Vec::new();
            compress(codec, &zeros, &mut block).unwrap();
            let mut small = RecordsBuffer::new(1 << 20);
            assert_eq!(small.fill(codec, &block), Err(BatchError::TooLarge { limit: 1 << 20 }), "{codec}");
            assert!(small.capacity_bytes() <= 3 << 20, "{codec} took {} bytes", small.capacity_bytes());
            let mut exact = RecordsBuffer::new(zeros.len());
            assert_eq!(exact.fill(codec, &block).unwrap(), zeros, "{codec}");
        }
    }

    #[test]
    fn a_block_that_is_cut_off_is_an_error() {
        let records = b"the same words again and again, the same words again and again".repeat(40);
        for codec in COMPRESSED {
            let mut block = Vec::new();
            compress(codec, &records, &mut block).unwrap();
            let cut = &block[..block.len() * 2 / 3];
            let mut buffer = RecordsBuffer::new(1 << 20);
            assert!(buffer.fill(codec, cut).is_err(), "{codec} took a cut block");
        }
    }

    proptest! {
        #[test]
        fn records_survive_every_codec(records in proptest::collection::vec(any::<u8>(), 0..100_000)) {
            for codec in Compression::ALL {
                let mut block = Vec::new();
                compress(codec, &records, &mut block).unwrap();
                let mut buffer = RecordsBuffer::new(100_000);
                prop_assert_eq!(buffer.fill(codec, &block).unwrap(), &records[..]);
            }
        }

        #[test]
        fn random_bytes_never_panic_a_codec(block in proptest::collection::vec(any::<u8>(), 0..2_000)) {
            for codec in Compression::ALL {
                let _ = RecordsBuffer::new(1 << 16).fill(codec, &block);
            }
        }
    }
}
