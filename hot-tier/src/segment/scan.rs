//! Walking over the batches of a segment file, in bounded memory, trusting nothing.
//!
//! A batch's offset and epoch lie outside its checksum: that offsets ascend is checked at every depth.

use std::io;
use std::ops::{ControlFlow, Range};

use model::Offset;
use model::batch::{BatchHeader, BatchView, HEADER_LEN};

use crate::disk::DiskFile;

/// Bytes that one step of a walk over whole batches reads; a longer batch is read by itself.
const BATCHES_STEP_BYTES: usize = 256 << 10;
/// Bytes that one step of a walk over headers reads: most walks begin where an index points and end soon.
const HEADERS_STEP_BYTES: usize = 8 << 10;

/// How much of each batch a walk looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Headers only; batches are skipped over by their length.
    Headers,
    /// The whole batch, with its checksum.
    Checksums,
}

/// A batch on the way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    pub(crate) header: &'a BatchHeader,
    pub(crate) position: u64,
}

/// Where a walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WalkEnd {
    /// First byte after the last intact batch, or of the batch at which the visitor stopped.
    pub(crate) position: u64,
    /// What is wrong there, when the walk did not reach its end.
    pub(crate) damage: Option<String>,
}

/// Shows `visit` each batch in `range` of the file, until it breaks off, the range ends, or a batch is not intact. None of
/// them may begin below `lowest`.
///
/// # Errors
/// Those of reading. Damage is no error here.
pub(crate) fn walk(
    file: &dyn DiskFile,
    range: Range<u64>,
    (depth, mut lowest): (Depth, Offset),
    mut visit: impl FnMut(Step<'_>) -> ControlFlow<()>,
) -> io::Result<WalkEnd> {
    let step = match depth {
        Depth::Headers => HEADERS_STEP_BYTES,
        Depth::Checksums => BATCHES_STEP_BYTES,
    };
    let mut window = Window { file, bytes: Vec::new(), start: range.start, end: range.end, step };
    let mut position = range.start;
    let damaged = |position, what: String| Ok(WalkEnd { position, damage: Some(what) });
    while position < range.end {
        let head = window.at(position, HEADER_LEN)?;
        let header = match BatchHeader::parse(head) {
            Ok(header) => header,
            Err(e) => return damaged(position, e.to_string()),
        };
        if header.base_offset < lowest || header.last_offset_delta < 0 {
            let (base, last) = (header.base_offset, header.last_offset());
            return damaged(
                position,
                format!("a batch of offsets {base} to {last} cannot follow one that ends at {lowest}"),
            );
        }
        let next = position + header.size_bytes() as u64;
        if next > range.end {
            let (needed, available) = (header.size_bytes(), range.end - position);
            return damaged(position, format!("a batch of {needed} bytes is cut off after {available}"));
        }
        if depth == Depth::Checksums {
            let bytes = window.at(position, header.size_bytes())?;
            if let Err(e) = BatchView::parse(bytes).and_then(|batch| batch.verify_crc()) {
                return damaged(position, e.to_string());
            }
        }
        if visit(Step { header: &header, position }).is_break() {
            return Ok(WalkEnd { position, damage: None });
        }
        position = next;
        lowest = header.next_offset();
    }
    Ok(WalkEnd { position, damage: None })
}

/// A moving piece of the file.
struct Window<'a> {
    file: &'a dyn DiskFile,
    bytes: Vec<u8>,
    start: u64,
    end: u64,
    step: usize,
}

impl Window<'_> {
    /// The bytes from `position` on: at least `needed` unless the range or the file ends before.
    fn at(&mut self, position: u64, needed: usize) -> io::Result<&[u8]> {
        let held = position.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let enough = held.is_some_and(|skip| skip.saturating_add(needed) <= self.bytes.len());
        if !enough {
            let left = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
            self.bytes.clear();
            self.start = position;
            self.file.read_into(&mut self.bytes, needed.max(self.step).min(left), position)?;
        }
        let skip = usize::try_from(position - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(skip..).unwrap_or_default())
    }
}
