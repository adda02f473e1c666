//! The metadata log as its callers see it.

use coordinator::cluster::{CreatedTopic, Layout, NewTopic, TopicRef};
use tempfile::TempDir;

use super::*;

mod cluster;
mod damage;
mod kills;
mod restarts;
mod storage;
mod submitting;

const NODE: NodeId = 1;

fn now() -> NowSource {
    Arc::new(|| 1_700_000_000_000)
}

fn config(folder: &TempDir) -> MetadataConfig {
    MetadataConfig {
        data_dir: folder.path().to_owned(),
        node_id: NODE,
        cluster_id_if_new: None,
        listeners: vec![Listener { name: "PLAINTEXT".to_owned(), host: "localhost".to_owned(), port: 9092 }],
        rack: None,
        disk_id: None,
        topic_defaults: SettingsMap::new(),
        metadata_versions: MetadataVersions::OF_THIS_BUILD,
        snapshot_every: SNAPSHOT_EVERY,
        place: Place::default(),
    }
}

async fn open(folder: &TempDir) -> Metadata {
    open_with(config(folder)).await
}

/// Metadata that were dropped without closing let go of their file a moment later.
async fn open_with(config: MetadataConfig) -> Metadata {
    for _ in 0..500 {
        match Metadata::open(config.clone(), now()).await {
            Err(MetadataError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(10)).await,
            outcome => return outcome.unwrap(),
        }
    }
    panic!("the file was never let go of");
}

fn topic(name: &str) -> Command {
    let layout = Layout::Placed { partitions: 1, replication_factor: 1 };
    let topic =
        NewTopic { id: new_topic_id(), name: name.to_owned(), layout, configs: Vec::new(), wanted_replicas: None };
    Command::CreateTopics { topics: vec![topic], validate_only: false }
}

async fn create(metadata: &Metadata, name: &str) -> CreatedTopic {
    match metadata.submit(topic(name)).await.unwrap() {
        Reply::TopicsCreated(mut outcomes) => outcomes.remove(0).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn allocate(metadata: &Metadata) -> i64 {
    match metadata.submit(Command::AllocateProducerIds(metadata.broker())).await.unwrap() {
        Reply::ProducerIds { first, .. } => first,
        other => panic!("{other:?}"),
    }
}
