//! What uploads to a folder leave behind when the process dies: staged files `NAME#N`, which `object_store` (0.13.2)
//! renames into place at the end and hides from every listing. No name leads to them and no retry uses them again.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// What [`sweep`] found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Staged {
    /// Staged files that are too young to go: their upload may be under way.
    pub(crate) waiting: u64,
    /// Staged files that went.
    pub(crate) deleted: u64,
    /// Their bytes.
    pub(crate) deleted_bytes: u64,
}

/// Removes the staged files below `folder` that were last written longer than `grace` ago, and the folders that this
/// leaves empty. A folder that does not exist holds none.
///
/// # Errors
/// Those of the file system; what was removed until then was rightly removed.
pub(crate) fn sweep(folder: &Path, grace: Duration) -> io::Result<Staged> {
    let mut found = Staged::default();
    visit(folder, SystemTime::now().checked_sub(grace), &mut found)?;
    Ok(found)
}

fn visit(folder: &Path, written_before: Option<SystemTime>, found: &mut Staged) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let deleted_before = found.deleted;
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            visit(&entry.path(), written_before, found)?;
        } else if is_staged(&entry.file_name().to_string_lossy()) {
            take(&entry, written_before, found)?;
        }
    }
    if found.deleted > deleted_before {
        // Refused while there is anything in it.
        let _ = fs::remove_dir(folder);
    }
    Ok(())
}

fn take(entry: &fs::DirEntry, written_before: Option<SystemTime>, found: &mut Staged) -> io::Result<()> {
    let metadata = match entry.metadata() {
        // Its upload was completed meanwhile.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        metadata => metadata?,
    };
    let modified = metadata.modified()?;
    if written_before.is_none_or(|limit| modified > limit) {
        found.waiting += 1;
        return Ok(());
    }
    match fs::remove_file(entry.path()) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    tracing::info!(file = %entry.path().display(), "removed what an interrupted upload left behind");
    found.deleted += 1;
    found.deleted_bytes += metadata.len();
    Ok(())
}

/// True for `NAME#N`. Objects of ours have no `#` in their names: a topic's cannot.
fn is_staged(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_staged_files_that_are_old_enough_go() {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("topic/0/data");
        fs::create_dir_all(&data).unwrap();
        fs::create_dir_all(root.path().join("topic/1/data")).unwrap();
        for name in
            ["0/data/a.parquet", "0/data/a.parquet#1", "0/data/b.parquet#12", "0/data/c#x", "1/data/a.parquet#3"]
        {
            fs::write(root.path().join("topic").join(name), b"bytes").unwrap();
        }
        let found = sweep(root.path(), Duration::from_secs(3600)).unwrap();
        assert_eq!(found, Staged { waiting: 3, ..Staged::default() });
        let found = sweep(root.path(), Duration::ZERO).unwrap();
        assert_eq!(found, Staged { waiting: 0, deleted: 3, deleted_bytes: 15 });
        let mut left: Vec<_> = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["a.parquet", "c#x"]);
        assert!(!root.path().join("topic/1/data").exists(), "a folder that is empty now goes, too");
        assert_eq!(sweep(&root.path().join("none"), Duration::ZERO).unwrap(), Staged::default());
    }
}
