//! The bytes of one file, twice: as the process sees them (the page cache) and as the device holds them.
//!
//! ```text
//!   write ─▶ live pages, marked dirty ── sync ends ──▶ durable pages
//!                       └── sync fails ──▶ clean, but not durable: the next sync does not write them (Linux)
//! ```
//!
//! A power cut replaces the live pages by the durable ones. A torn cut first writes a random part of the dirty pages.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::Rng;

/// Bytes of a page.
pub(crate) const PAGE: u64 = 4096;
/// The same as a length.
const PAGE_LEN: usize = 4096;

type Page = Arc<[u8; PAGE_LEN]>;

/// One version of a file's bytes. Pages that are not there are zeros.
#[derive(Debug, Clone, Default)]
struct Image {
    pages: BTreeMap<u64, Page>,
    size: u64,
}

impl Image {
    /// Pages that became durable without the size that includes them read as zeros when the file grows again.
    fn drop_what_lies_behind_the_end(&mut self) {
        drop(self.pages.split_off(&self.size.div_ceil(PAGE)));
        if let Some(last) = self.pages.get_mut(&(self.size / PAGE)) {
            Arc::make_mut(last)[index(self.size % PAGE)..].fill(0);
        }
    }
}

/// The bytes of one file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pages {
    live: Image,
    durable: Image,
    dirty: BTreeSet<u64>,
    /// The size changed since the last sync began.
    size_dirty: bool,
    /// Syncs that have begun.
    syncs: u64,
    /// The sync that wrote a page, or the size, last: syncs of one file may end in another order than they began.
    page_synced: BTreeMap<u64, u64>,
    size_synced: u64,
}

/// The changes that a sync has to make durable, taken when it begins.
#[derive(Debug)]
pub(crate) struct Unsynced {
    number: u64,
    pages: Vec<(u64, Option<Page>)>,
    size: Option<u64>,
}

impl Pages {
    /// Length of the file in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.live.size
    }

    /// Bytes that the file takes on the device, in whole pages.
    pub(crate) fn allocated(&self) -> u64 {
        self.live.pages.len() as u64 * PAGE
    }

    /// Bytes that a write of `len` bytes at `offset` would add to [`Pages::allocated`].
    pub(crate) fn growth(&self, offset: u64, len: u64) -> u64 {
        let missing = |page: &u64| !self.live.pages.contains_key(page);
        pages_of(offset, len).filter(missing).count() as u64 * PAGE
    }

    /// Up to `len` bytes at `offset`; fewer at the end of the file.
    pub(crate) fn read(&self, offset: u64, len: u64) -> Vec<u8> {
        let end = offset.saturating_add(len).min(self.live.size);
        let mut bytes = Vec::new();
        let mut at = offset;
        while at < end {
            let (page, from) = (at / PAGE, at % PAGE);
            let to = PAGE.min(from + end - at);
            match self.live.pages.get(&page) {
                Some(data) => bytes.extend_from_slice(&data[index(from)..index(to)]),
                None => bytes.resize(bytes.len() + index(to - from), 0),
            }
            at += to - from;
        }
        bytes
    }

    /// Writes to the page cache.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        let mut rest = data;
        let mut at = offset;
        while !rest.is_empty() {
            let (page, from) = (at / PAGE, index(at % PAGE));
            let len = rest.len().min(index(PAGE) - from);
            let (now, later) = rest.split_at(len);
            let bytes = self.live.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_LEN]));
            Arc::make_mut(bytes)[from..from + len].copy_from_slice(now);
            self.dirty.insert(page);
            at += len as u64;
            rest = later;
        }
        self.grow(at);
    }

    /// Makes the file at least `size` bytes long.
    pub(crate) fn grow(&mut self, size: u64) {
        if size > self.live.size {
            self.live.size = size;
            self.size_dirty = true;
        }
    }

    /// Allocates pages without changing what reads answer.
    pub(crate) fn allocate(&mut self, offset: u64, len: u64) {
        for page in pages_of(offset, len) {
            self.live.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_LEN]));
            self.dirty.insert(page);
        }
    }

    /// Cuts or extends the file.
    pub(crate) fn set_size(&mut self, size: u64) {
        if size < self.live.size {
            self.dirty.extend(self.live.pages.range(size / PAGE..).map(|(page, _)| *page));
        }
        self.size_dirty |= size != self.live.size;
        self.live.size = size;
        self.live.drop_what_lies_behind_the_end();
    }

    /// A sync begins: it covers what was written so far, and nothing of what is written from now on.
    pub(crate) fn begin_sync(&mut self) -> Unsynced {
        let dirty = std::mem::take(&mut self.dirty);
        let pages = dirty.into_iter().map(|page| (page, self.live.pages.get(&page).cloned())).collect();
        let size = std::mem::take(&mut self.size_dirty).then_some(self.live.size);
        self.syncs += 1;
        Unsynced { number: self.syncs, pages, size }
    }

    /// The sync has ended with success. One that is dropped instead has failed: its pages are clean and not durable.
    pub(crate) fn end_sync(&mut self, unsynced: Unsynced) {
        for (number, page) in unsynced.pages {
            let synced = self.page_synced.entry(number).or_default();
            if *synced > unsynced.number {
                continue;
            }
            *synced = unsynced.number;
            match page {
                Some(page) => drop(self.durable.pages.insert(number, page)),
                None => drop(self.durable.pages.remove(&number)),
            }
        }
        if let Some(size) = unsynced.size.filter(|_| self.size_synced < unsynced.number) {
            self.durable.size = size;
            self.size_synced = unsynced.number;
        }
    }

    /// The power goes: only what is durable stays; with `torn`, also a random part of what was being written.
    pub(crate) fn cut_power(&mut self, torn: Option<&mut impl Rng>) {
        if let Some(rng) = torn {
            let unsynced = self.begin_sync();
            let kept: Vec<_> = unsynced.pages.into_iter().filter(|_| rng.random()).collect();
            let size = unsynced.size.filter(|_| rng.random());
            self.end_sync(Unsynced { number: unsynced.number, pages: kept, size });
        }
        self.durable.drop_what_lies_behind_the_end();
        self.live = self.durable.clone();
        self.dirty.clear();
        self.size_dirty = false;
    }

    /// Changes one bit of the file, in the page cache and on the device. False behind the end of the file.
    pub(crate) fn flip(&mut self, offset: u64, bit: u8) -> bool {
        let mut flipped = false;
        for image in [&mut self.live, &mut self.durable] {
            if offset < image.size
                && let Some(page) = image.pages.get_mut(&(offset / PAGE))
            {
                Arc::make_mut(page)[index(offset % PAGE)] ^= 1 << (bit % 8);
                flipped = true;
            }
        }
        flipped
    }
}

