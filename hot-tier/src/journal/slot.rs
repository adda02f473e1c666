//! A file of the journal: pre-written with zeros, used again and again.
//!
//! ```text
//!    0  4  magic "FJH1"
//!    4  4  CRC-32C of the next 24 bytes
//!    8  8  journal position (LSN) of the first entry
//!   16  8  journal position behind the last entry of the file before
//!   24  8  length of the file in bytes
//! 4096  …  entries
//! ```
//!
//! The header is synced before an entry is written. A file whose header is not intact is free, but for one changed bit,
//! which is put right. Overwriting blocks that exist makes `fdatasync` cheap: no metadata changes.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bytes::BufMut;

use super::entry::{ENTRY_HEADER_LEN, lsn_of};
use super::mend::flip_in;
use crate::disk::{Disk, DiskFile, Open, UNREADABLE_STEP, is_unreadable, read_around};
use crate::error::StorageError;
use crate::fields::{Fields, crc32c};

/// Bytes before the first entry.
pub(crate) const SLOT_HEADER_LEN: u64 = 4096;

const MAGIC: u32 = u32::from_be_bytes(*b"FJH1");
const ZEROS_STEP: usize = 1 << 20;
/// Zeros that one sync puts on the disk when others are waiting for their own syncs: below a millisecond's worth.
const GENTLE_STEP: usize = 512 << 10;
const HEADER_LEN: usize = 32;

/// One file of the journal.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) index: u32,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) bytes: u64,
    /// Position of its first entry; meaningless while the file is free.
    pub(crate) start_lsn: u64,
    /// Position behind the last entry of the file before it. The same, unless a restart lies between.
    pub(crate) after_lsn: u64,
}

pub(crate) fn slot_name(index: u32) -> String {
    format!("slot-{index:04}")
}

pub(crate) fn parse_slot_name(name: &str) -> Option<u32> {
    let index = name.strip_prefix("slot-")?.parse().ok()?;
    (slot_name(index) == name).then_some(index)
}

impl Slot {
    /// Makes a file of zeros whose blocks and name are durable. As long as `is_urgent` says no, it leaves the disk to
    /// others half of the time, and never keeps it busy for long.
    ///
    /// # Errors
    /// [`StorageError::Full`] among others; the half-made file is removed.
    pub(crate) fn prepared(
        disk: &dyn Disk,
        dir: &Path,
        (index, bytes): (u32, u64),
        is_urgent: &dyn Fn() -> bool,
    ) -> Result<Self, StorageError> {
        let fill = |file: &dyn DiskFile| fill_with_zeros(file, bytes, is_urgent).and_then(|()| file.sync_data());
        Self::make(disk, dir, (index, bytes), fill)
    }

    /// Makes a file at once: its blocks are reserved and read as zeros, so its first flushes also write the file's metadata.
    /// [`Slot::begin`] makes its length durable.
    ///
    /// # Errors
    /// As [`Slot::prepared`].
    pub(crate) fn allocated(disk: &dyn Disk, dir: &Path, (index, bytes): (u32, u64)) -> Result<Self, StorageError> {
        let reserve = |file: &dyn DiskFile| match file.allocate(bytes) {
            Err(e) if e.kind() == io::ErrorKind::Unsupported => fill_with_zeros(file, bytes, &|| true),
            done => done,
        };
        Self::make(disk, dir, (index, bytes), reserve)
    }

    fn make(
        disk: &dyn Disk,
        dir: &Path,
        (index, bytes): (u32, u64),
        fill: impl FnOnce(&dyn DiskFile) -> io::Result<()>,
    ) -> Result<Self, StorageError> {
        let path = dir.join(slot_name(index));
        let wrap = |e| StorageError::io("prepare the journal file", &path, e);
        let file = disk.open(&path, Open::Create).map_err(wrap)?;
        if let Err(e) = fill(&*file).and_then(|()| disk.sync_dir(dir)) {
            let _ = disk.remove_file(&path);
            return Err(wrap(e));
        }
        Ok(Slot { index, path, file, bytes, start_lsn: 0, after_lsn: 0 })
    }

