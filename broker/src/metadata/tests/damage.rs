//! Files that are not what they should be.

use std::fs;
use std::path::Path;

use super::*;

async fn refusal(folder: &TempDir) -> MetadataError {
    Metadata::open(config(folder), now()).await.expect_err("the file was taken")
}

fn file(folder: &TempDir) -> PathBuf {
    folder.path().join("metadata/raft.redb")
}

async fn written() -> TempDir {
    let folder = TempDir::new().unwrap();
    let metadata = open(&folder).await;
    for i in 0..20 {
        create(&metadata, &format!("topic-{i}")).await;
    }
    metadata.close().await;
    folder
}

fn assert_names_the_file_and_a_way_out(error: &MetadataError, file: &Path) {
    let text = error.to_string();
    assert!(matches!(error, MetadataError::Damaged { .. }), "{error:?}");
    assert!(text.contains(&file.display().to_string()) && text.contains("backup"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_cut_short_or_overwritten_is_refused_by_name() {
    let good = written().await;
    let bytes = fs::read(file(&good)).unwrap();
    let cut = [0, 1, 100, 4096, bytes.len() / 2, bytes.len() - 4096];
    for len in cut {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("metadata")).unwrap();
        fs::write(file(&folder), &bytes[..len]).unwrap();
        assert_names_the_file_and_a_way_out(&refusal(&folder).await, &file(&folder));
    }
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("metadata")).unwrap();
    fs::write(file(&folder), "this is not a database".repeat(1000)).unwrap();
    assert_names_the_file_and_a_way_out(&refusal(&folder).await, &file(&folder));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_entry_is_refused() {
    let folder = written().await;
    let mut bytes = fs::read(file(&folder)).unwrap();
    let name = b"topic-13";
    let places: Vec<usize> =
        bytes.windows(name.len()).enumerate().filter(|(_, window)| *window == name).map(|(place, _)| place).collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place] = b'T';
    }
    fs::write(file(&folder), bytes).unwrap();
    let error = refusal(&folder).await;
    assert_names_the_file_and_a_way_out(&error, &file(&folder));
    assert!(error.to_string().contains("corrupted"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_damage_of_a_page_passes_for_the_truth() {
    let good = written().await;
    let bytes = fs::read(file(&good)).unwrap();
    let state = open(&good).await.image();
    for (i, place) in (0..bytes.len()).step_by(bytes.len() / 60).enumerate() {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("metadata")).unwrap();
        let mut damaged = bytes.clone();
        let end = (place + 512).min(damaged.len());
        damaged[place..end].iter_mut().for_each(|byte| *byte ^= 0x5a);
        fs::write(file(&folder), damaged).unwrap();
        match Metadata::open(config(&folder), now()).await {
            Ok(metadata) => {
                assert!(metadata.image().topics().eq(state.topics()), "damage {i} at {place} changed the state");
                metadata.close().await;
            }
            Err(error) => assert!(error.to_string().contains("raft.redb"), "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_broker_on_the_same_directory_is_refused() {
    let folder = TempDir::new().unwrap();
    let metadata = open(&folder).await;
    assert!(matches!(refusal(&folder).await, MetadataError::InUse { .. }));
    metadata.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_another_node_is_refused() {
    let folder = written().await;
    let error = Metadata::open(MetadataConfig { node_id: 2, ..config(&folder) }, now()).await.unwrap_err();
    assert!(matches!(&error, MetadataError::OtherNode { found, asked: 2, .. } if found == "1"), "{error}");
    let error = Metadata::open(MetadataConfig { node_id: -1, ..config(&folder) }, now()).await.unwrap_err();
    assert!(matches!(error, MetadataError::Invalid(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_was_cut_short_leaves_nothing_in_the_way() {
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("metadata")).unwrap();
    fs::write(folder.path().join("metadata/raft.redb.new"), "half a file").unwrap();
    let metadata = open(&folder).await;
    metadata.close().await;
    assert!(!folder.path().join("metadata/raft.redb.new").exists());
}
