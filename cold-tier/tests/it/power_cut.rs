//! The archive in a folder on a device that fails: whatever is committed must be there after a power cut.
//!
//! The device behaves as Linux does: a sync that fails marks a file's pages clean, so that the next sync of the same file
//! succeeds and writes nothing; entries of a folder stay to be written by a later sync of it; a power cut takes back all that
//! no sync has written.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cold_tier::store::durable::DurableLocal;
use cold_tier::{ArchiveError, ColdTier, Config};
use model::archive::ManifestPointer;
use object_store::PutPayload;
use parking_lot::Mutex;

use super::support::*;

/// Tries of a pass; the device recovers long before.
const PASSES: usize = 100;

/// A device under a folder.
#[derive(Debug, Default)]
struct Device(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    syncs: usize,
    /// Which syncs fail, counted from 0.
    failing: Vec<usize>,
    /// The first so many syncs take this long.
    slow: (usize, Duration),
    /// Kept open, so that no inode number is used twice.
    open: Vec<File>,
    durable_files: HashSet<u64>,
    lost_files: HashSet<u64>,
    durable_entries: HashMap<PathBuf, HashSet<(OsString, u64)>>,
}

impl Device {
    fn failing(failing: impl IntoIterator<Item = usize>) -> Arc<Device> {
        let failing = failing.into_iter().collect();
        Arc::new(Device(Mutex::new(State { failing, ..State::default() })))
    }

    fn folder(self: &Arc<Self>, root: &Path) -> DurableLocal {
        let device = Arc::clone(self);
        DurableLocal::with_sync(root, Arc::new(move |file: &File, path: &Path| device.sync(file, path))).unwrap()
    }

    fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        let (number, slow) = {
            let mut state = self.0.lock();
            state.syncs += 1;
            (state.syncs - 1, state.slow)
        };
        if number < slow.0 {
            std::thread::sleep(slow.1);
        }
        let mut state = self.0.lock();
        state.open.push(file.try_clone()?);
        let fails = state.failing.contains(&number);
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            let now: HashSet<_> = entries(path)?.into_iter().map(|(name, metadata)| (name, metadata.ino())).collect();
            let mut written = state.durable_entries.remove(path).unwrap_or_default();
            written.retain(|entry| now.contains(entry));
            if !fails {
                written = now;
            }
            state.durable_entries.insert(path.to_owned(), written);
        } else if fails {
            state.lost_files.insert(metadata.ino());
        } else if !state.lost_files.contains(&metadata.ino()) {
            state.durable_files.insert(metadata.ino());
        }
        if fails { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }

    /// Takes back everything below `folder` that no sync has written.
    fn cut_power(&self, folder: &Path) {
        let state = self.0.lock();
        state.take_back(&folder.canonicalize().unwrap());
    }
}

impl State {
    fn take_back(&self, folder: &Path) {
        let durable = self.durable_entries.get(folder);
        for (name, metadata) in entries(folder).unwrap() {
            let path = folder.join(&name);
            let is_durable = durable.is_some_and(|entries| entries.contains(&(name, metadata.ino())));
            match (is_durable, metadata.is_dir()) {
                (true, true) => self.take_back(&path),
                (true, false) if self.durable_files.contains(&metadata.ino()) => {}
                (true, false) => fs::write(&path, b"").unwrap(),
                (false, true) => fs::remove_dir_all(&path).unwrap(),
                (false, false) => fs::remove_file(&path).unwrap(),
            }
        }
    }
}

fn entries(folder: &Path) -> io::Result<Vec<(OsString, fs::Metadata)>> {
    fs::read_dir(folder)?.map(|entry| entry.and_then(|entry| Ok((entry.file_name(), entry.metadata()?)))).collect()
}

/// One pass as the archiver makes it: object, then manifest, each under new names.
async fn pass(
    tier: &ColdTier,
    previous: Option<&ManifestPointer>,
    built: &Built,
) -> Result<ManifestPointer, ArchiveError> {
    let object = tier.archive(std::slice::from_ref(&built.segment), options()).await?;
    tier.write_manifest(&partition(), &topic(), previous, append(vec![object])).await
}

