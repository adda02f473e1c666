//! Records in the formats of Apache Kafka.

use super::*;

fn offset_record(expire_timestamp: Option<i64>) -> GroupRecord {
    let leader_epoch = if expire_timestamp.is_some() { -1 } else { 9 };
    let committed = CommittedOffset {
        offset: 1,
        leader_epoch,
        metadata: "md".into(),
        commit_timestamp: 2,
        expire_timestamp,
        topic_id: TopicId::ZERO,
    };
    GroupRecord::Offset { group: "g".into(), topic: "t".into(), partition: 3, committed: Some(committed) }
}

fn offset_record_with_topic_id() -> GroupRecord {
    let GroupRecord::Offset { group, topic, partition, committed: Some(committed) } = offset_record(None) else {
        panic!("no offset")
    };
    let topic_id = TopicId(Uuid::from_u128(0x10f7_eb4e_5a05_1b42_e188_f75d_4038_a45b));
    GroupRecord::Offset { group, topic, partition, committed: Some(CommittedOffset { topic_id, ..committed }) }
}

#[test]
fn records_have_the_bytes_that_kafka_writes() {
    let (key, value) = records::encode(&offset_record(None)).unwrap();
    assert_eq!(&key[..], b"\0\x01\0\x01g\0\x01t\0\0\0\x03");
    assert_eq!(&value.unwrap()[..], b"\0\x03\0\0\0\0\0\0\0\x01\0\0\0\x09\0\x02md\0\0\0\0\0\0\0\x02");
    let (_, value) = records::encode(&offset_record_with_topic_id()).unwrap();
    let expected = b"\0\x04\0\0\0\0\0\0\0\x01\0\0\0\x09\x03md\0\0\0\0\0\0\0\x02\
        \x01\0\x10\x10\xf7\xeb\x4e\x5a\x05\x1b\x42\xe1\x88\xf7\x5d\x40\x38\xa4\x5b";
    assert_eq!(&value.unwrap()[..], expected);
    let (_, value) = records::encode(&offset_record(Some(4))).unwrap();
    assert_eq!(&value.unwrap()[..], b"\0\x01\0\0\0\0\0\0\0\x01\0\x02md\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x04");
    let (key, value) = records::encode(&group_record()).unwrap();
    assert_eq!(&key[..], b"\0\x02\0\x01g");
    let expected = b"\0\x03\0\x08consumer\0\0\0\x07\0\x05range\0\x01m\0\0\0\0\0\0\0\x08\0\0\0\x01\
        \0\x01m\0\x01i\0\x01c\0\x02/h\0\0\0\x05\0\0\0\x06\0\0\0\x03sub\0\0\0\x03asg";
    assert_eq!(&value.unwrap()[..], expected);
}

#[test]
fn records_read_back_as_they_were_written() {
    let tombstone = GroupRecord::Metadata { group: "g".into(), image: None };
    let gone = GroupRecord::Offset { group: "g".into(), topic: "t".into(), partition: 0, committed: None };
    let offsets = [offset_record(None), offset_record(Some(5)), offset_record_with_topic_id()];
    let all: Vec<_> = [group_record(), tombstone, gone].into_iter().chain(offsets).collect();
    let encoded: Vec<_> = all.iter().map(|record| records::encode(record).unwrap()).collect();
    let batch = records::batch(&encoded, 77).unwrap();
    assert_eq!(records::unpack(&BatchView::parse(&batch).unwrap()).unwrap(), all);
}

#[test]
fn the_size_of_a_batch_is_known_before_it_is_made() {
    let one = records::encode(&group_record()).unwrap();
    for count in [1, 2, 300, 50_000] {
        let encoded: Vec<_> = (0..count).map(|_| one.clone()).collect();
        let (bytes, bound) = (records::batch(&encoded, 77).unwrap().len(), records::batch_bytes(&encoded));
        assert!(bytes <= bound && bound <= bytes + 31 * count, "{count} records: {bytes} bytes, {bound} expected");
    }
}

#[test]
fn records_of_newer_kinds_and_damaged_ones_are_skipped() {
    let strange = (Bytes::from_static(b"\0\x03\0\x01g"), Some(Bytes::from_static(b"\0\0")));
    let cut = (Bytes::from_static(b"\0\x02\0\x01g"), Some(Bytes::from_static(b"\0\x03\0\x08con")));
    let good = records::encode(&offset_record(None)).unwrap();
    let batch = records::batch(&[strange, cut, good], 77).unwrap();
    let read = records::unpack(&BatchView::parse(&batch).unwrap()).unwrap();
    assert_eq!(read, [offset_record(None)]);
}

#[test]
fn a_damaged_batch_is_an_error() {
    let mut bytes = records::batch(&[records::encode(&offset_record(None)).unwrap()], 77).unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    assert!(records::unpack(&BatchView::parse(&bytes).unwrap()).is_err());
}
