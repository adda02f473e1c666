//! Reading batches where they lie: nothing is copied, and nothing is trusted.

use super::header::checksum;
use super::{BatchError, BatchHeader, Compression, HEADER_LEN, RecordsBuffer, TimestampType, varint};

/// Walks over batches that lie back to back.
///
/// Ends after the last whole batch; a rest that is shorter than its batch yields one `Err(Truncated)` and ends too.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Batches<'a> {
    /// The batches in `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Batches { rest: bytes }
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<BatchView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = BatchView::parse(self.rest);
        self.rest = batch.as_ref().map_or(&[], |batch| &self.rest[batch.bytes.len()..]);
        Some(batch)
    }
}

/// One batch: its decoded header and exactly its bytes.
#[derive(Debug, Clone, Copy)]
pub struct BatchView<'a> {
    /// The header.
    pub header: BatchHeader,
    /// The batch, header included.
    pub bytes: &'a [u8],
}

impl<'a> BatchView<'a> {
    /// The batch at the start of `bytes`. The checksum is not looked at.
    ///
    /// # Errors
    /// As [`BatchHeader::parse`], and [`BatchError::Truncated`] when the batch is longer than `bytes`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(bytes)?;
        let needed = header.size_bytes();
        match bytes.get(..needed) {
            Some(bytes) => Ok(BatchView { header, bytes }),
            None => Err(BatchError::Truncated { needed, available: bytes.len() }),
        }
    }

    /// Compares the checksum.
    ///
    /// # Errors
    /// [`BatchError::Checksum`] with both values.
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let actual = checksum(self.bytes);
        if actual == self.header.crc {
            return Ok(());
        }
        let BatchHeader { base_offset, crc: expected, .. } = self.header;
        Err(BatchError::Checksum { base_offset, expected, actual })
    }

    /// The bytes behind the header: the records, perhaps compressed.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }

    /// The records; `buffer` is used when they are compressed.
    ///
    /// # Errors
    /// [`BatchError`] when the codec or the compressed block is bad, or larger than the buffer's limit.
    pub fn records<'b>(&self, buffer: &'b mut RecordsBuffer) -> Result<Records<'b>, BatchError>
    where
        'a: 'b,
    {
        let records = match self.header.attributes.compression()? {
            Compression::None => self.payload(),
            codec => buffer.fill(codec, self.payload())?,
        };
        Ok(Records { rest: records, header: self.header, next: 0 })
    }
}

/// The records of one batch, in order.
///
/// After an error the iterator ends. It yields as many records as the header counts; bytes behind the last one are an
/// error too.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
    header: BatchHeader,
    next: i32,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.header.record_count {
            if self.rest.is_empty() {
                return None;
            }
            return Some(Err(self.fail("bytes follow the last record that the header counts")));
        }
        match self.read() {
            Ok(record) => {
                self.next += 1;
                Some(Ok(record))
            }
            Err(what) => Some(Err(self.fail(what))),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // A record takes seven bytes at least: a lying count reserves nothing.
        let left = usize::try_from(self.header.record_count - self.next).unwrap_or(0);
        (0, Some(left.min(self.rest.len() / 7 + 1)))
    }
}

impl<'a> Records<'a> {
    fn fail(&mut self, what: &'static str) -> BatchError {
        let index = usize::try_from(self.next).unwrap_or(0);
        self.rest = &[];
        self.next = self.header.record_count;
        BatchError::Record { index, what }
    }

    #[inline]
    fn read(&mut self) -> Result<Record<'a>, &'static str> {
        let mut bytes = self.rest;
        let len = varint::read_i32(&mut bytes).ok_or("its length is no varint")?;
        let len = usize::try_from(len).map_err(|_| "its length is negative")?;
        if len > bytes.len() {
            return Err("it is longer than the batch");
        }
        let (mut body, rest) = bytes.split_at(len);
        let (_attributes, tail) = body.split_first().ok_or("it is empty")?;
        body = tail;
        let timestamp_delta = varint::read_i64(&mut body).ok_or("its timestamp is no varint")?;
        let offset_delta = varint::read_i32(&mut body).ok_or("its offset is no varint")?;
        let key = read_bytes(&mut body).ok_or("its key is cut off")?;
        let value = read_bytes(&mut body).ok_or("its value is cut off")?;
        let count = varint::read_i32(&mut body).ok_or("its header count is no varint")?;
        let count = usize::try_from(count).map_err(|_| "its header count is negative")?;
        // Two varints make the smallest header.
        if count > body.len() / 2 {
            return Err("it counts more headers than it has room for");
        }
        if count == 0 && !body.is_empty() {
            return Err("bytes follow its last field");
        }
        self.rest = rest;
        let header = &self.header;
        Ok(Record {
            offset: header.base_offset.wrapping_add(i64::from(offset_delta)),
            offset_delta,
            timestamp: match header.attributes.timestamp_type() {
                TimestampType::CreateTime => header.base_timestamp.wrapping_add(timestamp_delta),
                TimestampType::LogAppendTime => header.max_timestamp,
            },
            key,
            value,
            headers: Headers { rest: body, count },
        })
    }
}

#[inline]
#[allow(clippy::option_option, reason = "the outer one is 'malformed', the inner one is Kafka's null")]
fn read_bytes<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let len = varint::read_i32(bytes)?;
    if len < 0 {
        // Kafka writes −1 for null.
        return (len == -1).then_some(None);
    }
    let (value, rest) = bytes.split_at_checked(usize::try_from(len).ok()?)?;
    *bytes = rest;
    Some(Some(value))
}

/// One record, borrowed from its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the log.
    pub offset: i64,
    /// The same, relative to the batch's base offset.
    pub offset_delta: i32,
    /// Milliseconds since the epoch, or −1.
    pub timestamp: i64,
    /// The key, or null.
    pub key: Option<&'a [u8]>,
    /// The value, or null.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: Headers<'a>,
}

/// The headers of one record, in their order, duplicates included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers<'a> {
    rest: &'a [u8],
    count: usize,
}

impl<'a> Headers<'a> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Each header's key and value; a malformed one ends the iteration with an error. In batches that passed
    /// [`super::validate_produced`] none is malformed.
    pub fn iter(&self) -> impl Iterator<Item = Result<(&'a str, Option<&'a [u8]>), BatchError>> + use<'a> {
        let Headers { mut rest, count } = *self;
        let mut index = 0;
        std::iter::from_fn(move || {
            if index == count {
                return None;
            }
            let header = read_header(&mut rest).and_then(|header| {
                let is_last = index + 1 == count;
                if is_last && !rest.is_empty() { Err("bytes follow its last header") } else { Ok(header) }
            });
            index = if header.is_ok() { index + 1 } else { count };
            Some(header.map_err(|what| BatchError::Record { index, what }))
        })
    }
}

fn read_header<'a>(bytes: &mut &'a [u8]) -> Result<(&'a str, Option<&'a [u8]>), &'static str> {
    let key = read_bytes(bytes).ok_or("a header's key is cut off")?.ok_or("a header's key is null")?;
    let key = std::str::from_utf8(key).map_err(|_| "a header's key is not UTF-8")?;
    let value = read_bytes(bytes).ok_or("a header's value is cut off")?;
    Ok((key, value))
}
