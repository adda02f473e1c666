//! Records of groups as bytes: Kafka's own formats of `__consumer_offsets`, so that its tools can read the topic.
//!
//! Key and value each begin with two bytes: in a key the type of the record, in a value its version. We write what
//! Kafka 4.3 writes: groups in version 3; offsets in version 4 with the topic's id, 3 where that is unknown, and 1 where
//! the commit named a retention of its own.

use std::sync::Arc;

use bytes::Bytes;
use coordinator::group::{CommittedOffset, GroupImage, GroupRecord, MemberImage};
use model::batch::{BatchBuilder, BatchFacts, BatchView, HEADER_LEN, NewRecord, RecordsBuffer};
use model::{TimestampMs, TopicId};
use protocol::coordinator_record::{CoordinatorKey, decode_versioned, encode_versioned};
use protocol::messages::group_metadata_value::MemberMetadata;
use protocol::messages::{GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue};
use protocol::{DecodeError, EncodeError, Str};
use tracing::warn;

/// What one batch may hold after decompression when it is read back.
const MAX_DECOMPRESSED_BYTES: usize = 256 << 20;

/// What a record takes beside key and value, at most: attributes and six varints, none of which is longer than five bytes
/// here.
const RECORD_OVERHEAD_BYTES: usize = 31;

const GROUP_VERSION: i16 = 3;
const OFFSET_VERSION: i16 = 3;
const OFFSET_WITH_TOPIC_ID_VERSION: i16 = 4;
const OFFSET_WITH_EXPIRY_VERSION: i16 = 1;

/// Key and value of a record; no value for a tombstone.
pub(super) type KeyValue = (Bytes, Option<Bytes>);

/// Encoded records as one batch.
pub(super) fn batch(records: &[KeyValue], now: TimestampMs) -> std::io::Result<Bytes> {
    let mut builder = BatchBuilder::new(BatchFacts::default());
    for (key, value) in records {
        let offset = i64::from(builder.record_count());
        builder.append(&NewRecord { offset, timestamp: now, key: Some(key), value: value.as_deref(), headers: &[] });
    }
    builder.finish()
}

/// Bytes of a batch of these records, at most.
pub(super) fn batch_bytes(records: &[KeyValue]) -> usize {
    let sizes = records.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Bytes::len));
    sizes.fold(HEADER_LEN, |sum, bytes| sum.saturating_add(bytes).saturating_add(RECORD_OVERHEAD_BYTES))
}

/// The records of one batch read back. A record that cannot be understood, for example of a newer kind of group, is
/// skipped with a warning, as in Kafka; a batch whose bytes are damaged is an error.
pub(super) fn unpack(batch: &BatchView<'_>) -> Result<Vec<GroupRecord>, model::batch::BatchError> {
    batch.verify_crc()?;
    if batch.header.is_control() {
        return Ok(Vec::new());
    }
    let mut buffer = RecordsBuffer::new(MAX_DECOMPRESSED_BYTES);
    let mut records = Vec::new();
    for record in batch.records(&mut buffer)? {
        let record = record?;
        let Some(key) = record.key else {
            warn!(offset = record.offset, "skipping a record without a key in the offsets topic");
            continue;
        };
        match decode(Bytes::copy_from_slice(key), record.value.map(Bytes::copy_from_slice)) {
            Ok(decoded) => records.push(decoded),
            Err(error) => warn!(offset = record.offset, %error, "skipping a record in the offsets topic"),
        }
    }
    Ok(records)
}

/// The byte form of a record.
///
/// # Errors
/// Where a name or a value is too large for the protocol's fields.
pub(super) fn encode(record: &GroupRecord) -> Result<KeyValue, EncodeError> {
    match record {
        GroupRecord::Metadata { group, image } => {
            let key = CoordinatorKey::Group(GroupMetadataKey { group: Str::from(&**group) }).encode()?;
            let value = image.as_ref().map(|image| encode_versioned(&group_value(image), GROUP_VERSION)).transpose()?;
            Ok((key, value))
        }
        GroupRecord::Offset { group, topic, partition, committed } => {
            let (group, topic) = (Str::from(&**group), Str::from(&**topic));
            let key = CoordinatorKey::Offset(OffsetCommitKey { group, topic, partition: *partition }).encode()?;
            let value = committed
                .as_ref()
                .map(|committed| encode_versioned(&offset_value(committed), offset_version(committed)));
            Ok((key, value.transpose()?))
        }
    }
}

