//! [`Writer`]: the primitives of encoding. Everything small goes into one buffer; large record batches and other bytes stay
//! where they lie and are put between the pieces of that buffer by [`Writer::finish`], ready for a vectored write.

use bytes::Bytes;
use uuid::Uuid;

use crate::error::{EncodeError, EncodeProblem};
use crate::reader::MAX_STRING_BYTES;
use crate::records::Records;
use crate::text::Str;

/// From this size on, records and bytes are referenced instead of copied: below, one more segment costs more than the copy.
pub const BY_REFERENCE_MIN_BYTES: usize = 4096;

/// Size of the frame's length, in front of everything.
const LENGTH_BYTES: usize = 4;

/// The largest frame that its length can state, without the length itself.
const MAX_FRAME_BYTES: usize = i32::MAX as usize;

/// A frame ready to be sent: the segments in their order, the four bytes of its length first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frame {
    /// None is empty.
    pub segments: Vec<Bytes>,
    /// Size of all segments in bytes, the length in front included.
    pub len: usize,
}

impl Frame {
    /// The whole frame in one piece; copies unless it is one segment.
    pub fn into_bytes(self) -> Bytes {
        match <[Bytes; 1]>::try_from(self.segments) {
            Ok([only]) => only,
            Err(segments) => Bytes::from(segments.concat()),
        }
    }
}

/// Writes messages one behind the other, then yields a [`Frame`].
#[derive(Debug)]
pub struct Writer {
    /// All bytes but those in `references`; starts with room for the length.
    buffer: Vec<u8>,
    /// Bytes that stand before `buffer[position]`, in ascending order of position.
    references: Vec<(usize, Bytes)>,
    /// Sum of the references' sizes.
    referenced_bytes: usize,
    /// How many tagged fields are open: within these, sizes come first and so everything is copied.
    open_tags: usize,
}

/// A section of tagged fields that is being written.
#[derive(Debug)]
pub struct TagSection<'a> {
    label: &'static str,
    unknown: &'a [(u32, Bytes)],
    count_at: usize,
    count: usize,
}

