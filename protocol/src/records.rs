//! Record batches in a message: what a producer sends, and what a fetch brings back from one or more places.

use bytes::{Bytes, BytesMut};

/// Record batches, back to back over any number of slices. A message that is read has one slice, which shares the frame's
/// memory; a message that is written takes its slices from where they lie.
#[derive(Debug, Clone, Default)]
pub struct Records(Vec<Bytes>);

impl Records {
    /// Bytes of all slices.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// Whether there is no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    /// The slices, in order.
    #[must_use]
    pub fn slices(&self) -> &[Bytes] {
        &self.0
    }

    /// The records as one piece; copied only where there are several.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        if self.0.len() <= 1 {
            return self.0.pop().unwrap_or_default();
        }
        let mut joined = BytesMut::with_capacity(self.len());
        self.0.iter().for_each(|slice| joined.extend_from_slice(slice));
        joined.freeze()
    }
}

/// Equal records may be cut differently.
impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.0.iter().flatten().eq(other.0.iter().flatten())
    }
}

impl Eq for Records {}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Records(vec![bytes])
    }
}

impl From<Vec<Bytes>> for Records {
    fn from(slices: Vec<Bytes>) -> Self {
        Records(slices)
    }
}
