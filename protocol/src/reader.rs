//! [`Reader`]: the primitives of decoding. All bounds live here: a length or count is compared with what is left before
//! anything is taken or reserved, and memory is reserved only in small steps as elements really decode.

use bytes::Bytes;
use uuid::Uuid;

use crate::error::{DecodeError, DecodeProblem};
use crate::records::Records;
use crate::text::Str;

/// What an array may reserve before its first element was read; it grows from there as elements decode.
const MAX_PREALLOCATION_BYTES: usize = 64 * 1024;

/// What the elements of all arrays of a frame may take in memory: a fixed part, and a multiple of the frame. Elements are
/// larger in memory than on the wire, an empty string by a factor of 16; honest messages stay below a factor of 8.
const ELEMENT_BUDGET_BYTES: usize = 32 * 1024 * 1024;
const ELEMENT_BUDGET_PER_FRAME_BYTE: usize = 8;

/// Kafka's limit for strings, whatever the width of the length.
pub(crate) const MAX_STRING_BYTES: usize = 0x7fff;

/// Reads one message after the other from bytes. Strings, bytes and records are views of these bytes.
#[derive(Debug, Clone)]
pub struct Reader {
    bytes: Bytes,
    position: usize,
    /// How many bytes of memory further elements may take.
    element_budget: usize,
    /// What each element counts beyond its size in memory.
    each_bytes: usize,
    /// What elements have counted so far.
    element_bytes: usize,
}

macro_rules! numbers {
    ($($name:ident)*) => {$(
        #[doc = concat!("Reads a big-endian `", stringify!($name), "`.")]
        #[inline]
        pub fn $name(&mut self, field: &'static str) -> Result<$name, DecodeError> {
            Ok($name::from_be_bytes(*self.fixed(field)?))
        }
    )*};
}

