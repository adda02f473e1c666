//! Bounds of the primitives.

use super::*;

const F: &str = "Test.Field";

fn reader(bytes: &'static [u8]) -> Reader {
    Reader::new(Bytes::from_static(bytes))
}

#[test]
fn a_count_of_7f_ff_ff_ff_is_refused_before_anything_is_reserved() {
    let mut r = reader(&[0x7f, 0xff, 0xff, 0xff]);
    let error = r.array(false, F, 1, |r| r.i8(F)).unwrap_err();
    assert_eq!(*error.problem(), DecodeProblem::CountTooLarge { count: 0x7fff_ffff, remaining: 0 });
    assert_eq!(error.to_string(), "Test.Field at byte 4 claims 2147483647 elements, but only 0 bytes are left");
}

#[test]
fn a_count_is_held_against_the_size_of_the_elements() {
    let mut r = reader(&[0, 0, 0, 2, 1, 2, 3, 4, 5, 6, 7]);
    assert!(matches!(r.array(false, F, 4, |r| r.i32(F)).unwrap_err().problem(), DecodeProblem::CountTooLarge { .. }));
    let mut r = reader(&[0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 2]);
    assert_eq!(r.array(false, F, 4, |r| r.i32(F)).unwrap(), [1, 2]);
}

#[test]
fn elements_count_what_they_lead_to() {
    let mut r = reader(&[0, 0, 0, 3, 1, 2, 3]).with_element_budget(30, 9);
    assert_eq!(r.array(false, F, 1, |r| r.i8(F)).unwrap(), [1, 2, 3]);
    assert_eq!(r.element_bytes(), 3 * (9 + 1));
    let mut r = reader(&[0, 0, 0, 3, 1, 2, 3]).with_element_budget(29, 9);
    let error = r.array(false, F, 1, |r| r.i8(F)).unwrap_err();
    assert_eq!(*error.problem(), DecodeProblem::TooManyElements { count: 3 });
}

#[test]
fn null_and_negative_lengths_differ() {
    assert_eq!(reader(&[0xff, 0xff]).nullable_string(false, F), Ok(None));
    assert_eq!(reader(&[0]).nullable_string(true, F), Ok(None));
    assert_eq!(*reader(&[0xff, 0xff]).string(false, F).unwrap_err().problem(), DecodeProblem::Null);
    let error = reader(&[0xff, 0xfe]).nullable_string(false, F).unwrap_err();
    assert_eq!(*error.problem(), DecodeProblem::NegativeLength { length: -2 });
}

#[test]
fn a_number_of_variable_length_has_at_most_32_bits() {
    assert_eq!(reader(&[0xff, 0xff, 0xff, 0xff, 0x0f]).uvarint(F), Ok(u32::MAX));
    assert_eq!(reader(&[0xac, 0x02]).uvarint(F), Ok(300));
    for bytes in [&[0xff, 0xff, 0xff, 0xff, 0x1f][..], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x01]] {
        let mut r = Reader::new(Bytes::copy_from_slice(bytes));
        assert_eq!(*r.uvarint(F).unwrap_err().problem(), DecodeProblem::NumberTooLong);
    }
}

#[test]
fn strings_are_utf8_and_at_most_32767_bytes() {
    assert_eq!(*reader(&[0, 1, 0xff]).string(false, F).unwrap_err().problem(), DecodeProblem::NotUtf8);
    let mut long = vec![0x81, 0x80, 0x02];
    long.resize(40_000, b'a');
    let error = Reader::new(Bytes::from(long)).string(true, F).unwrap_err();
    assert_eq!(*error.problem(), DecodeProblem::StringTooLong { length: 32_768 });
}

#[test]
fn bytes_share_the_memory_of_the_frame() {
    let frame = Bytes::from(vec![0, 0, 0, 3, 7, 8, 9]);
    let bytes = Reader::new(frame.clone()).bytes(false, F).unwrap();
    assert_eq!(bytes.as_ptr(), frame[4..].as_ptr());
}

#[test]
fn tagged_fields_must_be_as_long_as_they_say() {
    let read = |bytes: &'static [u8]| {
        let mut value = 0;
        let mut r = reader(bytes);
        r.tags(F, |r, tag| {
            if tag == 0 {
                value = r.i16(F)?;
            }
            Ok(tag == 0)
        })
        .map(|unknown| (value, unknown))
    };
    assert_eq!(read(&[2, 0, 2, 0, 9, 5, 1, 0xee]), Ok((9, vec![(5, Bytes::from_static(&[0xee]))])));
    let error = read(&[1, 0, 3, 0, 9, 9]).unwrap_err();
    assert_eq!(*error.problem(), DecodeProblem::TagLength { tag: 0, declared: 3, taken: 2 });
    assert!(matches!(read(&[1, 9, 3, 0]).unwrap_err().problem(), DecodeProblem::UnexpectedEnd { .. }));
}
