//! An ordered map whose copies share what they have in common.
//!
//! The brokers read immutable images of the cluster while the next command is applied: copying an image must not cost a
//! copy of every topic. A decision on a consumer group is made on a copy of its membership: it must not cost a copy of every
//! member. Entries lie in sorted chunks behind reference counts. A copy of the map is one count; a change
//! copies the list of chunks and the one chunk it touches, and nothing at all while no copy is alive.
//!
//! Invariants: no chunk is empty, none holds more than [`CHUNK_ENTRIES`], keys rise strictly through all of them.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// Most entries of one chunk.
const CHUNK_ENTRIES: usize = 64;

type Chunk<K, V> = Vec<(K, V)>;

/// The map. `K` and `V` should be cheap to clone: ids, `Arc`s.
#[derive(Clone)]
pub struct SharedMap<K, V> {
    chunks: Arc<Vec<Arc<Chunk<K, V>>>>,
    len: usize,
}

/// Where a key is, or would be.
struct Place {
    chunk: usize,
    entry: usize,
    is_present: bool,
}

impl<K: Ord + Clone, V: Clone> SharedMap<K, V> {
    /// An empty map.
    #[must_use]
    pub fn new() -> Self {
        SharedMap { chunks: Arc::new(Vec::new()), len: 0 }
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True when both are copies of one map and neither has changed since. Cheap; equal maps need not be the same.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.chunks, &other.chunks)
    }

    /// The value of `key`.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(key);
        place.is_present.then(|| &self.chunks[place.chunk][place.entry].1)
    }

    /// True when `key` has a value.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.place(key).is_present
    }

    /// Sets the value of `key`; returns the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let place = self.place(&key);
        let chunks = Arc::make_mut(&mut self.chunks);
        if chunks.is_empty() {
            chunks.push(Arc::new(Vec::with_capacity(CHUNK_ENTRIES)));
        }
        let chunk = Arc::make_mut(&mut chunks[place.chunk]);
        if place.is_present {
            return Some(std::mem::replace(&mut chunk[place.entry].1, value));
        }
        chunk.insert(place.entry, (key, value));
        self.len += 1;
        if chunk.len() > CHUNK_ENTRIES {
            let upper = chunk.split_off(chunk.len() / 2);
            chunks.insert(place.chunk + 1, Arc::new(upper));
        }
        None
    }

    /// Removes `key`; returns the value that it had.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(key);
        if !place.is_present {
            return None;
        }
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(&mut chunks[place.chunk]);
        let (_, value) = chunk.remove(place.entry);
        self.len -= 1;
        if chunk.is_empty() {
            chunks.remove(place.chunk);
        } else if chunks
            .get(place.chunk + 1)
            .is_some_and(|next| next.len() + chunks[place.chunk].len() <= CHUNK_ENTRIES / 2)
        {
            let next = chunks.remove(place.chunk + 1);
            Arc::make_mut(&mut chunks[place.chunk]).extend(next.iter().cloned());
        }
        Some(value)
    }

    /// The value of `key`, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let place = self.place(key);
        if !place.is_present {
            return None;
        }
        let chunk = Arc::make_mut(&mut Arc::make_mut(&mut self.chunks)[place.chunk]);
        Some(&mut chunk[place.entry].1)
    }

    /// The entries in the order of their keys, the values to be changed: nothing stays shared.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        let chunks = Arc::make_mut(&mut self.chunks).iter_mut();
        chunks.flat_map(|chunk| Arc::make_mut(chunk).iter_mut().map(|(key, value)| (&*key, value)))
    }

    /// The keys in their order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// How many chunks both have in common.
    #[cfg(test)]
    pub(crate) fn shared_chunks(&self, other: &Self) -> (usize, usize) {
        let is_shared = |chunk: &&Arc<Chunk<K, V>>| other.chunks.iter().any(|other| Arc::ptr_eq(chunk, other));
        (self.chunks.iter().filter(is_shared).count(), self.chunks.len())
    }

    /// The entries in the order of their keys.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&K, &V)> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().map(|(key, value)| (key, value)))
    }

    /// The values in the order of their keys.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The entries within `range`, in the order of their keys.
    pub fn range(&self, range: impl RangeBounds<K>) -> impl Iterator<Item = (&K, &V)> {
        let (chunk, entry) = match range.start_bound() {
            Bound::Unbounded => (0, 0),
            Bound::Included(key) => self.position_from(key, false),
            Bound::Excluded(key) => self.position_from(key, true),
        };
        let tail = self.chunks.iter().skip(chunk).enumerate();
        let entries = tail.flat_map(move |(i, chunk)| chunk.iter().skip(if i == 0 { entry } else { 0 }));
        entries.map(|(key, value)| (key, value)).take_while(move |(key, _)| match range.end_bound() {
            Bound::Unbounded => true,
            Bound::Included(end) => *key <= end,
            Bound::Excluded(end) => *key < end,
        })
    }

    fn position_from(&self, key: &K, is_excluded: bool) -> (usize, usize) {
        let place = self.place(key);
        (place.chunk, place.entry + usize::from(is_excluded && place.is_present))
    }

    fn place<Q: Ord + ?Sized>(&self, key: &Q) -> Place
    where
        K: Borrow<Q>,
    {
        // Before the first key of all, the place is the start of the first chunk.
        let chunk = self.chunks.partition_point(|chunk| chunk[0].0.borrow() <= key).saturating_sub(1);
        let entries = self.chunks.get(chunk).map_or(&[][..], |chunk| chunk.as_slice());
        match entries.binary_search_by(|(candidate, _)| candidate.borrow().cmp(key)) {
            Ok(entry) => Place { chunk, entry, is_present: true },
            Err(entry) => Place { chunk, entry, is_present: false },
        }
    }
}

