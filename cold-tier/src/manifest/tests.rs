//! Golden bytes, round trips and hostile input of the manifest format.

use model::TopicId;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

fn segment(base_offset: Offset, next_offset: Offset) -> ArchivedSegment {
    ArchivedSegment {
        object: format!("c/topics/t-AAAAAAAAAAAAAAAAAAAAAQ/0/data/{base_offset:020}.parquet"),
        base_offset,
        next_offset,
        leader_epoch: 4,
        bytes: 1000,
        record_bytes: 4000,
        records: 10,
        min_timestamp: 5,
        max_timestamp: 500 + base_offset,
        archived_at: 1_700_000_000_000,
        epochs: vec![EpochStart { leader_epoch: 4, start_offset: 0 }],
        footer_bytes: 300,
        footer_crc32c: 0xdead_beef,
        chunks: 2,
        producers: Attachment { offset: 690, length: 10, crc32c: 7 },
        etag: (base_offset > 0).then(|| "\"e\"".to_owned()),
    }
}

fn manifest() -> Manifest {
    let child = Node { children: Vec::new(), segments: vec![segment(0, 10), segment(10, 30)] };
    let children = vec![Child {
        object: "c/topics/t-AAAAAAAAAAAAAAAAAAAAAQ/0/manifest/x-0.node".into(),
        level: 1,
        base_offset: 0,
        next_offset: 30,
        totals: child.totals(),
    }];
    let list = Node { children, segments: vec![segment(30, 42)] };
    Manifest {
        cluster_id: "c".into(),
        topic: TopicName::new("t").unwrap(),
        partition: TopicPartition { topic_id: TopicId(Uuid::from_u128(1)), partition: 0 },
        version: 3,
        previous: Some("before".into()),
        leader_epoch: 4,
        log_start: 5,
        archived_end: 42,
        totals: list.totals(),
        list: Arc::new(list),
    }
}

#[test]
fn a_manifest_is_stored_as_documented() {
    let golden = include_bytes!("../../tests/golden/manifest-v1-compact.manifest");
    assert_eq!(String::from_utf8(manifest().encode().unwrap()).unwrap(), String::from_utf8_lossy(golden));
    assert_eq!(Manifest::decode(golden).unwrap(), manifest());
    let indented = include_bytes!("../../tests/golden/manifest-v1.manifest");
    assert_eq!(Manifest::decode(indented).unwrap(), manifest(), "as earlier versions wrote it");
}

#[test]
fn a_pointer_says_what_its_manifest_says() {
    let pointer = manifest().pointer("name".into());
    assert_eq!((pointer.object.as_str(), pointer.version, pointer.log_start, pointer.archived_end), ("name", 3, 5, 42));
    assert_eq!((pointer.bytes, pointer.record_bytes, pointer.objects, pointer.max_timestamp), (3000, 12_000, 3, 530));
}

#[test]
fn a_list_with_a_hole_or_an_overlap_is_refused() {
    for (base, next) in [(29, 42), (31, 42), (30, 30)] {
        let mut bad = manifest();
        Arc::make_mut(&mut bad.list).segments = vec![segment(base, next)];
        assert!(Manifest::decode(&bad.encode().unwrap()).is_err(), "[{base}, {next}) was taken");
    }
    let mut bad = manifest();
    bad.log_start = 43;
    assert!(Manifest::decode(&bad.encode().unwrap()).is_err());
}

#[test]
fn every_damaged_byte_of_a_manifest_is_noticed() {
    let golden = manifest().encode().unwrap();
    for at in 0..golden.len() {
        let mut bytes = golden.clone();
        bytes[at] ^= 1;
        assert!(Manifest::decode(&bytes).is_err(), "byte {at}");
        assert!(Manifest::decode(&golden[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn another_version_is_named() {
    let text = String::from_utf8(manifest().encode().unwrap()).unwrap().replacen("manifest 1", "manifest 2", 1);
    assert_eq!(Manifest::decode(text.as_bytes()).unwrap_err(), "its version 2 is not supported, only 1 is");
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Manifest::decode(&bytes);
        let _ = Node::decode(&bytes);
    }

    /// Random edits of the JSON, under a right first line: what passes the checksum still meets a careful decoder.
    #[test]
    fn no_edited_manifest_makes_the_decoder_panic(edits in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..6)) {
        let encoded = manifest().encode().unwrap();
        let head = encoded.iter().position(|&b| b == b'\n').unwrap() + 1;
        let mut json = encoded[head..].to_vec();
        for (at, byte) in edits {
            let at = at % json.len();
            json[at] = byte;
        }
        let mut bytes = format!("{MANIFEST_MAGIC} 1 {} {:08x}\n", json.len(), crc32c(&json)).into_bytes();
        bytes.extend_from_slice(&json);
        let _ = Manifest::decode(&bytes);
    }
}
