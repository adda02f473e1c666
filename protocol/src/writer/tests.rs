//! Segments, lengths and tagged fields.

use super::*;
use crate::reader::Reader;

const F: &str = "Test.Field";

#[test]
fn large_records_are_referenced_and_small_ones_copied() {
    let (small, large) = (Bytes::from(vec![1; 10]), Bytes::from(vec![2; BY_REFERENCE_MIN_BYTES]));
    let mut w = Writer::new();
    w.records(false, F, Some(&small.clone().into())).unwrap();
    w.records(true, F, Some(&vec![large.clone(), small.clone(), large.clone()].into())).unwrap();
    w.i8(7);
    let frame = w.finish();
    assert_eq!(frame.segments.len(), 5);
    assert_eq!(frame.segments[1].as_ptr(), large.as_ptr());
    assert_eq!(frame.segments[3].as_ptr(), large.as_ptr());
    assert_eq!(frame.len, frame.segments.iter().map(Bytes::len).sum::<usize>());
    let bytes = frame.clone().into_bytes();
    assert_eq!(bytes[..4], (u32::try_from(frame.len).unwrap() - 4).to_be_bytes());
    let mut r = Reader::new(bytes.slice(4..));
    assert_eq!(r.bytes(false, F), Ok(small.clone()));
    assert_eq!(r.bytes(true, F), Ok([&large[..], &small, &large].concat().into()));
    assert_eq!(r.i8(F), Ok(7));
}

#[test]
fn large_bytes_are_referenced() {
    let large = Bytes::from(vec![2; BY_REFERENCE_MIN_BYTES]);
    let mut w = Writer::new();
    for _ in 0..1000 {
        w.bytes(true, F, &large).unwrap();
    }
    assert!(w.buffer.capacity() < 8 * BY_REFERENCE_MIN_BYTES, "the buffer has the lengths alone");
    assert!(w.finish().segments.iter().filter(|segment| segment.as_ptr() == large.as_ptr()).count() == 1000);
}

#[test]
fn a_message_without_a_frame_has_no_length_in_front() {
    let mut w = Writer::new();
    w.i16(0x0102);
    assert_eq!(w.len(), 2);
    assert_eq!(w.into_message(), Bytes::from_static(&[1, 2]));
    assert_eq!(Writer::new().finish().into_bytes(), Bytes::from_static(&[0; 4]));
}

#[test]
fn tagged_fields_of_any_length_keep_their_order_among_unknown_ones() {
    let content = Bytes::from(vec![3; 300]);
    let unknown = [(1, Bytes::from_static(b"x")), (9, Bytes::new())];
    let mut w = Writer::new();
    let mut tags = w.begin_tags(F, &unknown);
    w.tag(&mut tags, 0, |w| w.bytes(true, F, &content)).unwrap();
    w.tag(&mut tags, 5, |w| w.bytes(true, F, &Bytes::new())).unwrap();
    w.end_tags(tags).unwrap();
    let mut r = Reader::new(w.into_message());
    let all = r.unknown_tags(F).unwrap();
    assert_eq!(all.iter().map(|(tag, _)| *tag).collect::<Vec<_>>(), [0, 1, 5, 9]);
    assert_eq!(all[0].1.len(), 302);
    assert_eq!(r.remaining(), 0);
}

#[test]
fn more_than_127_tagged_fields_make_a_longer_count() {
    let unknown: Vec<(u32, Bytes)> = (0..300).map(|tag| (tag, Bytes::from_static(b"ab"))).collect();
    let mut w = Writer::new();
    w.unknown_tags(F, &unknown).unwrap();
    let mut r = Reader::new(w.into_message());
    assert_eq!(r.unknown_tags(F).unwrap(), unknown);
    assert_eq!(r.remaining(), 0);
}

#[test]
fn a_string_over_32767_bytes_is_refused() {
    let error = Writer::new().string(true, F, &Str::from("a".repeat(32_768))).unwrap_err();
    assert_eq!(error.to_string(), "Test.Field has a length of 32768, more than 32767");
}