impl<K: Ord + Clone, V: Clone> Default for SharedMap<K, V> {
    fn default() -> Self {
        SharedMap::new()
    }
}

impl<K: Ord + Clone, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = SharedMap::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K: Ord + Clone, V: Clone + PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl<K: Ord + Clone, V: Clone + Eq> Eq for SharedMap<K, V> {}

impl<K: Ord + Clone + fmt::Debug, V: Clone + fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord + Clone + Serialize, V: Clone + Serialize> Serialize for SharedMap<K, V> {
    /// A list of pairs: JSON wants texts as keys of its maps.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de, K: Ord + Clone + Deserialize<'de>, V: Clone + Deserialize<'de>> Deserialize<'de> for SharedMap<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs<K, V>(PhantomData<(K, V)>);

        impl<'de, K: Ord + Clone + Deserialize<'de>, V: Clone + Deserialize<'de>> Visitor<'de> for Pairs<K, V> {
            type Value = SharedMap<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of pairs")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pairs: A) -> Result<Self::Value, A::Error> {
                let mut map = SharedMap::new();
                while let Some((key, value)) = pairs.next_element()? {
                    map.insert(key, value);
                }
                Ok(map)
            }
        }
        deserializer.deserialize_seq(Pairs(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_behaves_as_a_tree_map(steps in prop::collection::vec((any::<bool>(), 0_u16..400), 0..1500), from in 0_u16..400) {
            let (mut shared, mut tree) = (SharedMap::new(), BTreeMap::new());
            for (i, (is_insert, key)) in steps.into_iter().enumerate() {
                if is_insert {
                    prop_assert_eq!(shared.insert(key, i), tree.insert(key, i));
                } else if i % 3 == 0 {
                    prop_assert_eq!(shared.get_mut(&key).map(std::mem::take), tree.get_mut(&key).map(std::mem::take));
                } else {
                    prop_assert_eq!(shared.remove(&key), tree.remove(&key));
                }
            }
            prop_assert_eq!(shared.len(), tree.len());
            prop_assert!(shared.iter().eq(tree.iter()));
            prop_assert!(shared.iter().rev().eq(tree.iter().rev()));
            prop_assert!(shared.range(from..from + 50).eq(tree.range(from..from + 50)));
            prop_assert!(shared.range((Bound::Excluded(from), Bound::Unbounded)).eq(tree.range(from + 1..)));
            prop_assert!(shared.chunks.iter().all(|chunk| (1..=CHUNK_ENTRIES).contains(&chunk.len())));
            let text = serde_json::to_string(&shared).unwrap();
            prop_assert_eq!(serde_json::from_str::<SharedMap<u16, usize>>(&text).unwrap(), shared);
        }
    }

    #[test]
    fn a_change_leaves_copies_as_they_were_and_copies_one_chunk() {
        let before: SharedMap<u32, u32> = (0..10_000).map(|n| (n, n)).collect();
        let mut after = before.clone();
        after.insert(5_000, 0);
        assert_eq!(before.get(&5_000), Some(&5_000));
        let chunks = before.chunks.len();
        assert_eq!(before.shared_chunks(&after), (chunks - 1, chunks));
        *after.get_mut(&9_999).unwrap() = 0;
        assert_eq!((before.get(&9_999), before.shared_chunks(&after)), (Some(&9_999), (chunks - 2, chunks)));
        after.iter_mut().for_each(|(_, value)| *value = 1);
        assert_eq!((before.shared_chunks(&after), after.values().sum::<u32>()), ((0, chunks), 10_000));
    }
}
