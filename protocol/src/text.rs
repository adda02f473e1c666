//! [`Str`]: text that shares the bytes of the frame it came in.
//!
//! Invariant: the bytes are valid UTF-8; every constructor either takes a `str` or checks.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt::{self, Debug, Display};
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::str::Utf8Error;

use bytes::Bytes;

/// A cheaply cloned string: a view of UTF-8 bytes that may belong to a whole frame. What outlives the request should be
/// copied (`String::from(&*text)`), since a small view keeps the frame's memory.
#[derive(Clone, Default)]
pub struct Str(Bytes);

impl Str {
    /// Text that lives as long as the program; nothing is allocated.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// Takes bytes as they are.
    ///
    /// # Errors
    /// Where they are not UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Result<Self, Utf8Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Self(bytes))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // SAFETY: the invariant of this file. Checking again at each use would cost more than decoding did.
        #[allow(unsafe_code)]
        unsafe {
            std::str::from_utf8_unchecked(&self.0)
        }
    }

    /// The bytes of the text, shared.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl Deref for Str {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Str {
    fn as_ref(&self) -> &str {
        self
    }
}

impl Borrow<str> for Str {
    fn borrow(&self) -> &str {
        self
    }
}

impl From<&str> for Str {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Str {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl From<&String> for Str {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Str> for String {
    fn from(text: Str) -> Self {
        text.as_str().to_owned()
    }
}

impl PartialEq for Str {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Str {}

impl PartialEq<str> for Str {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Str {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl PartialOrd for Str {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Str {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Str {
    // The same as of `str`, which `Borrow` demands.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Debug for Str {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(self.as_str(), out)
    }
}

impl Display for Str {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self.as_str(), out)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        assert!(Str::from_utf8(Bytes::from_static(&[0xff])).is_err());
        assert_eq!(Str::from_utf8(Bytes::from_static("æ".as_bytes())).unwrap(), "æ");
    }

    #[test]
    fn a_map_of_str_is_found_by_a_plain_string() {
        let map = HashMap::from([(Str::from("topic"), 1)]);
        assert_eq!(map.get("topic"), Some(&1));
    }

    #[test]
    fn text_prints_and_compares_as_a_string() {
        let text = Str::from("a\"b".to_owned());
        assert_eq!(format!("{text} {text:?}"), "a\"b \"a\\\"b\"");
        assert!(text < Str::from_static("b"));
        assert_ne!(text, "b");
        assert!(Str::default().is_empty());
    }
}
