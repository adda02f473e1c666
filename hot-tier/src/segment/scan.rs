//! Walking over the batches of a segment file, in bounded memory, trusting nothing.
//!
//! A batch's offset and epoch lie outside its checksum: that offsets ascend, and stay in the segment, is checked at every
//! depth.

use std::io;
use std::ops::{ControlFlow, Range};

use model::Offset;
use model::batch::{BatchHeader, BatchView, HEADER_LEN};

use crate::disk::{DiskFile, is_unreadable, read_around};

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

/// The part of a segment that a walk covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    /// Positions in the file.
    pub(crate) bytes: Range<u64>,
    /// Offsets that its batches may have.
    pub(crate) offsets: Range<Offset>,
}

/// A batch on the way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    pub(crate) header: &'a BatchHeader,
    pub(crate) position: u64,
}

/// Where a walk ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a walk that ended at damage has not visited the batches behind it"]
pub(crate) enum WalkEnd {
    /// The end of the span, or the batch at which the visitor stopped: all batches before it were visited.
    Reached,
    /// Bytes that are no intact batch: neither they nor the batches behind them were visited.
    Damaged(Damage),
}

/// Bytes of a segment that are not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Where they begin, and where the next intact batch does: the end of the span where none follows.
    pub(crate) bytes: Range<u64>,
    /// The offsets between the intact batches around them.
    pub(crate) offsets: Range<Offset>,
    /// What is wrong, in words.
    pub(crate) what: String,
    /// The disk cannot read them: unlike other damage, this is no write that a crash tore.
    pub(crate) is_unreadable: bool,
}