fn pages_of(offset: u64, len: u64) -> std::ops::Range<u64> {
    offset / PAGE..offset.saturating_add(len).div_ceil(PAGE)
}

/// An offset inside of a file that is held in memory.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn written(pages: &mut Pages, offset: u64, data: &[u8]) {
        pages.write(offset, data);
        let unsynced = pages.begin_sync();
        pages.end_sync(unsynced);
    }

    #[test]
    fn a_sync_covers_only_what_was_written_before_it_began() {
        let mut pages = Pages::default();
        pages.write(0, b"before");
        let unsynced = pages.begin_sync();
        pages.write(0, b"during");
        pages.end_sync(unsynced);
        assert_eq!(pages.read(0, 10), b"during");
        pages.cut_power(None::<&mut SmallRng>);
        assert_eq!(pages.read(0, 10), b"before");
    }

    #[test]
    fn pages_of_a_failed_sync_are_readable_until_the_power_goes() {
        let mut pages = Pages::default();
        written(&mut pages, 0, b"old");
        pages.write(0, b"new");
        drop(pages.begin_sync());
        let retried = pages.begin_sync();
        pages.end_sync(retried);
        assert_eq!(pages.read(0, 10), b"new");
        pages.cut_power(None::<&mut SmallRng>);
        assert_eq!(pages.read(0, 10), b"old");
    }

    #[test]
    fn a_flipped_bit_survives_a_power_cut() {
        let mut pages = Pages::default();
        written(&mut pages, 5000, &[0b100]);
        assert!(pages.flip(5000, 2));
        assert!(!pages.flip(5001, 2), "behind the end");
        pages.cut_power(None::<&mut SmallRng>);
        assert_eq!(pages.read(5000, 1), [0]);
    }

    #[test]
    fn of_two_syncs_the_one_that_began_later_counts() {
        let mut pages = Pages::default();
        pages.write(0, b"first");
        let first = pages.begin_sync();
        pages.write(0, b"later");
        let later = pages.begin_sync();
        pages.end_sync(later);
        pages.end_sync(first);
        pages.cut_power(None::<&mut SmallRng>);
        assert_eq!(pages.read(0, 10), b"later");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Write(u64, Vec<u8>),
        SetSize(u64),
        Sync,
        Cut,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let bytes = proptest::collection::vec(any::<u8>(), 1..6000);
        let step = prop_oneof![
            (0..20_000u64, bytes).prop_map(|(offset, data)| Step::Write(offset, data)),
            (0..20_000u64).prop_map(Step::SetSize),
            Just(Step::Sync),
            Just(Step::Cut),
        ];
        proptest::collection::vec(step, 1..30)
    }

    proptest! {
        /// A file in memory, and a copy of it at each sync, answer the same.
        #[test]
        fn a_file_is_what_was_written_and_after_a_cut_what_was_synced(steps in steps()) {
            let (mut pages, mut live, mut durable) = (Pages::default(), Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Step::Write(offset, data) => {
                        let (from, to) = (index(offset), index(offset) + data.len());
                        live.resize(live.len().max(to), 0);
                        live[from..to].copy_from_slice(&data);
                        pages.write(offset, &data);
                    }
                    Step::SetSize(size) => {
                        live.resize(index(size), 0);
                        pages.set_size(size);
                    }
                    Step::Sync => {
                        durable.clone_from(&live);
                        let unsynced = pages.begin_sync();
                        pages.end_sync(unsynced);
                    }
                    Step::Cut => {
                        live.clone_from(&durable);
                        pages.cut_power(None::<&mut SmallRng>);
                    }
                }
                prop_assert_eq!(pages.size(), live.len() as u64);
                prop_assert_eq!(pages.read(0, 1 << 20), live.clone());
            }
            let synced = pages.begin_sync();
            pages.end_sync(synced);
            pages.cut_power(Some(&mut SmallRng::seed_from_u64(1)));
            prop_assert_eq!(pages.read(0, 1 << 20), live);
        }
    }
}
