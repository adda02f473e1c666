//! What passes the door and what does not.

use proptest::prelude::*;

use super::super::{Attributes, BatchBuilder, BatchFacts, Batches, Compression, HEADER_LEN, NewRecord, header};
use super::*;

const NOW: i64 = 1_700_000_000_000;

fn limits() -> ProduceLimits {
    ProduceLimits {
        max_batch_bytes: 1 << 20,
        max_decompressed_bytes: 8 << 20,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max_ms: u64::MAX,
        timestamp_after_max_ms: 3_600_000,
        now: NOW,
    }
}

fn batch_of(facts: BatchFacts, count: i64) -> Bytes {
    let mut builder = BatchBuilder::new(facts);
    for offset in 0..count {
        let headers: [(&str, Option<&[u8]>); 2] = [("trace", Some(b"abc")), ("trace", None)];
        builder.append(&NewRecord {
            offset,
            timestamp: NOW + offset,
            key: (offset % 2 == 0).then_some(b"key"),
            value: (offset % 3 != 0).then_some(b"a value"),
            headers: &headers,
        });
    }
    builder.finish().unwrap()
}

/// Changes bytes of a batch and renews its checksum, as a client with a bug would.
fn tampered(batch: &Bytes, change: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = batch.to_vec();
    change(&mut bytes);
    let crc = header::checksum(&bytes);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(bytes)
}

#[test]
fn a_good_batch_passes_unchanged_in_every_codec() {
    for compression in Compression::ALL {
        let bytes = batch_of(BatchFacts { compression, ..BatchFacts::default() }, 50);
        let batch = validate_produced(bytes.clone(), &limits()).unwrap();
        assert_eq!(batch.bytes(), &bytes);
        assert_eq!(batch.bytes().as_ptr(), bytes.as_ptr(), "the batch was copied");
        assert_eq!((batch.record_count, batch.max_timestamp), (50, NOW + 49));
    }
}

#[test]
fn an_lz4_frame_that_java_cannot_read_is_corrupt() {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let plain = batch_of(BatchFacts::default(), 3_000);
    let framed = |mode, is_ended: bool| {
        let info = FrameInfo::new().block_mode(mode).block_size(BlockSize::Max64KB).block_checksums(true);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&plain[HEADER_LEN..]).unwrap();
        let mut frame = encoder.finish().unwrap();
        if !is_ended {
            frame.truncate(frame.len() - 4);
        }
        let mut bytes = [&plain[..HEADER_LEN], &frame].concat();
        let length = u32::try_from(bytes.len() - 12).unwrap();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        tampered(&bytes.into(), |bytes| bytes[22] |= 3)
    };
    validate_produced(framed(BlockMode::Independent, true), &limits()).unwrap();
    for unreadable in [framed(BlockMode::Linked, true), framed(BlockMode::Independent, false)] {
        let refused = validate_produced(unreadable, &limits()).unwrap_err();
        assert!(matches!(refused, InvalidBatch::Corrupt(BatchError::Decompress { .. })), "{refused}");
    }
}

