//! Metadata of a large cluster: 100,000 partitions of three replicas, with 1,000,000 archived segments.
//!
//! A partition's segments stand in its manifest, in the object store. The metadata have one pointer per partition, however
//! many segments that speaks of.

use std::time::{Duration, Instant};

use coordinator::cluster::{
    BrokerRef, Cluster, Command, Layout, Listener, METADATA_VERSION, MetadataVersions, NO_LEADER, NewTopic, Record,
    RegisterBroker, Submission,
};
use model::archive::ManifestPointer;
use model::{NodeId, TopicId};
use uuid::Uuid;

const TOPICS: u128 = 100;
const PARTITIONS_EACH: i32 = 1000;
const SEGMENTS_EACH: u64 = 10;
const MAX_MEMORY_BYTES: u64 = 500 << 20;
const MAX_LOADING: Duration = Duration::from_secs(10);

#[test]
fn a_hundred_thousand_partitions_fit_into_half_a_gigabyte_and_load_in_ten_seconds() {
    let snapshot = serde_json::to_vec(&large_cluster()).unwrap();
    let (memory, started) = (resident_bytes(), Instant::now());
    let mut loaded = serde_json::from_slice::<Cluster>(&snapshot).unwrap().restored();
    let took = started.elapsed();
    assert!(took < MAX_LOADING, "loading took {took:?}");
    assert_eq!(loaded.partition_count(), 100_000);
    let segments: u64 = loaded.archives().map(|(_, pointer)| pointer.objects).sum();
    assert_eq!(segments, 1_000_000);

    // A broker is lost: readers still have the image from before.
    let before = loaded.clone();
    let lost = BrokerRef { broker_id: 1, broker_epoch: loaded.broker(1).unwrap().epoch };
    run(&mut loaded, Command::FenceBroker(lost));
    assert!(before.partitions().any(|(_, partition)| partition.leader == 1));
    assert!(loaded.partitions().all(|(_, partition)| ![1, NO_LEADER].contains(&partition.leader)));
    let grown = resident_bytes().saturating_sub(memory);
    assert!(grown < MAX_MEMORY_BYTES, "two images take {} MiB", grown >> 20);
}

fn large_cluster() -> Cluster {
    let mut cluster = Cluster::new();
    let cluster_id = "Q2x1c3RlcklkRm9yVGVzdA".to_owned();
    run(&mut cluster, Command::CreateCluster { cluster_id, metadata_version: METADATA_VERSION });
    for broker_id in 1..=3 {
        run(&mut cluster, Command::RegisterBroker(registration(broker_id)));
    }
    for number in 0..TOPICS {
        let id = TopicId(Uuid::from_u128((number + 2) << 64));
        let layout = Layout::Placed { partitions: PARTITIONS_EACH, replication_factor: 3 };
        let topic =
            NewTopic { id, name: format!("topic-{number}"), layout, configs: Vec::new(), wanted_replicas: None };
        run(&mut cluster, Command::CreateTopics { topics: vec![topic], validate_only: false });
    }
    let ids: Vec<_> = cluster.partitions().map(|(id, _)| id).collect();
    for partition in ids {
        let pointer = ManifestPointer {
            object: format!("{}/{}/manifests/00000000000000000010-0-1", partition.topic_id, partition.partition),
            version: SEGMENTS_EACH,
            leader_epoch: 0,
            log_start: 0,
            archived_end: 1_000_000,
            bytes: 1 << 30,
            record_bytes: 4 << 30,
            objects: SEGMENTS_EACH,
            max_timestamp: 1_700_000_000_000,
        };
        cluster.apply(Record::ArchiveCommitted { partition, pointer });
    }
    cluster
}

fn registration(broker_id: NodeId) -> RegisterBroker {
    let listener = Listener { name: "PLAINTEXT".to_owned(), host: format!("host-{broker_id}"), port: 9092 };
    RegisterBroker {
        broker_id,
        incarnation: Uuid::from_u128(1),
        listeners: vec![listener],
        metadata_versions: MetadataVersions::OF_THIS_BUILD,
        ..RegisterBroker::default()
    }
}

fn run(cluster: &mut Cluster, command: Command) {
    let decision = cluster.decide(&Submission::from(command), 1_700_000_000_000);
    decision.records.into_iter().for_each(|record| cluster.apply(record));
}

/// Memory of this process; other tests in it take a few MiB meanwhile.
fn resident_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * PAGE_BYTES
}
