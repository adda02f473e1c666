//! CRC-32C, and a writer that computes it for marked ranges as they pass.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::ops::Range;

use crc_fast::{CrcAlgorithm, Digest};

/// CRC-32C (Castagnoli, RFC 3720) of `bytes`.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    narrow(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes))
}

/// A running CRC-32C.
pub(crate) struct Sum(Digest);

impl Sum {
    pub(crate) fn new() -> Self {
        Sum(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn value(&self) -> u32 {
        narrow(self.0.finalize())
    }
}

fn narrow(crc: u64) -> u32 {
    // A 32-bit checksum in a 64-bit number.
    u32::try_from(crc).unwrap_or(0)
}

/// A writer that sums up ranges of what passes through it.
///
/// Ranges are announced in ascending order and before their bytes; several may belong to the same sum, which then runs
/// over their bytes in order. Each range also has a checksum of its own.
pub(crate) struct Metered<W> {
    inner: W,
    position: u64,
    ranges: VecDeque<(Range<u64>, usize)>,
    sums: Vec<Running>,
    total: Option<Sum>,
}

/// A sum over several ranges that is not complete.
struct Running {
    all: Sum,
    /// The range that is passing.
    current: Sum,
    ranges: Vec<u32>,
}

/// The checksums of some ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sums {
    /// Over the bytes of all of them, in order.
    pub(crate) all: u32,
    /// Of each of them.
    pub(crate) ranges: Box<[u32]>,
}

impl<W> Metered<W> {
    pub(crate) fn new(inner: W) -> Self {
        Metered { inner, position: 0, ranges: VecDeque::new(), sums: Vec::new(), total: None }
    }

    /// The bytes in `range` belong to the sum number `sum`.
    pub(crate) fn meter(&mut self, range: Range<u64>, sum: usize) {
        while self.sums.len() <= sum {
            self.sums.push(Running { all: Sum::new(), current: Sum::new(), ranges: Vec::new() });
        }
        self.ranges.push_back((range, sum));
    }

    /// The sums, by number; all announced bytes must have passed.
    pub(crate) fn take_sums(&mut self) -> Vec<Sums> {
        let sums = std::mem::take(&mut self.sums).into_iter();
        sums.map(|sum| Sums { all: sum.all.value(), ranges: sum.ranges.into() }).collect()
    }

    /// From here on every byte is summed up.
    pub(crate) fn start_total(&mut self) {
        self.total = Some(Sum::new());
    }

    /// The inner writer, and the sum since [`Self::start_total`].
    pub(crate) fn into_parts(self) -> (W, u32) {
        (self.inner, self.total.map_or(0, |sum| sum.value()))
    }

    fn account(&mut self, bytes: &[u8]) {
        if let Some(total) = &mut self.total {
            total.update(bytes);
        }
        let end = self.position + bytes.len() as u64;
        while let Some((range, sum)) = self.ranges.front() {
            let (from, to) = (range.start.max(self.position), range.end.min(end));
            let sum = &mut self.sums[*sum];
            if from < to {
                let slice = |at: u64| usize::try_from(at - self.position).unwrap_or(usize::MAX);
                let passing = &bytes[slice(from)..slice(to)];
                sum.all.update(passing);
                sum.current.update(passing);
            }
            if range.end > end {
                break;
            }
            sum.ranges.push(std::mem::replace(&mut sum.current, Sum::new()).value());
            self.ranges.pop_front();
        }
        self.position = end;
    }
}

impl<W: Write> Write for Metered<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.account(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn ranges_are_summed_up_however_the_bytes_arrive() {
        let data: Vec<u8> = (0..=255).collect();
        for step in [1, 3, 64, 300] {
            let mut meter = Metered::new(Vec::new());
            meter.meter(4..10, 0);
            meter.meter(10..100, 1);
            meter.meter(100..130, 0);
            for piece in data.chunks(step) {
                meter.write_all(piece).unwrap();
            }
            let zero = [&data[4..10], &data[100..130]].concat();
            let pieces = [crc32c(&data[4..10]), crc32c(&data[100..130])];
            let one = crc32c(&data[10..100]);
            let expected =
                [Sums { all: crc32c(&zero), ranges: pieces.into() }, Sums { all: one, ranges: [one].into() }];
            assert_eq!(meter.take_sums(), expected);
        }
    }
}
