//! Bytes that Apache Kafka 4.3.1 wrote: `golden/messages.txt`, made by `golden/Golden.java` with Kafka's own classes.

use bytes::Bytes;
use protocol::coordinator_record::{self, CoordinatorKey};
use protocol::messages::{self, FetchRequest, GroupMetadataKey, OffsetCommitKey, OffsetCommitValue, ProduceRequest};
use protocol::{DecodeProblem, Reader, Writer};
use uuid::Uuid;

const GOLDEN: &str = include_str!("../golden/messages.txt");

fn hex(digits: &str) -> Bytes {
    let byte = |index| u8::from_str_radix(&digits[index..index + 2], 16).unwrap();
    (0..digits.len()).step_by(2).map(byte).collect()
}

/// Message, version and bytes of each line.
fn lines() -> impl Iterator<Item = (&'static str, i16, Bytes)> {
    GOLDEN.lines().map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[0], words[1].parse().unwrap(), hex(words[2]))
    })
}

fn golden(message: &str, version: i16) -> Reader {
    let found = lines().find(|(name, other, _)| *name == message && *other == version);
    Reader::new(found.unwrap_or_else(|| panic!("no line {message} {version}")).2)
}

#[test]
fn what_kafka_wrote_is_read_and_written_alike() {
    let mut seen = 0;
    for (name, version, bytes) in lines() {
        let info = messages::ALL.iter().find(|info| info.name == name).unwrap();
        let mut reader = Reader::new(bytes.clone());
        let message = (info.decode)(&mut reader, version).unwrap_or_else(|error| panic!("{name} v{version}: {error}"));
        assert_eq!(reader.remaining(), 0, "{name} v{version}");
        let mut writer = Writer::new();
        message.encode_any(&mut writer, version).unwrap();
        assert_eq!(writer.into_message(), bytes, "{name} v{version}");
        seen += 1;
    }
    assert_eq!(seen, 236);
}

#[test]
fn fetch_18_with_tagged_fields_has_the_values_that_kafka_wrote() {
    let request = FetchRequest::decode(&mut golden("FetchRequest", 18), 18).unwrap();
    assert_eq!(request.replica_id, -1);
    assert_eq!((request.replica_state.replica_id, request.replica_state.replica_epoch), (0x10004, 0x1_0000_0005));
    assert_eq!((request.max_wait_ms, request.min_bytes, request.max_bytes), (0x10006, 0x10007, 0x10008));
    assert_eq!((request.isolation_level, request.session_id, request.session_epoch), (9, 0x1000a, 0x1000b));
    assert_eq!(request.cluster_id.as_deref(), Some("text-1"));
    let topic = &request.topics[0];
    assert_eq!((topic.topic.as_str(), topic.topic_id), ("", Uuid::from_u64_pair(0x1122_3344_5566_7788, 0xf)));
    let partition = &topic.partitions[0];
    assert_eq!((partition.partition, partition.current_leader_epoch), (0x10012, 0x10013));
    assert_eq!((partition.fetch_offset, partition.last_fetched_epoch), (0x1_0000_0014, 0x10015));
    assert_eq!((partition.log_start_offset, partition.partition_max_bytes), (0x1_0000_0016, 0x10017));
    assert_eq!(partition.replica_directory_id, Uuid::from_u64_pair(0x1122_3344_5566_7788, 0x18));
    assert_eq!(partition.high_watermark, 0x1_0000_0019);
    assert_eq!(request.forgotten_topics_data.len(), 2);
}

#[test]
fn produce_of_four_versions_has_the_records_that_kafka_wrote() {
    for version in [3, 8, 9, 13] {
        let request = ProduceRequest::decode(&mut golden("ProduceRequest", version), version).unwrap();
        assert_eq!(request.transactional_id.as_deref(), Some("text-1"));
        assert_eq!((request.acks, request.timeout_ms), (0x102, 0x10003));
        let partition = &request.topic_data[0].partition_data[0];
        let records = partition.records.as_ref().unwrap();
        assert_eq!((records.len(), records.slices()[0][16]), (76, 2), "a batch of format 2");
        assert_eq!(request.topic_data[0].name.is_empty(), version == 13);
    }
}

#[test]
fn a_committed_offset_is_framed_as_kafka_frames_it() {
    let key = OffsetCommitKey { group: "g".into(), topic: "t".into(), partition: 3 };
    let bytes = CoordinatorKey::Offset(key.clone()).encode().unwrap();
    assert_eq!(bytes, b"\0\x01\0\x01g\0\x01t\0\0\0\x03"[..]);
    assert_eq!(CoordinatorKey::decode(bytes), Ok(CoordinatorKey::Offset(key)));
    let value = OffsetCommitValue { offset: 5, leader_epoch: 2, commit_timestamp: 9, ..Default::default() };
    let bytes = coordinator_record::encode_versioned(&value, 3).unwrap();
    assert_eq!(bytes, b"\0\x03\0\0\0\0\0\0\0\x05\0\0\0\x02\0\0\0\0\0\0\0\0\0\x09"[..]);
    assert_eq!(coordinator_record::decode_versioned::<OffsetCommitValue>(bytes), Ok(value));
}

#[test]
fn a_group_key_and_an_unknown_type_are_told_apart() {
    let key = CoordinatorKey::Group(GroupMetadataKey { group: "g".into() });
    let bytes = key.encode().unwrap();
    assert_eq!(bytes, b"\0\x02\0\x01g"[..]);
    assert_eq!(CoordinatorKey::decode(bytes), Ok(key));
    let error = CoordinatorKey::decode(Bytes::from_static(b"\0\x03\0\x01g")).unwrap_err();
    assert_eq!(*error.problem(), DecodeProblem::UnknownRecordType { found: 3 });
}

#[test]
fn a_value_that_the_version_lacks_is_refused_unless_the_table_lets_it_drop() {
    let mut request = FetchRequest { rack_id: "r".into(), ..FetchRequest::default() };
    assert!(request.encode(&mut Writer::new(), 4).is_ok(), "the rack is dropped");
    request.replica_id = 7;
    assert!(request.encode(&mut Writer::new(), 14).is_ok());
    let error = request.encode(&mut Writer::new(), 15).unwrap_err();
    assert_eq!(error.to_string(), "FetchRequest.ReplicaId is set, but version 15 does not have it");
    let mut request = FetchRequest::default();
    request.replica_state.replica_id = 1;
    let error = request.encode(&mut Writer::new(), 14).unwrap_err();
    assert_eq!(error.field(), "FetchRequest.ReplicaState");
}

#[test]
fn null_is_refused_where_the_version_allows_none() {
    let request = messages::MetadataRequest { topics: None, ..Default::default() };
    assert!(request.encode(&mut Writer::new(), 1).is_ok(), "null means all topics");
    let error = request.encode(&mut Writer::new(), 0).unwrap_err();
    assert_eq!(error.to_string(), "MetadataRequest.Topics is null, which version 0 does not allow");
}