#[test]
fn every_record_with_a_wrong_time_is_named_unless_there_are_too_many() {
    let outside = |count: i64, late: i64| {
        let limits = ProduceLimits { timestamp_after_max_ms: 100, now: NOW + late - 101, ..limits() };
        match validate_produced(batch_of(BatchFacts::default(), count), &limits) {
            Err(InvalidBatch::Timestamps(outside)) => {
                (outside.count, outside.named().map(|named| named.index).collect::<Vec<_>>())
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(outside(10, 7), (3, vec![7, 8, 9]));
    assert_eq!(outside(10, 0), (10, (0..10).collect()));
    assert_eq!(outside(1_001, 1), (1_000, (1..=1_000).collect()));
    assert_eq!(outside(1_001, 0), (1_001, Vec::new()), "then all are refused");
}

#[test]
fn a_flipped_bit_anywhere_under_the_checksum_is_corrupt() {
    let good = batch_of(BatchFacts::default(), 3);
    for at in 21..good.len() {
        let mut bytes = good.to_vec();
        bytes[at] ^= 0x10;
        let error = validate_produced(Bytes::from(bytes), &limits()).unwrap_err();
        assert!(matches!(error, InvalidBatch::Corrupt(BatchError::Checksum { .. })), "byte {at}: {error}");
    }
}

#[test]
fn lying_record_counts_are_refused() {
    let good = batch_of(BatchFacts::default(), 3);
    for (count, last) in [(2, 1), (4, 3), (3, 7), (0, -1), (-1, -2), (i32::MAX, i32::MAX - 1)] {
        let bytes = tampered(&good, |b| {
            b[23..27].copy_from_slice(&i32::to_be_bytes(last));
            b[57..61].copy_from_slice(&i32::to_be_bytes(count));
        });
        let error = validate_produced(bytes, &limits()).unwrap_err();
        assert!(matches!(error, InvalidBatch::Invalid(_)), "count {count}: {error}");
    }
}

#[test]
fn two_batches_in_one_partition_are_refused() {
    let mut two = batch_of(BatchFacts::default(), 1).to_vec();
    two.extend_from_slice(&two.clone());
    let error = validate_produced(Bytes::from(two), &limits()).unwrap_err();
    assert!(error.to_string().contains("exactly one"), "{error}");
}

#[test]
fn control_batches_and_append_time_are_the_brokers_to_write() {
    for facts in [
        BatchFacts { is_control: true, ..BatchFacts::default() },
        BatchFacts { timestamp_type: TimestampType::LogAppendTime, ..BatchFacts::default() },
        BatchFacts { producer_id: 5, producer_epoch: 0, ..BatchFacts::default() },
        BatchFacts { is_transactional: true, ..BatchFacts::default() },
    ] {
        let error = validate_produced(batch_of(facts, 1), &limits()).unwrap_err();
        assert!(matches!(error, InvalidBatch::Invalid(_)), "{facts:?}: {error}");
    }
}

#[test]
fn size_limits_hold_before_and_after_decompression() {
    let facts = BatchFacts { compression: Compression::Zstd, ..BatchFacts::default() };
    let mut builder = BatchBuilder::new(facts);
    let value = vec![0; 2 << 20];
    builder.append(&NewRecord { offset: 0, timestamp: NOW, key: None, value: Some(&value), headers: &[] });
    let bomb = builder.finish().unwrap();
    let tight = ProduceLimits { max_decompressed_bytes: 1 << 20, ..limits() };
    assert!(matches!(validate_produced(bomb.clone(), &tight), Err(InvalidBatch::TooLarge { .. })));
    let tight = ProduceLimits { max_batch_bytes: bomb.len() - 1, ..limits() };
    assert!(matches!(validate_produced(bomb.clone(), &tight), Err(InvalidBatch::TooLarge { .. })));
    assert!(validate_produced(bomb, &limits()).is_ok());
}

#[test]
fn timestamps_outside_the_allowed_span_are_refused_only_for_create_time() {
    let bytes = batch_of(BatchFacts::default(), 1);
    let late = ProduceLimits { now: NOW - 7_200_000, ..limits() };
    assert!(matches!(validate_produced(bytes.clone(), &late), Err(InvalidBatch::Timestamps(_))));
    let early = ProduceLimits { now: NOW + 10_000, timestamp_before_max_ms: 5_000, ..limits() };
    assert!(matches!(validate_produced(bytes.clone(), &early), Err(InvalidBatch::Timestamps(_))));
    let append_time = ProduceLimits { timestamp_type: TimestampType::LogAppendTime, ..late };
    assert!(validate_produced(bytes, &append_time).is_ok());
}

#[test]
fn timestamps_before_1970_pass_and_leave_the_batch_without_a_largest_one() {
    let mut builder = BatchBuilder::new(BatchFacts::default());
    for (offset, timestamp) in [(0, -86_400_000), (1, -2)] {
        builder.append(&NewRecord { offset, timestamp, key: None, value: None, headers: &[] });
    }
    let batch = validate_produced(builder.finish().unwrap(), &limits()).unwrap();
    assert_eq!((batch.base_timestamp, batch.max_timestamp), (-86_400_000, -1));
}

#[test]
fn a_batch_that_does_not_begin_at_offset_0_is_refused() {
    let mut bytes = batch_of(BatchFacts::default(), 1).to_vec();
    bytes[..8].copy_from_slice(&100_i64.to_be_bytes());
    assert!(matches!(validate_produced(Bytes::from(bytes), &limits()), Err(InvalidBatch::Invalid(_))));
}

#[test]
fn a_wrong_largest_timestamp_is_set_right() {
    let bytes = tampered(&batch_of(BatchFacts::default(), 3), |b| b[35..43].copy_from_slice(&1_i64.to_be_bytes()));
    let batch = validate_produced(bytes, &limits()).unwrap();
    assert_eq!(batch.max_timestamp, NOW + 2);
    BatchView::parse(batch.bytes()).unwrap().verify_crc().unwrap();
}

#[test]
fn a_header_key_that_is_not_text_is_refused() {
    let good = batch_of(BatchFacts::default(), 1);
    let at = good.windows(5).position(|w| w == b"trace").unwrap();
    let error = validate_produced(tampered(&good, |b| b[at] = 0xff), &limits()).unwrap_err();
    assert!(error.to_string().contains("not UTF-8"), "{error}");
}

#[test]
fn the_old_message_formats_are_named() {
    let mut bytes = batch_of(BatchFacts::default(), 1).to_vec();
    bytes[16] = 1;
    assert!(matches!(validate_produced(Bytes::from(bytes), &limits()), Err(InvalidBatch::NotOneBatch(_))));
}

#[test]
fn log_append_time_gives_every_record_the_time_of_the_batch() {
    let mut bytes = batch_of(BatchFacts::default(), 3).to_vec();
    patch_max_timestamp(&mut bytes, TimestampType::LogAppendTime, 42);
    let batch = BatchView::parse(&bytes).unwrap();
    batch.verify_crc().unwrap();
    let mut buffer = RecordsBuffer::new(1 << 20);
    assert!(batch.records(&mut buffer).unwrap().all(|record| record.unwrap().timestamp == 42));
    assert_eq!(Attributes(batch.header.attributes.0).timestamp_type(), TimestampType::LogAppendTime);
}

type OwnedRecord = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

fn any_record() -> impl Strategy<Value = OwnedRecord> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60));
    let headers = proptest::collection::vec((".{0,8}", bytes()), 0..4);
    (prop_oneof![Just(-1), NOW - 1_000..NOW], bytes(), bytes(), headers)
}