/// Shows `visit` each batch in the span of the file, until it breaks off, the span ends, or a batch is not intact. A place
/// that the disk cannot read is damage.
///
/// # Errors
/// Those of reading. Damage is no error here.
pub(crate) fn walk(
    file: &dyn DiskFile,
    span: Span,
    depth: Depth,
    mut visit: impl FnMut(Step<'_>) -> ControlFlow<()>,
) -> io::Result<WalkEnd> {
    let Span { bytes, offsets } = span;
    let step = match depth {
        Depth::Headers => HEADERS_STEP_BYTES,
        Depth::Checksums => BATCHES_STEP_BYTES,
    };
    let mut window = Window { file, bytes: Vec::new(), start: bytes.start, end: bytes.end, step };
    let (mut position, mut lowest) = (bytes.start, offsets.start);
    while position < bytes.end {
        let (what, is_unreadable) = match window.batch(position, lowest..offsets.end, depth) {
            Ok(header) => {
                if visit(Step { header: &header, position }).is_break() {
                    break;
                }
                position += header.size_bytes() as u64;
                lowest = header.next_offset();
                continue;
            }
            Err(Unfit::Damaged(what)) => (what, false),
            Err(Unfit::Io(e)) if is_unreadable(&e) => (unreadable(&e), true),
            Err(Unfit::Io(e)) => return Err(e),
        };
        let damage = Damage { bytes: position..bytes.end, offsets: lowest..offsets.end, what, is_unreadable };
        return Ok(WalkEnd::Damaged(damage));
    }
    Ok(WalkEnd::Reached)
}

/// As [`walk`], and behind damage it continues at the next intact batch. Answers all damage on the way.
///
/// # Errors
/// Those of reading.
pub(crate) fn walk_past_damage(
    file: &dyn DiskFile,
    span: Span,
    depth: Depth,
    mut visit: impl FnMut(Step<'_>) -> ControlFlow<()>,
) -> io::Result<Vec<Damage>> {
    let mut found = Vec::new();
    let mut rest = span;
    loop {
        let end = walk(file, rest.clone(), depth, &mut visit)?;
        let WalkEnd::Damaged(mut damage) = end else { return Ok(found) };
        let next = next_intact(file, &damage)?;
        if let Some((position, header)) = next {
            rest = Span { bytes: position..damage.bytes.end, offsets: header.base_offset..damage.offsets.end };
            damage.bytes.end = position;
            damage.offsets.end = header.base_offset;
        }
        found.push(damage);
        if next.is_none() {
            return Ok(found);
        }
    }
}

/// The first batch behind damage that is certainly one: where the damaged batch says that it ends, or anywhere else if all
/// that follows are batches too. A record may hold bytes that look like a batch.
fn next_intact(file: &dyn DiskFile, damage: &Damage) -> io::Result<Option<(u64, BatchHeader)>> {
    let Damage { bytes: Range { start, end }, offsets, .. } = damage;
    let mut window = Window { file, bytes: Vec::new(), start: *start, end: *end, step: BATCHES_STEP_BYTES };
    let mut intact = |position| match window.batch(position, offsets.clone(), Depth::Checksums) {
        Ok(header) => Ok(Some((position, header))),
        Err(Unfit::Io(e)) if !is_unreadable(&e) => Err(e),
        Err(_) => Ok(None),
    };
    let mut head = Vec::with_capacity(HEADER_LEN);
    let is_read = file.read_into(&mut head, HEADER_LEN, *start).is_ok();
    if is_read
        && let Ok(header) = BatchHeader::parse(&head)
        && let Some(found) = intact(start.saturating_add(header.size_bytes() as u64))?
    {
        return Ok(Some(found));
    }
    let mut from = start + 1;
    while let Some(candidate) = next_header(file, from..*end, offsets)? {
        let rest = Span { bytes: candidate..*end, offsets: offsets.clone() };
        if let Some(found) = intact(candidate)?
            && walk(file, rest, Depth::Headers, |_| ControlFlow::Continue(()))? == WalkEnd::Reached
        {
            return Ok(Some(found));
        }
        from = candidate + 1;
    }
    Ok(None)
}

/// The first position that holds what could be a batch's header.
fn next_header(file: &dyn DiskFile, bytes: Range<u64>, offsets: &Range<Offset>) -> io::Result<Option<u64>> {
    let mut position = bytes.start;
    let mut held = Vec::with_capacity(BATCHES_STEP_BYTES);
    while position + HEADER_LEN as u64 <= bytes.end {
        held.clear();
        let left = usize::try_from(bytes.end - position).unwrap_or(usize::MAX);
        read_around(file, &mut held, left.min(BATCHES_STEP_BYTES), position)?;
        if held.len() < HEADER_LEN {
            return Ok(None);
        }
        let begins = |at: &[u8]| BatchHeader::parse(at).is_ok_and(|header| fits(&header, offsets));
        if let Some(skip) = held.windows(HEADER_LEN).position(begins) {
            return Ok(Some(position + skip as u64));
        }
        position += (held.len() - HEADER_LEN + 1) as u64;
    }
    Ok(None)
}

fn fits(header: &BatchHeader, offsets: &Range<Offset>) -> bool {
    header.last_offset_delta >= 0 && header.base_offset >= offsets.start && header.next_offset() <= offsets.end
}

/// What is wrong with a place that the disk cannot read, in words.
pub(crate) fn unreadable(error: &io::Error) -> String {
    format!("the disk cannot read it: {error}")
}

/// Why there is no batch at a position.
enum Unfit {
    Damaged(String),
    Io(io::Error),
}

impl From<io::Error> for Unfit {
    fn from(error: io::Error) -> Self {
        Unfit::Io(error)
    }
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
    /// The batch at `position`, whose offsets must lie in `offsets`.
    fn batch(&mut self, position: u64, offsets: Range<Offset>, depth: Depth) -> Result<BatchHeader, Unfit> {
        let damaged = |what: String| Err(Unfit::Damaged(what));
        let header = match BatchHeader::parse(self.at(position, HEADER_LEN)?) {
            Ok(header) => header,
            Err(e) => return damaged(e.to_string()),
        };
        let (base, last, size) = (header.base_offset, header.last_offset(), header.size_bytes());
        if !fits(&header, &offsets) {
            let Range { start, end } = offsets;
            return damaged(format!("a batch of offsets {base} to {last} lies outside {start} to {end}"));
        }
        let next = position + size as u64;
        if next > self.end {
            return damaged(format!("a batch of {size} bytes is cut off after {}", self.end - position));
        }
        if depth == Depth::Checksums
            && let Err(e) = BatchView::parse(self.at(position, size)?).and_then(|batch| batch.verify_crc())
        {
            return damaged(e.to_string());
        }
        // Behind a gap the offset itself may be wrong, which no checksum covers: the batch that follows tells.
        if base > offsets.start
            && next < self.end
            && let Ok(follower) = self.at(next, HEADER_LEN)
            && let Ok(follower) = BatchHeader::parse(follower)
            && follower.base_offset <= last
        {
            let follows = follower.base_offset;
            return damaged(format!("a batch of offsets {base} to {last} is followed by offset {follows}"));
        }
        Ok(header)
    }

    /// The bytes from `position` on: at least `needed` unless the range or the file ends before.
    fn at(&mut self, position: u64, needed: usize) -> io::Result<&[u8]> {
        let held = position.checked_sub(self.start).and_then(|skip| usize::try_from(skip).ok());
        let enough = held.is_some_and(|skip| skip.saturating_add(needed) <= self.bytes.len());
        if !enough {
            let left = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
            self.bytes.clear();
            self.start = position;
            match self.file.read_into(&mut self.bytes, needed.max(self.step).min(left), position) {
                // The place that cannot be read may lie behind what is needed.
                Err(e) if is_unreadable(&e) && needed < self.step => {
                    self.bytes.clear();
                    self.file.read_into(&mut self.bytes, needed.min(left), position)?;
                }
                read => drop(read?),
            }
        }
        let skip = usize::try_from(position - self.start).unwrap_or(usize::MAX);
        Ok(self.bytes.get(skip..).unwrap_or_default())
    }
}
