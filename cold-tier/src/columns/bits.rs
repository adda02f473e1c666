//! Parquet's number encodings (format specification, "Encodings"): RLE / bit-packed hybrid for levels, and
//! DELTA_BINARY_PACKED.

/// Reads a level block of a version 1 page, four bytes of length and the hybrid, into one byte per level.
///
/// Levels above `2^bits − 1` cannot occur, those above what a column defines are the caller's to refuse.
pub(super) fn levels(bytes: &mut &[u8], bits: u32, count: usize, out: &mut Vec<u8>) -> Result<(), &'static str> {
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or("its levels are cut off")?;
    let len = u32::from_le_bytes(*len) as usize;
    let (mut block, rest) = rest.split_at_checked(len).ok_or("its levels are cut off")?;
    *bytes = rest;
    out.clear();
    let mask = (1_u8 << bits) - 1;
    while out.len() < count {
        let header = unsigned(&mut block).ok_or("its levels end early")?;
        let left = count - out.len();
        let run = usize::try_from(header >> 1).map_err(|_| "a run of levels is too long")?;
        if header & 1 == 0 {
            let (&level, rest) = block.split_first().ok_or("its levels end early")?;
            if run == 0 {
                return Err("a run of levels is empty");
            }
            out.resize(out.len() + run.min(left), level & mask);
            block = rest;
            continue;
        }
        // Groups of eight levels, `bits` bytes each, lowest bit first.
        let packed = run.checked_mul(bits as usize).ok_or("a run of levels is too long")?;
        let (packed, rest) = block.split_at_checked(packed.min(block.len())).ok_or("its levels end early")?;
        block = rest;
        let room = packed.len() * 8 / bits as usize;
        if room == 0 {
            return Err("a run of levels is empty");
        }
        for i in 0..room.min(left) {
            let bit = i * bits as usize;
            out.push((packed[bit / 8] >> (bit % 8)) & mask);
        }
    }
    Ok(())
}

/// Decodes exactly `count` numbers into `out`.
pub(super) fn delta_binary_packed(mut bytes: &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), &'static str> {
    const SHORT: &str = "its numbers are cut off";
    out.clear();
    let block_size = unsigned(&mut bytes).ok_or(SHORT)?;
    let miniblocks = unsigned(&mut bytes).ok_or(SHORT)?;
    let total = unsigned(&mut bytes).ok_or(SHORT)?;
    let mut value = signed(&mut bytes).ok_or(SHORT)?;
    if total != count as u64 {
        return Err("it holds another number of values");
    }
    // The specification asks for multiples of 128 and of 32; larger than 64 Ki is nobody's.
    let fits = (1..=256).contains(&miniblocks) && (1..=1 << 16).contains(&block_size) && block_size % miniblocks == 0;
    let per_miniblock = if fits { usize::try_from(block_size / miniblocks).unwrap_or(0) } else { 0 };
    if per_miniblock == 0 || !per_miniblock.is_multiple_of(32) {
        return Err("its blocks have an impossible size");
    }
    out.reserve(count);
    out.push(value);
    while out.len() < count {
        let min_delta = signed(&mut bytes).ok_or(SHORT)?;
        let (widths, rest) = bytes.split_at_checked(usize::try_from(miniblocks).unwrap_or(0)).ok_or(SHORT)?;
        bytes = rest;
        for &width in widths {
            let wanted = per_miniblock.min(count - out.len());
            if wanted == 0 {
                break;
            }
            if width > 64 {
                return Err("a number has more than 64 bits");
            }
            let width = usize::from(width);
            let packed = (per_miniblock * width / 8).min(bytes.len());
            if packed * 8 < wanted * width {
                return Err(SHORT);
            }
            let (packed, rest) = bytes.split_at(packed);
            bytes = rest;
            for i in 0..wanted {
                let delta = if width == 0 { 0 } else { unpack(packed, i * width, width) };
                value = value.wrapping_add(min_delta).wrapping_add(delta.cast_signed());
                out.push(value);
            }
        }
    }
    Ok(())
}

/// The `width` bits (1 to 64) from bit `at` on; the caller has made sure that they are there.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the mask leaves 64 bits at most")]
fn unpack(bytes: &[u8], at: usize, width: usize) -> u64 {
    let from = &bytes[at / 8..];
    let wide = match from.first_chunk::<16>() {
        Some(chunk) => u128::from_le_bytes(*chunk),
        None => {
            let mut chunk = [0; 16];
            chunk[..from.len()].copy_from_slice(from);
            u128::from_le_bytes(chunk)
        }
    };
    ((wide >> (at % 8)) & ((1_u128 << width) - 1)) as u64
}

pub(super) fn unsigned(bytes: &mut &[u8]) -> Option<u64> {
    model::batch::varint::read_u64(bytes)
}

fn signed(bytes: &mut &[u8]) -> Option<i64> {
    model::batch::varint::read_i64(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_run_and_a_packed_group_make_levels() {
        // Length 4: a run of 3 × 1, then one packed group of eight levels.
        let mut bytes: &[u8] = &[4, 0, 0, 0, 6, 1, 3, 0b1010_0101, 99];
        let mut out = Vec::new();
        levels(&mut bytes, 1, 10, &mut out).unwrap();
        assert_eq!((out, bytes), (vec![1, 1, 1, 1, 0, 1, 0, 0, 1, 0], &[99][..]));
        let mut bytes: &[u8] = &[3, 0, 0, 0, 3, 0b1110_0100, 0b0001_1011];
        let mut out = Vec::new();
        levels(&mut bytes, 2, 8, &mut out).unwrap();
        assert_eq!(out, [0, 1, 2, 3, 3, 2, 1, 0]);
    }

    #[test]
    fn the_specifications_example_decodes() {
        // 7, 5, 3, 1, 2, 3, 4, 5 (Parquet format, Encodings.md, example 2), blocks of 128 with 4 miniblocks.
        let mut bytes = vec![0x80, 0x01, 4, 8, 14, 3, 2, 0, 0, 0];
        bytes.extend([0b1100_0000, 0b0011_1111, 0, 0, 0, 0, 0, 0]);
        let mut out = Vec::new();
        delta_binary_packed(&bytes, 8, &mut out).unwrap();
        assert_eq!(out, [7, 5, 3, 1, 2, 3, 4, 5]);
        assert!(delta_binary_packed(&bytes, 9, &mut out).is_err());
        assert!(delta_binary_packed(&bytes[..11], 8, &mut out).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoders_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), count in 0..300_usize) {
            let (mut numbers, mut out) = (Vec::new(), Vec::new());
            let _ = delta_binary_packed(&bytes, count, &mut numbers);
            for bits in [1, 2] {
                let _ = levels(&mut &bytes[..], bits, count, &mut out);
                prop_assert!(out.len() <= count);
            }
        }

        #[test]
        fn a_plausible_head_with_any_body_does_not_panic(body in proptest::collection::vec(any::<u8>(), 0..400), count in 1..500_u16) {
            let mut bytes = vec![0x80, 0x01, 4];
            model::batch::varint::write_u64(&mut bytes, u64::from(count));
            bytes.extend(body);
            let _ = delta_binary_packed(&bytes, usize::from(count), &mut Vec::new());
        }
    }
}
