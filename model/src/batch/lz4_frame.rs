//! Which LZ4 frames every consumer can read: Java's reader, alone among them, knows no blocks that build on earlier ones, and
//! wants the mark at a frame's end.
//!
//! Layout (LZ4 frame format 1.6): `u32` magic, `u8` flags, `u8` block size, `u64` content size where flagged, `u8` header
//! checksum; then blocks, each a `u32` length whose top bit means "not compressed", the bytes, and a `u32` checksum where
//! flagged; a length of 0 is the end mark. All numbers are little-endian. What follows the first frame is not read.

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
const INDEPENDENT_BLOCKS: u8 = 0x20;
const BLOCK_CHECKSUMS: u8 = 0x10;
const CONTENT_SIZE: u8 = 0x08;
/// A reserved bit, and that of a dictionary, which readers lack.
const UNKNOWN_FLAGS: u8 = 0x03;
const NOT_COMPRESSED: u32 = 1 << 31;

/// Says what keeps Java's reader from reading the frame at the front of `block`; whether the blocks themselves are sound is
/// the decoder's to tell.
pub(super) fn check_readable(block: &[u8]) -> Result<(), &'static str> {
    const CUT_OFF: &str = "the frame has no end mark";
    let rest = block.strip_prefix(&MAGIC).ok_or("it is no LZ4 frame")?;
    let (&flags, rest) = rest.split_first().ok_or(CUT_OFF)?;
    if flags & INDEPENDENT_BLOCKS == 0 {
        return Err("blocks of the frame depend on each other");
    }
    if flags & UNKNOWN_FLAGS != 0 {
        return Err("the frame needs a dictionary, or has an unknown flag");
    }
    let descriptor_bytes = if flags & CONTENT_SIZE == 0 { 2 } else { 10 };
    let checksum_bytes = if flags & BLOCK_CHECKSUMS == 0 { 0 } else { 4 };
    let mut rest = rest.get(descriptor_bytes..).ok_or(CUT_OFF)?;
    loop {
        let (length, blocks) = rest.split_first_chunk::<4>().ok_or(CUT_OFF)?;
        let length = u32::from_le_bytes(*length) & !NOT_COMPRESSED;
        if length == 0 {
            return Ok(());
        }
        rest = blocks.get(length as usize + checksum_bytes..).ok_or(CUT_OFF)?;
    }
}
