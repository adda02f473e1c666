//! Finds the partition whose records make a whole answer useless.
//!
//! An answer that is too large or cannot be read fails for all partitions of its request, and says nothing of which one is at
//! fault. So the next requests name half of those that may be at fault, until one of them fails alone, or none is left.

use std::collections::{BTreeMap, BTreeSet};

use model::TopicPartition;

/// See the head of this file. The default asks for everything.
#[derive(Debug, Default)]
pub(super) struct Narrowing {
    /// The partitions that may be at fault; none while everything goes well.
    suspects: BTreeSet<TopicPartition>,
}

impl Narrowing {
    /// True while requests name only some of the partitions: the others wait, so no request should wait for records.
    pub(super) fn is_active(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// The part of `wanted` that the next request names, at least one.
    pub(super) fn choose<V: Copy>(&mut self, wanted: BTreeMap<TopicPartition, V>) -> BTreeMap<TopicPartition, V> {
        self.suspects.retain(|id| wanted.contains_key(id));
        if self.suspects.is_empty() {
            return wanted;
        }
        let half = self.suspects.len().div_ceil(2);
        self.suspects.iter().take(half).filter_map(|id| Some((*id, *wanted.get(id)?))).collect()
    }

    /// The answer to a request that named these failed. Returns the partition at fault, once it is known.
    pub(super) fn failed<V>(&mut self, asked: &BTreeMap<TopicPartition, V>) -> Option<TopicPartition> {
        self.suspects = asked.keys().copied().collect();
        if self.suspects.len() > 1 { None } else { self.suspects.pop_first() }
    }

    /// The answer to a request that named these was read.
    pub(super) fn succeeded<V>(&mut self, asked: &BTreeMap<TopicPartition, V>) {
        self.suspects.retain(|id| !asked.contains_key(id));
    }
}

#[cfg(test)]
mod tests {
    use model::TopicId;
    use uuid::Uuid;

    use super::*;

    fn id(topic: u128, partition: i32) -> TopicPartition {
        TopicPartition { topic_id: TopicId(Uuid::from_u128(topic)), partition }
    }

    fn wanted() -> BTreeMap<TopicPartition, ()> {
        (0..30).map(|n| (id(n / 7, i32::try_from(n % 7).unwrap()), ())).collect()
    }

    #[test]
    fn a_partition_that_spoils_every_answer_is_found_in_few_requests() {
        let all = wanted();
        for bad in all.keys() {
            let mut narrowing = Narrowing::default();
            let mut requests = 0;
            loop {
                let asked = narrowing.choose(all.clone());
                assert!(!asked.is_empty());
                requests += 1;
                assert!(requests <= 7, "{bad} is not found: 30, 15, 8, 4, 2, 1");
                if !asked.contains_key(bad) {
                    narrowing.succeeded(&asked);
                } else if let Some(found) = narrowing.failed(&asked) {
                    assert_eq!(found, *bad);
                    break;
                }
            }
            assert!(!narrowing.is_active(), "the others are asked for together again");
        }
    }

    #[test]
    fn a_failure_that_does_not_come_again_is_forgotten() {
        let all = wanted();
        let mut narrowing = Narrowing::default();
        assert_eq!(narrowing.failed(&all), None);
        let mut sizes = Vec::new();
        while narrowing.is_active() {
            let asked = narrowing.choose(all.clone());
            sizes.push(asked.len());
            narrowing.succeeded(&asked);
        }
        assert_eq!(sizes, [15, 8, 4, 2, 1]);
        assert_eq!(narrowing.choose(all).len(), 30);
    }

    #[test]
    fn partitions_that_are_followed_no_more_are_not_looked_for() {
        let mut narrowing = Narrowing::default();
        narrowing.failed(&wanted());
        let one: BTreeMap<_, _> = [(id(9, 9), ())].into();
        assert_eq!(narrowing.choose(one.clone()), one);
        assert!(!narrowing.is_active());
    }
}
