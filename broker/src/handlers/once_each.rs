//! One item must not cost k answers because it is named k times.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

/// The items in their order, each once.
pub(super) fn once_each<T, K: Hash + Eq>(items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut seen = HashSet::new();
    items.into_iter().filter(|item| seen.insert(key(item))).collect()
}

/// The items in their order, each once, and whether it was named more than once.
pub(super) fn once_each_counted<T, K: Hash + Eq>(items: Vec<T>, key: impl Fn(&T) -> K) -> Vec<(T, bool)> {
    let mut times: HashMap<K, usize> = HashMap::new();
    items.iter().for_each(|item| *times.entry(key(item)).or_default() += 1);
    let first = |item: T| times.remove(&key(&item)).map(|count| (item, count > 1));
    items.into_iter().filter_map(first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_stays() {
        assert_eq!(once_each(vec![3, 1, 3, 2, 1], |item| *item), [3, 1, 2]);
        assert_eq!(once_each_counted(vec![3, 1, 3], |item| *item), [(3, true), (1, false)]);
    }
}
