//! A segment's sparse indexes, in Apache Kafka's layout (`docs/formats/hot-tier.md`). All numbers are big-endian.
//!
//! ```text
//! .index      4 bytes offset relative to the segment's base · 4 bytes position in the segment
//! .timeindex  8 bytes largest timestamp so far · 4 bytes relative offset
//! ```

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde::Serialize;

use super::Mode;
use crate::WrongUse;
use crate::output::{print_json, print_line, table, time};

/// Largest index that is read, in bytes.
const MAX_INDEX_BYTES: u64 = 256 << 20;

#[derive(Debug, Serialize)]
struct Index<E> {
    kind: &'static str,
    file: String,
    /// From the file's name; offsets are relative to 0 when it has none.
    base_offset: i64,
    entries: Vec<E>,
    /// What is wrong with it; a broker would build it anew.
    damage: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct OffsetEntry {
    offset: i64,
    position: u32,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct TimeEntry {
    timestamp: i64,
    offset: i64,
}

/// Shows an offset index.
pub(super) fn show_offsets(path: &Path, mode: Mode) -> anyhow::Result<()> {
    let base = base_offset(path);
    let index = read(path, "offset index", |bytes: [u8; 8]| {
        let [a, b, c, d, position @ ..] = bytes;
        OffsetEntry {
            offset: base + i64::from(u32::from_be_bytes([a, b, c, d])),
            position: u32::from_be_bytes(position),
        }
    })?;
    let ascends = |a: &OffsetEntry, b: &OffsetEntry| a.offset < b.offset && a.position < b.position;
    let row = |entry: &OffsetEntry| [entry.offset.to_string(), entry.position.to_string()];
    show(index, mode, ascends, (&[">offset", ">position"], row))
}

/// Shows a time index.
pub(super) fn show_times(path: &Path, mode: Mode) -> anyhow::Result<()> {
    let base = base_offset(path);
    let index = read(path, "time index", |bytes: [u8; 12]| {
        let [a, b, c, d, e, f, g, h, offset @ ..] = bytes;
        let timestamp = i64::from_be_bytes([a, b, c, d, e, f, g, h]);
        TimeEntry { timestamp, offset: base + i64::from(u32::from_be_bytes(offset)) }
    })?;
    let ascends = |a: &TimeEntry, b: &TimeEntry| a.timestamp < b.timestamp && a.offset < b.offset;
    let row = |entry: &TimeEntry| [time(entry.timestamp), entry.offset.to_string()];
    show(index, mode, ascends, (&[">timestamp", ">offset"], row))
}

fn base_offset(path: &Path) -> i64 {
    let digits = path.file_stem().and_then(|stem| stem.to_str());
    // Room is left for the largest relative offset.
    digits.and_then(|digits| digits.parse().ok()).filter(|base| (0..i64::MAX / 2).contains(base)).unwrap_or(0)
}

fn read<E, const LEN: usize>(
    path: &Path,
    kind: &'static str,
    entry: impl Fn([u8; LEN]) -> E,
) -> anyhow::Result<Index<E>> {
    let reading = || format!("cannot read {}", path.display());
    let len = fs::metadata(path).with_context(reading)?.len();
    if len > MAX_INDEX_BYTES {
        bail!("{} has {len} bytes, more than an index can have", path.display());
    }
    let bytes = fs::read(path).with_context(reading)?;
    let mut entries = Vec::with_capacity(bytes.len() / LEN);
    let mut rest = bytes.as_slice();
    while let Some((chunk, tail)) = rest.split_first_chunk::<LEN>() {
        entries.push(entry(*chunk));
        rest = tail;
    }
    let damage = (!rest.is_empty()).then(|| format!("{} bytes follow the last whole entry", rest.len()));
    Ok(Index { kind, file: path.display().to_string(), base_offset: base_offset(path), entries, damage })
}

fn show<E: Serialize>(
    mut index: Index<E>,
    mode: Mode,
    ascends: impl Fn(&E, &E) -> bool,
    (titles, row): (&[&str], impl Fn(&E) -> [String; 2]),
) -> anyhow::Result<()> {
    let Mode::Facts { json } = mode else {
        return Err(WrongUse(format!("{} is an index and holds no records", index.file)).into());
    };
    if let Some(at) = index.entries.windows(2).position(|pair| !ascends(&pair[0], &pair[1])) {
        index.damage = Some(format!("entry {} does not ascend", at + 1));
    }
    if json {
        print_json(&index)?;
    } else {
        print_line(format_args!("{} {}: {} entries", index.kind, index.file, index.entries.len()))?;
        let mut shown = table(titles);
        index.entries.iter().for_each(|entry| {
            shown.add_row(row(entry));
        });
        print_line(shown)?;
    }
    match index.damage {
        None => Ok(()),
        Some(damage) => bail!("{} is damaged: {damage}; a broker builds it anew", index.file),
    }
}