macro_rules! numbers {
    ($($name:ident)*) => {$(
        #[doc = concat!("Writes a big-endian `", stringify!($name), "`.")]
        #[inline]
        pub fn $name(&mut self, value: $name) {
            self.buffer.extend_from_slice(&value.to_be_bytes());
        }
    )*};
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

/// The names of fields given to these methods are for errors only.
impl Writer {
    /// With room for a small message.
    pub fn new() -> Self {
        Self::with_capacity(256)
    }

    /// With room for `bytes` (large records not counted) before it has to grow.
    pub fn with_capacity(bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(LENGTH_BYTES + bytes);
        buffer.extend_from_slice(&[0; LENGTH_BYTES]);
        Self { buffer, references: Vec::new(), referenced_bytes: 0, open_tags: 0 }
    }

    /// How many bytes were written, referenced ones included, the frame's length not.
    pub fn len(&self) -> usize {
        self.buffer.len() - LENGTH_BYTES + self.referenced_bytes
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The frame: its length, then everything written.
    pub fn finish(mut self) -> Frame {
        // Every message's encode ends with `check_size`, so that the length always fits.
        let length = u32::try_from(self.len()).unwrap_or(u32::MAX);
        self.buffer[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        let len = LENGTH_BYTES + self.len();
        Frame { segments: self.into_segments(0), len }
    }

    /// Everything written as one piece without a length in front: for messages inside of records and `bytes` fields.
    pub fn into_message(self) -> Bytes {
        let len = self.len();
        Frame { segments: self.into_segments(LENGTH_BYTES), len }.into_bytes()
    }

    fn into_segments(self, mut start: usize) -> Vec<Bytes> {
        let buffer = Bytes::from(self.buffer);
        let mut segments = Vec::with_capacity(1 + 2 * self.references.len());
        for (position, bytes) in self.references {
            segments.push(buffer.slice(start..position));
            segments.push(bytes);
            start = position;
        }
        segments.push(buffer.slice(start..));
        segments.retain(|segment| !segment.is_empty());
        segments
    }

    numbers!(i8 i16 i32 i64 u16 u32 f64);

    /// Writes one byte.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.buffer.push(u8::from(value));
    }

    /// Writes 16 bytes.
    #[inline]
    pub fn uuid(&mut self, value: Uuid) {
        self.buffer.extend_from_slice(value.as_bytes());
    }

    /// Writes an unsigned number of variable length.
    #[inline]
    pub fn uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.push((value & 0x7f) as u8);
    }

    /// Writes a string of at most 32,767 bytes.
    #[inline]
    pub fn string(&mut self, flexible: bool, field: &'static str, value: &Str) -> Result<(), EncodeError> {
        let length = value.len();
        let short = i16::try_from(length).map_err(|_| too_long(field, length, MAX_STRING_BYTES))?;
        if flexible {
            self.uvarint(u32::from(short.unsigned_abs()) + 1);
        } else {
            self.i16(short);
        }
        self.buffer.extend_from_slice(value.as_bytes());
        Ok(())
    }

    /// Writes a string or null.
    #[inline]
    pub fn nullable_string(
        &mut self,
        flexible: bool,
        field: &'static str,
        value: Option<&Str>,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.string(flexible, field, value)?,
            None if flexible => self.uvarint(0),
            None => self.i16(-1),
        }
        Ok(())
    }

    /// Writes bytes. From [`BY_REFERENCE_MIN_BYTES`] on they are not copied.
    pub fn bytes(&mut self, flexible: bool, field: &'static str, value: &Bytes) -> Result<(), EncodeError> {
        self.array_length(flexible, field, value.len())?;
        self.content(value);
        Ok(())
    }

    /// Writes bytes or null, as [`Writer::bytes`].
    pub fn nullable_bytes(
        &mut self,
        flexible: bool,
        field: &'static str,
        value: Option<&Bytes>,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.bytes(flexible, field, value)?,
            None => self.null_array(flexible),
        }
        Ok(())
    }

    /// Writes record batches or null. From [`BY_REFERENCE_MIN_BYTES`] on they are not copied.
    pub fn records(&mut self, flexible: bool, field: &'static str, value: Option<&Records>) -> Result<(), EncodeError> {
        let Some(records) = value else {
            self.null_array(flexible);
            return Ok(());
        };
        self.array_length(flexible, field, records.len())?;
        records.slices().iter().for_each(|slice| self.content(slice));
        Ok(())
    }

    /// Writes bytes by reference, or a copy where they are few or within a tagged field.
    fn content(&mut self, bytes: &Bytes) {
        if bytes.len() >= BY_REFERENCE_MIN_BYTES && self.open_tags == 0 {
            self.references.push((self.buffer.len(), bytes.clone()));
            self.referenced_bytes += bytes.len();
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Writes the count of an array's elements, or the length of bytes.
    #[inline]
    pub fn array_length(&mut self, flexible: bool, field: &'static str, length: usize) -> Result<(), EncodeError> {
        let short = i32::try_from(length).map_err(|_| too_long(field, length, MAX_FRAME_BYTES))?;
        if flexible {
            self.uvarint(short.unsigned_abs() + 1);
        } else {
            self.i32(short);
        }
        Ok(())
    }

    /// Writes an array or bytes that are null.
    pub fn null_array(&mut self, flexible: bool) {
        if flexible { self.uvarint(0) } else { self.i32(-1) }
    }

    /// Writes the marker in front of a struct that may be null: 1 or −1; in a tagged field 1 or 0.
    pub fn presence(&mut self, is_tagged: bool, is_present: bool) {
        self.i8(match (is_present, is_tagged) {
            (true, _) => 1,
            (false, true) => 0,
            (false, false) => -1,
        });
    }

    /// Refuses null where it is not allowed.
    pub fn allow_null(
        &self,
        allowed: bool,
        field: &'static str,
        version: i16,
        is_null: bool,
    ) -> Result<(), EncodeError> {
        if is_null && !allowed { Err(EncodeError::new(field, EncodeProblem::Null { version })) } else { Ok(()) }
    }

    /// The error for a field that is set but which the version lacks.
    #[cold]
    pub fn not_in_version(&self, field: &'static str, version: i16) -> EncodeError {
        EncodeError::new(field, EncodeProblem::NotInVersion { version })
    }

    /// Refuses a version that a message does not have.
    #[inline]
    pub fn check_version(&self, message: &'static str, version: i16, min: i16, max: i16) -> Result<(), EncodeError> {
        if version < min || version > max {
            return Err(EncodeError::new(message, EncodeProblem::UnsupportedVersion { version, min, max }));
        }
        Ok(())
    }

    /// Refuses what no frame can hold; every message's encode ends with it.
    #[inline]
    pub fn check_size(&self, message: &'static str) -> Result<(), EncodeError> {
        let length = self.len();
        if length > MAX_FRAME_BYTES { Err(too_long(message, length, MAX_FRAME_BYTES)) } else { Ok(()) }
    }

    /// Writes a section of tagged fields of which none is known.
    #[inline]
    pub fn unknown_tags(&mut self, label: &'static str, unknown: &[(u32, Bytes)]) -> Result<(), EncodeError> {
        if unknown.is_empty() {
            self.buffer.push(0);
            return Ok(());
        }
        let tags = self.begin_tags(label, unknown);
        self.end_tags(tags)
    }

    /// Opens a section of tagged fields; the unknown ones are put in their places among the known.
    #[inline]
    pub fn begin_tags<'a>(&mut self, label: &'static str, unknown: &'a [(u32, Bytes)]) -> TagSection<'a> {
        self.buffer.push(0);
        TagSection { label, unknown, count_at: self.buffer.len() - 1, count: 0 }
    }

    /// Writes one tagged field; tags come in ascending order.
    pub fn tag(
        &mut self,
        tags: &mut TagSection<'_>,
        tag: u32,
        write: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.unknown_below(tags, Some(tag))?;
        self.uvarint(tag);
        let at = self.buffer.len();
        self.buffer.push(0);
        self.open_tags += 1;
        let written = write(self);
        self.open_tags -= 1;
        written?;
        tags.count += 1;
        self.fill_in(at, self.buffer.len() - at - 1, tags.label)
    }

    /// Closes a section of tagged fields.
    #[inline]
    pub fn end_tags(&mut self, mut tags: TagSection<'_>) -> Result<(), EncodeError> {
        self.unknown_below(&mut tags, None)?;
        self.fill_in(tags.count_at, tags.count, tags.label)
    }

    fn unknown_below(&mut self, tags: &mut TagSection<'_>, limit: Option<u32>) -> Result<(), EncodeError> {
        while let Some(((tag, content), rest)) = tags.unknown.split_first() {
            if limit.is_some_and(|limit| *tag >= limit) {
                break;
            }
            let length =
                u32::try_from(content.len()).map_err(|_| too_long(tags.label, content.len(), MAX_FRAME_BYTES))?;
            self.uvarint(*tag);
            self.uvarint(length);
            self.buffer.extend_from_slice(content);
            tags.unknown = rest;
            tags.count += 1;
        }
        Ok(())
    }

    /// Replaces the zero at `at` by a number of variable length. What is behind moves if that takes more than a byte.
    fn fill_in(&mut self, at: usize, value: usize, label: &'static str) -> Result<(), EncodeError> {
        let mut value = u32::try_from(value).map_err(|_| too_long(label, value, MAX_FRAME_BYTES))?;
        let mut digits = [0; 5];
        let mut count = 0;
        while value >= 0x80 {
            digits[count] = (value & 0x7f) as u8 | 0x80;
            value >>= 7;
            count += 1;
        }
        digits[count] = (value & 0x7f) as u8;
        self.buffer[at] = digits[0];
        if count > 0 {
            self.buffer.splice(at + 1..at + 1, digits[1..=count].iter().copied());
        }
        Ok(())
    }
}

#[cold]
fn too_long(field: &'static str, length: usize, max: usize) -> EncodeError {
    EncodeError::new(field, EncodeProblem::TooLong { length, max })
}

#[cfg(test)]
mod tests;
