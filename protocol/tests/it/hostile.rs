//! Bytes that are not messages: nothing panics, nothing costs more memory than its bytes deserve.

use bytes::Bytes;
use proptest::prelude::*;
use protocol::messages::{MetadataRequest, api_versions_request::ApiVersionsRequest};
use protocol::{AnyMessage, DecodeError, DecodeProblem, MessageInfo, Reader, Writer, decode_any_request};

use crate::allocation::allocated_bytes;
use crate::round_trip::pairs;
use crate::wire::{self, Dice};

/// What decoding may allocate in all: a fixed part (first steps of nested arrays), and so much per byte of input. An
/// element of an array is larger in memory than on the wire: 88 bytes against 3 in the worst table, and arrays double.
const FIXED_BYTES: usize = 512 * 1024;
const PER_INPUT_BYTE: usize = 192;

/// Decodes, holds the cost against the bound, and encodes what came out: in its own version that must work.
fn attack(info: &MessageInfo, version: i16, bytes: &Bytes) -> Result<Box<dyn AnyMessage>, DecodeError> {
    let mut reader = Reader::new(bytes.clone());
    let (cost, result) = allocated_bytes(|| (info.decode)(&mut reader, version));
    let bound = FIXED_BYTES + PER_INPUT_BYTE * bytes.len();
    assert!(cost <= bound, "{info:?} v{version} allocated {cost} bytes for {} bytes", bytes.len());
    if let Ok(message) = &result {
        let encoded = message.encode_any(&mut Writer::new(), version);
        assert!(encoded.is_ok(), "{info:?} v{version}: {encoded:?}");
    }
    result
}

#[test]
fn a_count_of_7f_ff_ff_ff_is_an_error_and_not_an_abort() {
    let error =
        MetadataRequest::decode(&mut Reader::new(Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff])), 1).unwrap_err();
    assert_eq!(*error.problem(), DecodeProblem::CountTooLarge { count: 0x7fff_ffff, remaining: 0 });
    assert_eq!((error.message(), error.field(), error.position()), ("MetadataRequest", "MetadataRequest.Topics", 4));
}

#[test]
fn a_count_of_7f_ff_ff_ff_anywhere_in_any_message_is_survived() {
    let mut dice = Dice::new(7);
    for (table, info) in pairs() {
        for version in table.versions.low..=table.versions.high {
            let valid = wire::random_message(&table, version, &mut dice);
            for at in 0..valid.len().min(400) {
                for pattern in [&[0x7f, 0xff, 0xff, 0xff][..], &[0xff, 0xff, 0xff, 0xff, 0x07], &[0x80, 0, 0, 0]] {
                    let mut bytes = valid.clone();
                    bytes.splice(at..(at + pattern.len()).min(valid.len()), pattern.iter().copied());
                    let _ = attack(info, version, &Bytes::from(bytes));
                }
            }
        }
    }
}

#[test]
fn a_truncated_message_is_an_error() {
    let mut dice = Dice::new(11);
    for (table, info) in pairs() {
        for version in table.versions.low..=table.versions.high {
            let valid = Bytes::from(wire::random_message(&table, version, &mut dice));
            for length in 0..valid.len().min(600) {
                let result = attack(info, version, &valid.slice(..length));
                assert!(result.is_err(), "{info:?} v{version}: {length} of {} bytes", valid.len());
            }
        }
    }
}

#[test]
fn many_small_elements_cost_a_bounded_multiple_of_their_bytes() {
    // A megabyte of zeros behind a count: as many elements as the bytes can hold, each as small as can be.
    for (table, info) in pairs() {
        for version in table.versions.low..=table.versions.high {
            for head in [&[0, 4, 0, 0][..], &[0xff, 0xff, 0x0f], &[0, 0, 0, 1, 0, 1, 0, 0]] {
                let mut bytes = head.to_vec();
                bytes.resize(1024 * 1024, 0);
                let _ = attack(info, version, &Bytes::from(bytes));
            }
        }
    }
}

#[test]
fn a_large_frame_of_nothing_but_empty_strings_is_refused() {
    // 64 MiB of zeros are 32 million topics without a name: more than 2 GiB in memory.
    let mut bytes = vec![0x01, 0xff, 0xff, 0xff];
    bytes.resize(64 * 1024 * 1024 + 4, 0);
    let bytes = Bytes::from(bytes);
    let (cost, result) = allocated_bytes(|| MetadataRequest::decode(&mut Reader::new(bytes), 1));
    assert_eq!(*result.unwrap_err().problem(), DecodeProblem::TooManyElements { count: 0x01ff_ffff });
    assert!(cost < 1024, "{cost} bytes");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn mutated_messages_are_survived(seed: u64) {
        let mut dice = Dice::new(seed);
        for (table, info) in pairs() {
            for version in table.versions.low..=table.versions.high {
                let mut bytes = wire::random_message(&table, version, &mut dice);
                for _ in 0..=dice.below(4) {
                    mutate(&mut bytes, &mut dice);
                }
                let _ = attack(info, version, &Bytes::from(bytes));
            }
        }
    }

    #[test]
    fn random_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(bytes);
        for (table, info) in pairs() {
            for version in table.versions.low..=table.versions.high {
                let _ = attack(info, version, &bytes);
            }
        }
    }

    #[test]
    fn random_requests_are_survived(seed: u64, key in 0_i16..100, version in -2_i16..20, body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut frame = Vec::new();
        frame.extend(key.to_be_bytes());
        frame.extend(version.to_be_bytes());
        frame.extend([0, 0, 0, 9, 0, 2, b'm', b'e', 0]);
        frame.extend(body);
        if Dice::new(seed).once_in(3) {
            mutate(&mut frame, &mut Dice::new(seed));
        }
        let _ = decode_any_request(Bytes::from(frame));
    }
}

fn mutate(bytes: &mut Vec<u8>, dice: &mut Dice) {
    let at = dice.below(bytes.len().max(1));
    match dice.below(5) {
        _ if bytes.is_empty() => bytes.push(0),
        0 => bytes[at] ^= 1 << dice.below(8),
        1 => bytes[at] = dice.bits().to_le_bytes()[0],
        2 => bytes.truncate(at),
        3 => bytes.insert(at, dice.bits().to_le_bytes()[0]),
        _ => drop(bytes.remove(at)),
    }
}

#[test]
fn what_follows_a_request_is_given_back() {
    let frame = protocol::frame::request(&ApiVersionsRequest::default(), 0, 5, Some("me".into())).unwrap().into_bytes();
    let mut bytes = frame[4..].to_vec();
    bytes.extend(b"tail");
    let request = decode_any_request(Bytes::from(bytes)).unwrap();
    assert_eq!(request.trailing, Bytes::from_static(b"tail"));
    assert_eq!(request.header.client_id.as_deref(), Some("me"));
    assert_eq!(request.body.info().name, "ApiVersionsRequest");
}