/// The record of a key and a value; a tombstone without a value.
pub(super) fn decode(key: Bytes, value: Option<Bytes>) -> Result<GroupRecord, DecodeError> {
    match CoordinatorKey::decode(key)? {
        CoordinatorKey::Group(key) => {
            let value: Option<GroupMetadataValue> = value.map(decode_versioned).transpose()?;
            Ok(GroupRecord::Metadata { group: owned(&key.group), image: value.map(group_image) })
        }
        CoordinatorKey::Offset(key) => {
            let value: Option<OffsetCommitValue> = value.map(decode_versioned).transpose()?;
            Ok(GroupRecord::Offset {
                group: owned(&key.group),
                topic: owned(&key.topic),
                partition: key.partition,
                committed: value.map(|value| committed_offset(&value)),
            })
        }
    }
}

fn group_value(image: &GroupImage) -> GroupMetadataValue {
    let members = image.members.iter().map(|(id, member)| MemberMetadata {
        member_id: Str::from(&**id),
        group_instance_id: optional(member.instance_id.as_ref()),
        client_id: Str::from(&*member.client_id),
        client_host: Str::from(&*member.client_host),
        rebalance_timeout: member.rebalance_timeout_ms,
        session_timeout: member.session_timeout_ms,
        subscription: member.subscription.clone(),
        assignment: member.assignment.clone(),
        ..MemberMetadata::default()
    });
    GroupMetadataValue {
        protocol_type: optional(image.protocol_type.as_ref()).unwrap_or_default(),
        generation: image.generation,
        protocol: optional(image.protocol_name.as_ref()),
        leader: optional(image.leader.as_ref()),
        current_state_timestamp: image.state_timestamp.unwrap_or(-1),
        members: members.collect(),
        ..GroupMetadataValue::default()
    }
}

fn group_image(value: GroupMetadataValue) -> GroupImage {
    let members = value.members.into_iter().map(|member| {
        let image = MemberImage {
            instance_id: member.group_instance_id.as_ref().map(owned),
            client_id: owned(&member.client_id),
            client_host: owned(&member.client_host),
            // Version 0 of the record has no rebalance timeout.
            rebalance_timeout_ms: Some(member.rebalance_timeout)
                .filter(|ms| *ms >= 0)
                .unwrap_or(member.session_timeout),
            session_timeout_ms: member.session_timeout,
            subscription: Bytes::copy_from_slice(&member.subscription),
            assignment: Bytes::copy_from_slice(&member.assignment),
        };
        (owned(&member.member_id), image)
    });
    GroupImage {
        members: members.collect(),
        protocol_type: Some(owned(&value.protocol_type)).filter(|name| !name.is_empty()),
        generation: value.generation,
        protocol_name: value.protocol.as_ref().map(owned),
        leader: value.leader.as_ref().map(owned),
        state_timestamp: Some(value.current_state_timestamp).filter(|at| *at >= 0),
    }
}

fn offset_version(committed: &CommittedOffset) -> i16 {
    if committed.expire_timestamp.is_some() {
        OFFSET_WITH_EXPIRY_VERSION
    } else if committed.topic_id.is_zero() {
        OFFSET_VERSION
    } else {
        OFFSET_WITH_TOPIC_ID_VERSION
    }
}

fn offset_value(committed: &CommittedOffset) -> OffsetCommitValue {
    OffsetCommitValue {
        offset: committed.offset,
        leader_epoch: committed.leader_epoch,
        metadata: Str::from(&*committed.metadata),
        commit_timestamp: committed.commit_timestamp,
        expire_timestamp: committed.expire_timestamp.unwrap_or(-1),
        topic_id: committed.topic_id.0,
        ..OffsetCommitValue::default()
    }
}

fn committed_offset(value: &OffsetCommitValue) -> CommittedOffset {
    CommittedOffset {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: owned(&value.metadata),
        commit_timestamp: value.commit_timestamp,
        expire_timestamp: Some(value.expire_timestamp).filter(|at| *at >= 0),
        topic_id: TopicId(value.topic_id),
    }
}

/// Text of its own, so that the machine does not keep a whole batch alive.
fn owned(text: &Str) -> Arc<str> {
    Arc::from(&**text)
}

fn optional(text: Option<&Arc<str>>) -> Option<Str> {
    text.map(|text| Str::from(&**text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Two bytes of a type or version, then anything.
    fn versioned() -> impl Strategy<Value = Bytes> {
        (0_i16..6, proptest::collection::vec(any::<u8>(), 0..200))
            .prop_map(|(version, body)| [&version.to_be_bytes()[..], &body].concat().into())
    }

    proptest! {
        #[test]
        fn no_bytes_in_the_offsets_topic_panic_and_what_is_understood_is_written_as_the_same(
            key in versioned(),
            value in proptest::option::of(versioned()),
        ) {
            if let Ok(record) = decode(key, value) {
                let (key, value) = encode(&record).unwrap();
                prop_assert_eq!(decode(key, value).unwrap(), record);
            }
        }
    }
}