proptest! {
    #[test]
    fn what_was_built_is_what_is_read(
        records in proptest::collection::vec(any_record(), 1..20),
        codec in 0_i16..5,
    ) {
        let compression = Compression::from_code(codec).unwrap();
        let mut builder = BatchBuilder::new(BatchFacts { compression, ..BatchFacts::default() });
        for (offset, (timestamp, key, value, headers)) in (0..).zip(&records) {
            let headers: Vec<_> = headers.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
            let (key, value) = (key.as_deref(), value.as_deref());
            builder.append(&NewRecord { offset, timestamp: *timestamp, key, value, headers: &headers });
        }
        let batch = validate_produced(builder.finish().unwrap(), &limits()).unwrap();
        let view = BatchView::parse(batch.bytes()).unwrap();
        let mut buffer = RecordsBuffer::new(1 << 20);
        let read: Vec<OwnedRecord> = view.records(&mut buffer).unwrap().map(|record| {
            let record = record.unwrap();
            let headers = record.headers.iter().map(|h| {
                let (key, value) = h.unwrap();
                (key.to_owned(), value.map(<[u8]>::to_vec))
            });
            (record.timestamp, record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec), headers.collect())
        }).collect();
        prop_assert_eq!(read, records);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut framed = bytes.clone();
        if framed.len() > HEADER_LEN {
            framed[16] = 2;
            let len = i32::try_from(framed.len() - 12).unwrap();
            framed[8..12].copy_from_slice(&len.to_be_bytes());
        }
        for bytes in [bytes, framed] {
            let fixed = if bytes.len() > HEADER_LEN { tampered(&Bytes::from(bytes.clone()), |_| ()) } else { Bytes::new() };
            let _ = validate_produced(fixed.clone(), &limits());
            for batch in Batches::new(&fixed).flatten() {
                let mut buffer = RecordsBuffer::new(1 << 16);
                if let Ok(records) = batch.records(&mut buffer) {
                    for record in records.flatten() {
                        record.headers.iter().for_each(drop);
                    }
                }
            }
        }
    }
}
