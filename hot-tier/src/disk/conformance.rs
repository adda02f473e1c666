//! What every form of the disk must do.

use std::io::{ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;

use super::faulty::FaultyDisk;
use super::hooked::HookedDisk;
use super::memory::MemoryDisk;
use super::{Disk, Durability, LocalDisk, Open, read_file, replace_file};

fn on_every_disk(check: impl Fn(&dyn Disk, &Path)) {
    let folder = tempfile::tempdir().unwrap();
    check(&LocalDisk, folder.path());
    check(&MemoryDisk::default(), Path::new("/data"));
    check(&FaultyDisk::new(Arc::new(MemoryDisk::default())).0, Path::new("/data"));
    check(&HookedDisk::new(Arc::new(MemoryDisk::default()), Arc::new(|_, _| {})), Path::new("/data"));
}

#[test]
fn bytes_are_read_where_they_were_written() {
    on_every_disk(|disk, root| {
        disk.create_dir_all(root).unwrap();
        let file = disk.open(&root.join("f"), Open::Create).unwrap();
        file.write_at(&[IoSlice::new(b"abc"), IoSlice::new(b""), IoSlice::new(b"def")], 2).unwrap();
        assert_eq!(file.len().unwrap(), 8);
        let mut bytes = b"x".to_vec();
        assert_eq!(file.read_into(&mut bytes, 100, 1).unwrap(), 7);
        assert_eq!(bytes, b"x\0abcdef");
        assert_eq!(file.read_into(&mut bytes, 2, 3).unwrap(), 2);
        assert_eq!(&bytes[8..], b"bc");
        assert_eq!(file.read_into(&mut bytes, 2, 100).unwrap(), 0);
        file.set_len(4).unwrap();
        file.sync_data().unwrap();
        assert_eq!(read_file(disk, &root.join("f"), 4).unwrap(), b"\0\0ab");
        assert_eq!(read_file(disk, &root.join("f"), 3).unwrap_err().kind(), ErrorKind::InvalidData);
    });
}

#[test]
fn more_slices_than_one_call_takes_are_written() {
    on_every_disk(|disk, root| {
        disk.create_dir_all(root).unwrap();
        let file = disk.open(&root.join("f"), Open::Create).unwrap();
        let slices: Vec<IoSlice<'_>> = (0..3000).map(|_| IoSlice::new(b"ab")).collect();
        file.write_at(&slices, 0).unwrap();
        assert_eq!(read_file(disk, &root.join("f"), 6000).unwrap(), b"ab".repeat(3000));
    });
}

#[test]
fn an_open_file_outlives_its_name() {
    on_every_disk(|disk, root| {
        disk.create_dir_all(root).unwrap();
        let file = disk.open(&root.join("f"), Open::Create).unwrap();
        file.write_at(&[IoSlice::new(b"abc")], 0).unwrap();
        disk.rename(&root.join("f"), &root.join("g")).unwrap();
        disk.remove_file(&root.join("g")).unwrap();
        let mut bytes = Vec::new();
        file.read_into(&mut bytes, 3, 0).unwrap();
        assert_eq!(bytes, b"abc");
        assert_eq!(disk.open(&root.join("f"), Open::Existing).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(disk.list(root).unwrap(), []);
    });
}

#[test]
fn folders_are_listed_and_removed_when_empty() {
    on_every_disk(|disk, root| {
        disk.create_dir_all(&root.join("a/b")).unwrap();
        disk.create_dir_all(&root.join("a/b")).unwrap();
        disk.open(&root.join("a/f"), Open::Create).unwrap();
        disk.sync_dir(&root.join("a")).unwrap();
        let mut names: Vec<_> = disk.list(&root.join("a")).unwrap().into_iter().map(|e| (e.name, e.is_dir)).collect();
        names.sort();
        assert_eq!(names, [("b".to_owned(), true), ("f".to_owned(), false)]);
        assert!(disk.remove_dir(&root.join("a")).is_err());
        disk.remove_dir(&root.join("a/b")).unwrap();
        assert_eq!(disk.list(&root.join("nowhere")).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_folder_does_not_take_the_name_of_one_that_holds_files() {
    on_every_disk(|disk, root| {
        disk.create_dir_all(&root.join("a")).unwrap();
        disk.create_dir_all(&root.join("b")).unwrap();
        disk.open(&root.join("b/f"), Open::Create).unwrap();
        assert_eq!(disk.rename(&root.join("a"), &root.join("b")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
        disk.remove_file(&root.join("b/f")).unwrap();
        disk.rename(&root.join("a"), &root.join("b")).unwrap();
        assert_eq!(disk.list(root).unwrap().len(), 1);
    });
}

#[test]
fn a_file_is_extended_with_zeros_without_writing_them() {
    on_every_disk(|disk, root| {
        disk.create_dir_all(root).unwrap();
        let file = disk.open(&root.join("f"), Open::Create).unwrap();
        file.write_at(&[IoSlice::new(b"abc")], 0).unwrap();
        match file.allocate(6) {
            Err(e) => assert_eq!(e.kind(), ErrorKind::Unsupported),
            Ok(()) => assert_eq!(read_file(disk, &root.join("f"), 100).unwrap(), b"abc\0\0\0"),
        }
    });
}

#[test]
fn a_file_is_replaced_as_a_whole() {
    on_every_disk(|disk, root| {
        disk.create_dir_all(root).unwrap();
        replace_file(disk, &root.join("f"), b"a longer text", Durability::Synced).unwrap();
        replace_file(disk, &root.join("f"), b"short", Durability::Rebuildable).unwrap();
        assert_eq!(read_file(disk, &root.join("f"), 100).unwrap(), b"short");
        assert_eq!(disk.list(root).unwrap().len(), 1);
    });
}

#[test]
fn only_one_holds_the_lock() {
    on_every_disk(|disk, root| {
        disk.create_dir_all(root).unwrap();
        let lock = disk.lock(&root.join("lock")).unwrap();
        assert_eq!(disk.lock(&root.join("lock")).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(lock);
        disk.lock(&root.join("lock")).unwrap();
    });
}

#[test]
fn the_operating_systems_handle_shows_the_same_bytes() {
    on_every_disk(|disk, root| {
        disk.create_dir_all(root).unwrap();
        let file = disk.open(&root.join("f"), Open::Create).unwrap();
        file.write_at(&[IoSlice::new(b"abcdef")], 0).unwrap();
        let mut bytes = [0; 3];
        std::os::unix::fs::FileExt::read_exact_at(&*file.std_file().unwrap(), &mut bytes, 2).unwrap();
        assert_eq!(&bytes, b"cde");
    });
}