    /// Opens a file that is there; first true when it is in use, then when a changed bit of its header was put right.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path, index: u32) -> Result<(Self, bool, bool), StorageError> {
        let path = dir.join(slot_name(index));
        let wrap = |e| StorageError::io("open the journal file", &path, e);
        let file = disk.open(&path, Open::Existing).map_err(wrap)?;
        let bytes = file.len().map_err(wrap)?;
        let mut header = Vec::new();
        let (_, is_unreadable) = read_around(&*file, &mut header, HEADER_LEN, 0).map_err(wrap)?;
        if is_unreadable && let Some(first_lsn) = first_lsn(&*file).map_err(wrap)? {
            let mut slot = Slot { index, path: path.clone(), file, bytes, start_lsn: 0, after_lsn: 0 };
            // A whole page, for which the disk need not read what is there.
            slot.file.write_at(&[IoSlice::new(&[0; UNREADABLE_STEP])], 0).map_err(wrap)?;
            // The file before may have ended earlier, at a restart: then the entries behind are not found.
            slot.begin(first_lsn, first_lsn).map_err(wrap)?;
            return Ok((slot, true, true));
        }
        let mut lsns = parse_header(&header, bytes);
        let mended = lsns.is_none().then(|| flip_in(&header, |header| parse_header(header, bytes).is_some())).flatten();
        if let Some(flip) = mended {
            header[flip.byte] ^= flip.mask;
            file.write_at(&[IoSlice::new(&header)], 0).map_err(wrap)?;
            lsns = parse_header(&header, bytes);
        }
        let (start_lsn, after_lsn) = lsns.unwrap_or_default();
        Ok((Slot { index, path, file, bytes, start_lsn, after_lsn }, lsns.is_some(), mended.is_some()))
    }

    /// Takes the file into use from `start_lsn` on, behind entries that end at `after_lsn`. Synced: if a power cut took
    /// the header and left entries, the next run would not know that their positions are used.
    pub(crate) fn begin(&mut self, start_lsn: u64, after_lsn: u64) -> io::Result<()> {
        let mut body = Vec::with_capacity(HEADER_LEN);
        body.put_u64(start_lsn);
        body.put_u64(after_lsn);
        body.put_u64(self.bytes);
        let mut header = Vec::with_capacity(HEADER_LEN);
        header.put_u32(MAGIC);
        header.put_u32(crc32c([&body[..]]));
        header.put_slice(&body);
        self.file.write_at(&[IoSlice::new(&header)], 0)?;
        self.file.sync_data()?;
        (self.start_lsn, self.after_lsn) = (start_lsn, after_lsn);
        Ok(())
    }

    /// True when the disk cannot read the page of a position, of which a write would have to keep a part.
    pub(crate) fn is_unreadable_at(&self, position: u64) -> bool {
        let page = position - position % UNREADABLE_STEP as u64;
        self.file.read_into(&mut Vec::new(), UNREADABLE_STEP, page).is_err_and(|e| is_unreadable(&e))
    }

    /// Bytes of entries that fit.
    pub(crate) fn capacity(&self) -> u64 {
        self.bytes.saturating_sub(SLOT_HEADER_LEN)
    }
}

/// The position of the first entry, as the entry itself says.
fn first_lsn(file: &dyn DiskFile) -> io::Result<Option<u64>> {
    let mut entry = Vec::new();
    read_around(file, &mut entry, ENTRY_HEADER_LEN, SLOT_HEADER_LEN)?;
    Ok(lsn_of(&entry))
}

fn parse_header(header: &[u8], file_len: u64) -> Option<(u64, u64)> {
    let mut fields = Fields::new(header);
    if fields.u32()? != MAGIC || fields.u32()? != crc32c([fields.rest()]) {
        return None;
    }
    let lsns = (fields.u64()?, fields.u64()?);
    (fields.u64()? == file_len).then_some(lsns)
}

fn fill_with_zeros(file: &dyn DiskFile, bytes: u64, is_urgent: &dyn Fn() -> bool) -> io::Result<()> {
    let zeros = vec![0; ZEROS_STEP];
    let mut position = 0;
    while position < bytes {
        let is_gentle = !is_urgent();
        let most = if is_gentle { GENTLE_STEP } else { ZEROS_STEP };
        let step = usize::try_from(bytes - position).unwrap_or(most).min(most);
        let start = Instant::now();
        file.write_at(&[IoSlice::new(&zeros[..step])], position)?;
        if is_gentle {
            file.sync_data()?;
            std::thread::sleep(start.elapsed());
        }
        position += step as u64;
    }
    file.set_len(bytes)
}
