//! Variable-length integers of the record format: protobuf's varint, zig-zag for signed values.

/// Reads a zig-zag varint of at most 64 bits; `None` when the bytes end or the number is longer than 10 bytes.
#[inline]
pub fn read_i64(bytes: &mut &[u8]) -> Option<i64> {
    let raw = read_u64(bytes)?;
    Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
}

/// Reads a zig-zag varint that must fit 32 bits.
#[inline]
pub fn read_i32(bytes: &mut &[u8]) -> Option<i32> {
    i32::try_from(read_i64(bytes)?).ok()
}

/// Reads an unsigned varint of at most 64 bits.
#[inline]
pub fn read_u64(bytes: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        *bytes = rest;
        return Some(u64::from(first));
    }
    read_u64_slow(bytes)
}

fn read_u64_slow(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (i, &byte) in bytes.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if i == 9 && bits > 1 {
            return None;
        }
        value |= bits << (7 * i);
        if byte < 0x80 {
            *bytes = &bytes[i + 1..];
            return Some(value);
        }
    }
    None
}

/// Appends `value` as a zig-zag varint: 1 to 10 bytes.
#[inline]
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    write_u64(out, zig_zag(value));
}

/// Appends `value` as an unsigned varint: 1 to 10 bytes.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the low seven bits are what is meant")]
pub fn write_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`write_i64`] takes for `value`.
#[inline]
#[must_use]
pub fn len_i64(value: i64) -> usize {
    let bits = 64 - (zig_zag(value) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn zig_zag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_that_do_not_end_or_overflow_are_refused() {
        for bytes in [&[][..], &[0x80], &[0xff; 10], &[0xff; 20]] {
            assert_eq!(read_u64(&mut &bytes[..]), None, "{bytes:x?}");
        }
        assert_eq!(read_i32(&mut &[0xfe, 0xff, 0xff, 0xff, 0x7f][..]), None);
    }

    proptest! {
        #[test]
        fn a_number_survives_and_has_the_length_that_is_told(value: i64) {
            let mut out = Vec::new();
            write_i64(&mut out, value);
            prop_assert_eq!(out.len(), len_i64(value));
            let mut rest = &out[..];
            prop_assert_eq!(read_i64(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
        }
    }
}