/// The names of fields given to these methods are for errors only.
impl Reader {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: Bytes) -> Self {
        let element_budget = default_budget(bytes.len());
        Self { bytes, position: 0, element_budget, each_bytes: 0, element_bytes: 0 }
    }

    /// Lets the elements of further arrays count at most `budget_bytes`: their size in memory, and `each_bytes` more for
    /// each, which covers everything else that an element leads to.
    #[must_use]
    pub fn with_element_budget(self, budget_bytes: usize, each_bytes: usize) -> Self {
        Self { element_budget: budget_bytes, each_bytes, element_bytes: 0, ..self }
    }

    /// The same reader with the budget that [`Reader::new`] gives.
    #[must_use]
    pub(crate) fn with_default_budget(self) -> Self {
        let budget_bytes = default_budget(self.bytes.len());
        self.with_element_budget(budget_bytes, 0)
    }

    /// What the elements of arrays have counted since their budget was set.
    pub fn element_bytes(&self) -> usize {
        self.element_bytes
    }

    /// How many bytes were read.
    pub fn position(&self) -> usize {
        self.position
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    numbers!(i8 i16 i32 i64 u16 u32 f64);

    /// Reads a byte; all but 0 is true, as in Kafka.
    #[inline]
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.i8(field)? != 0)
    }

    /// Reads 16 bytes.
    pub fn uuid(&mut self, field: &'static str) -> Result<Uuid, DecodeError> {
        Ok(Uuid::from_bytes(*self.fixed(field)?))
    }

    /// Reads an unsigned number of variable length, at most 32 bits.
    #[inline]
    pub fn uvarint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let [first] = *self.fixed(field)?;
        if first < 0x80 { Ok(u32::from(first)) } else { self.long_uvarint(first, field) }
    }

    fn long_uvarint(&mut self, first: u8, field: &'static str) -> Result<u32, DecodeError> {
        let mut value = u32::from(first & 0x7f);
        for shift in [7, 14, 21, 28] {
            let [byte] = *self.fixed(field)?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.error(field, DecodeProblem::NumberTooLong))
    }

    /// Reads a string that may not be null.
    pub fn string(&mut self, flexible: bool, field: &'static str) -> Result<Str, DecodeError> {
        self.nullable_string(flexible, field)?.ok_or_else(|| self.error(field, DecodeProblem::Null))
    }

    /// Reads a string of at most 32,767 bytes, or null.
    pub fn nullable_string(&mut self, flexible: bool, field: &'static str) -> Result<Option<Str>, DecodeError> {
        let length = if flexible {
            self.compact_length(field)?
        } else {
            let length = i32::from(self.i16(field)?);
            self.length(length, field)?
        };
        let Some(length) = length else { return Ok(None) };
        if length > MAX_STRING_BYTES {
            return Err(self.error(field, DecodeProblem::StringTooLong { length }));
        }
        let at = self.position;
        let bytes = self.take(length, field)?;
        Str::from_utf8(bytes).map(Some).map_err(|_| DecodeError::new(field, at, DecodeProblem::NotUtf8))
    }

    /// Reads bytes that may not be null; they share the memory of the frame.
    pub fn bytes(&mut self, flexible: bool, field: &'static str) -> Result<Bytes, DecodeError> {
        self.nullable_bytes(flexible, field)?.ok_or_else(|| self.error(field, DecodeProblem::Null))
    }

    /// Reads bytes or null; they share the memory of the frame.
    pub fn nullable_bytes(&mut self, flexible: bool, field: &'static str) -> Result<Option<Bytes>, DecodeError> {
        match self.length_of_either_form(flexible, field)? {
            None => Ok(None),
            Some(length) => self.take(length, field).map(Some),
        }
    }

    /// Reads record batches or null; they share the memory of the frame.
    pub fn records(&mut self, flexible: bool, field: &'static str) -> Result<Option<Records>, DecodeError> {
        Ok(self.nullable_bytes(flexible, field)?.map(Records::from))
    }

    /// Reads an array that may not be null, see [`Reader::nullable_array`].
    pub fn array<T>(
        &mut self,
        flexible: bool,
        field: &'static str,
        smallest: usize,
        read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_array(flexible, field, smallest, read)?.ok_or_else(|| self.error(field, DecodeProblem::Null))
    }

    /// Reads an array or null. `smallest` is the least number of bytes that one element takes: a count is refused if
    /// that many elements cannot follow.
    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        field: &'static str,
        smallest: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.length_of_either_form(flexible, field)? else { return Ok(None) };
        if count > self.remaining() / smallest.max(1) {
            return Err(self.error(field, DecodeProblem::CountTooLarge { count, remaining: self.remaining() }));
        }
        self.charge(count, size_of::<T>(), field)?;
        let affordable = MAX_PREALLOCATION_BYTES / size_of::<T>().max(1);
        let mut elements = Vec::with_capacity(count.min(affordable));
        for _ in 0..count {
            if elements.len() == elements.capacity() {
                // Doubles, but never beyond the count.
                elements.reserve_exact((count - elements.len()).min(elements.len().max(1)));
            }
            elements.push(read(self)?);
        }
        Ok(Some(elements))
    }

    /// Reads the marker in front of a struct that may be null: 1 or −1; in a tagged field 1 or 0.
    pub fn is_present(&mut self, is_tagged: bool, field: &'static str) -> Result<bool, DecodeError> {
        match self.i8(field)? {
            1 => Ok(true),
            -1 if !is_tagged => Ok(false),
            0 if is_tagged => Ok(false),
            _ => Err(self.error(field, DecodeProblem::BadPresence)),
        }
    }

    /// Passes a value on, except null where it is not allowed.
    pub fn allow_null<T>(
        &self,
        allowed: bool,
        field: &'static str,
        value: Option<T>,
    ) -> Result<Option<T>, DecodeError> {
        if value.is_none() && !allowed { Err(self.error(field, DecodeProblem::Null)) } else { Ok(value) }
    }

    /// Reads a section of tagged fields of which none is known.
    #[inline]
    pub fn unknown_tags(&mut self, field: &'static str) -> Result<Vec<(u32, Bytes)>, DecodeError> {
        match self.uvarint(field)? {
            0 => Ok(Vec::new()),
            count => self.tagged_fields(count, field, &mut |_, _| Ok(false)),
        }
    }

    /// Reads a section of tagged fields (KIP-482). `known` reads the content of a tag it knows and says so; the others
    /// are returned as they are.
    #[inline]
    pub fn tags(
        &mut self,
        field: &'static str,
        mut known: impl FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<Vec<(u32, Bytes)>, DecodeError> {
        match self.uvarint(field)? {
            0 => Ok(Vec::new()),
            count => self.tagged_fields(count, field, &mut known),
        }
    }

    fn tagged_fields(
        &mut self,
        count: u32,
        field: &'static str,
        known: &mut dyn FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<Vec<(u32, Bytes)>, DecodeError> {
        let mut unknown = Vec::new();
        for _ in 0..count {
            self.charge(1, size_of::<(u32, Bytes)>(), field)?;
            let tag = self.uvarint(field)?;
            let declared = self.uvarint(field)? as usize;
            self.check_remaining(declared, field)?;
            let start = self.position;
            if !known(self, tag)? {
                unknown.push((tag, self.take(declared, field)?));
            }
            let taken = self.position - start;
            if taken != declared {
                return Err(DecodeError::new(field, start, DecodeProblem::TagLength { tag, declared, taken }));
            }
        }
        Ok(unknown)
    }

    /// Refuses a version that a message does not have.
    #[inline]
    pub fn check_version(&self, message: &'static str, version: i16, min: i16, max: i16) -> Result<(), DecodeError> {
        if version < min || version > max {
            return Err(self.error(message, DecodeProblem::UnsupportedVersion { version, min, max }));
        }
        Ok(())
    }

    /// All that is left.
    pub fn into_rest(self) -> Bytes {
        self.bytes.slice(self.position..)
    }

    #[inline]
    fn length_of_either_form(&mut self, flexible: bool, field: &'static str) -> Result<Option<usize>, DecodeError> {
        if flexible {
            self.compact_length(field)
        } else {
            let length = self.i32(field)?;
            self.length(length, field)
        }
    }

    /// A length plus one, 0 for null.
    #[inline]
    fn compact_length(&mut self, field: &'static str) -> Result<Option<usize>, DecodeError> {
        Ok((self.uvarint(field)? as usize).checked_sub(1))
    }

    /// A length, −1 for null.
    #[inline]
    fn length(&self, length: i32, field: &'static str) -> Result<Option<usize>, DecodeError> {
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(self.error(field, DecodeProblem::NegativeLength { length })),
        }
    }

    #[inline]
    fn take(&mut self, length: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        self.check_remaining(length, field)?;
        let start = self.position;
        self.position += length;
        Ok(self.bytes.slice(start..self.position))
    }

    #[inline]
    fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<&[u8; N], DecodeError> {
        match self.bytes[self.position..].first_chunk::<N>() {
            Some(chunk) => {
                self.position += N;
                Ok(chunk)
            }
            None => Err(self.error(field, DecodeProblem::UnexpectedEnd { needed: N, remaining: self.remaining() })),
        }
    }

    /// Takes elements of a size from the budget.
    #[inline]
    fn charge(&mut self, count: usize, size_bytes: usize, field: &'static str) -> Result<(), DecodeError> {
        let bytes = count.saturating_mul(size_bytes.saturating_add(self.each_bytes));
        match self.element_budget.checked_sub(bytes) {
            Some(rest) => {
                self.element_budget = rest;
                self.element_bytes += bytes;
                Ok(())
            }
            None => Err(self.error(field, DecodeProblem::TooManyElements { count })),
        }
    }

    #[inline]
    fn check_remaining(&self, needed: usize, field: &'static str) -> Result<(), DecodeError> {
        let remaining = self.remaining();
        if needed > remaining {
            return Err(self.error(field, DecodeProblem::UnexpectedEnd { needed, remaining }));
        }
        Ok(())
    }

    #[cold]
    pub(crate) fn error(&self, field: &'static str, problem: DecodeProblem) -> DecodeError {
        DecodeError::new(field, self.position, problem)
    }
}

fn default_budget(frame_bytes: usize) -> usize {
    ELEMENT_BUDGET_BYTES + ELEMENT_BUDGET_PER_FRAME_BYTE.saturating_mul(frame_bytes)
}

#[cfg(test)]
mod tests;