/// Archives two segments, trying until each is committed; then the power fails, and another process reads.
async fn committed_records_survive(device: &Arc<Device>, config: &Config, built: &[Built; 2]) {
    let root = tempfile::tempdir().unwrap();
    let tier = ColdTier::with_folder(config.clone(), device.folder(root.path())).unwrap();
    let mut committed = None;
    for segment in built {
        let mut tries = 0;
        committed = loop {
            tries += 1;
            match pass(&tier, committed.as_ref(), segment).await {
                Ok(pointer) => break Some(pointer),
                Err(error) => assert!(tries < PASSES, "{error}"),
            }
        };
    }
    device.cut_power(root.path());
    let plan = {
        let state = device.0.lock();
        (state.failing.clone(), state.slow)
    };
    let patient = Config { call_timeout: Duration::from_secs(30), ..config.clone() };
    let restarted = ColdTier::with_folder(patient, DurableLocal::new(root.path()).unwrap()).unwrap();
    let read = read_all(&restarted, &committed.unwrap(), 0).await;
    let read = read.unwrap_or_else(|error| panic!("with syncs {plan:?} failing: {error}"));
    let all: Vec<_> = built.iter().flat_map(|built| built.seen.clone()).collect();
    assert_eq!(read, all, "with syncs {plan:?} failing");
}

#[tokio::test]
async fn what_is_committed_survives_a_power_cut_whichever_syncs_failed() {
    let built = [simple(0, 50, 100), simple(50, 50, 100)];
    let honest = Device::failing([]);
    committed_records_survive(&honest, &config(), &built).await;
    let syncs = honest.0.lock().syncs;
    assert!(syncs > 20, "objects, manifests and the folders above them: {syncs}");
    for failing in 0..syncs {
        committed_records_survive(&Device::failing([failing]), &config(), &built).await;
        if failing % 3 == 0 {
            committed_records_survive(&Device::failing([failing, failing + 1, failing + 3]), &config(), &built).await;
        }
    }
}

#[tokio::test]
async fn an_object_in_parts_survives_a_power_cut_whichever_syncs_failed() {
    let chunk_bytes = 1 << 20;
    let config = Config { upload_part_bytes: 5 << 20, chunk_bytes, row_group_bytes: 4 << 20, ..config() };
    let built = [in_parts(0), simple(60, 50, 100)];
    let honest = Device::failing([]);
    committed_records_survive(&honest, &config, &built).await;
    // The object's file, the folder that names it, and the root.
    for failing in [0, 1, 6] {
        committed_records_survive(&Device::failing([failing]), &config, &built).await;
    }
}

/// 60 records of which nothing can be compressed: two parts.
fn in_parts(base: i64) -> Built {
    let mut word = 1_u64;
    let mut noise = || {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        word.to_be_bytes()
    };
    let batches: Vec<_> =
        (0..60).map(|_| plain_batch(vec![record((0..14_000).flat_map(|_| noise()).collect::<Vec<u8>>())])).collect();
    segment(base, &batches, &[])
}

#[tokio::test]
async fn a_sync_that_outlasts_its_deadline_is_not_taken_for_done() {
    let built = [simple(0, 50, 100), simple(50, 50, 100)];
    let config = Config { call_timeout: Duration::from_millis(60), ..config() };
    for slow in [1, 2, 4, 9] {
        let device = Device::failing([]);
        device.0.lock().slow = (slow, Duration::from_millis(250));
        committed_records_survive(&device, &config, &built).await;
    }
}

#[tokio::test]
async fn a_failed_put_that_is_repeated_after_a_restart_is_durable_when_it_succeeds() {
    let root = tempfile::tempdir().unwrap();
    let bytes = Bytes::from_static(b"a marker, under a name that every start uses");
    for failing in 0..6 {
        let name = format!("marker-{failing}");
        let device = Device::failing(failing..failing + 4);
        let config = Config { call_retries: 0, ..config() };
        let tier = ColdTier::with_folder(config.clone(), device.folder(root.path())).unwrap();
        let first = tier.store().put_new(&name, PutPayload::from(bytes.clone())).await;
        device.0.lock().failing.clear();
        let restarted = ColdTier::with_folder(config, device.folder(root.path())).unwrap();
        restarted.store().put_new(&name, PutPayload::from(bytes.clone())).await.unwrap();
        device.cut_power(root.path());
        let read = fs::read(root.path().join(&name)).unwrap_or_default();
        assert_eq!(read, bytes, "after {first:?}");
    }
}
