//! What clients saw, and what they may have seen.
//!
//! Partitions are logs of values, none of which is written twice: a value tells who wrote it and as which.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::trace;

/// Copies share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// Acknowledged values by partition, with their offset where the answer told it.
    acknowledged: BTreeMap<i32, Vec<(String, Option<i64>)>>,
    /// What readers found, by partition and offset.
    seen: BTreeMap<i32, BTreeMap<i64, String>>,
    violations: Vec<String>,
    reads: u64,
}

impl History {
    /// A promise was broken.
    pub(crate) fn violation(&self, what: String) {
        trace::note(&format!("VIOLATION {what}"));
        self.state.lock().violations.push(what);
    }

    /// The broken promises so far.
    pub(crate) fn violations(&self) -> Vec<String> {
        self.state.lock().violations.clone()
    }

    /// Values that were acknowledged, and records that were read.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.state.lock();
        (state.acknowledged.values().map(|values| values.len() as u64).sum(), state.reads)
    }

    /// The values are acknowledged, from `base` on where the answer told it.
    pub(crate) fn acknowledge(&self, partition: i32, values: &[String], base: Option<i64>) {
        let (first, last) = (values.first().map(|one| name(one)), values.last().map(|one| name(one)));
        trace::note(&format!("acknowledged {partition} at {base:?}: {first:?} to {last:?}"));
        let mut state = self.state.lock();
        let all = state.acknowledged.entry(partition).or_default();
        for (value, place) in values.iter().zip(0..) {
            all.push((value.clone(), base.map(|base| base + place)));
        }
    }

    /// A reader found a value, `after` the offset before.
    pub(crate) fn read(&self, partition: i32, expected: i64, offset: i64, value: &str) {
        if offset != expected {
            self.violation(format!("partition {partition}: a reader at {expected} was given offset {offset} next"));
        }
        let mut state = self.state.lock();
        state.reads += 1;
        let before = state.seen.entry(partition).or_default().entry(offset).or_insert_with(|| value.to_owned()).clone();
        drop(state);
        if before != value {
            self.violation(format!("partition {partition} offset {offset}: was {before:?}, is {value:?}"));
        }
    }

    /// Judges the whole, once everything was read to its end.
    pub(crate) fn judge(&self, partition: i32, log: &[String]) {
        let acknowledged = self.state.lock().acknowledged.get(&partition).cloned().unwrap_or_default();
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for (value, place) in log.iter().zip(0..) {
            if let Some(first) = places.insert(value, place) {
                self.violation(format!("partition {partition}: {value} stands at {first} and at {place}"));
            }
        }
        let mut last_of: BTreeMap<&str, usize> = BTreeMap::new();
        for (value, offset) in &acknowledged {
            let Some(place) = places.get(value.as_str()).copied() else {
                self.violation(format!("partition {partition}: {value}, acknowledged at {offset:?}, is lost"));
                continue;
            };
            if offset.is_some_and(|offset| usize::try_from(offset) != Ok(place)) {
                self.violation(format!("partition {partition}: {value} was acknowledged at {offset:?}, is at {place}"));
            }
            let writer = value.rsplitn(3, '-').last().unwrap_or_default();
            if last_of.insert(writer, place).is_some_and(|last| last > place) {
                self.violation(format!("partition {partition}: {value} stands before what was acknowledged earlier"));
            }
        }
    }
}

/// A value without what makes it long: partition, writer, number.
fn name(value: &str) -> &str {
    value.rsplit_once('-').map_or(value, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the judge says of a log after these were acknowledged, from offset 0 on.
    fn judged(acknowledged: &[&str], log: &[&str]) -> Vec<String> {
        let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>();
        let history = History::default();
        history.acknowledge(0, &owned(acknowledged), Some(0));
        history.judge(0, &owned(log));
        history.violations()
    }

    #[test]
    fn a_log_with_all_that_was_acknowledged_breaks_nothing() {
        assert!(judged(&["0-0-0-", "0-1-0-", "0-0-1-"], &["0-0-0-", "0-1-0-", "0-0-1-", "0-1-1-"]).is_empty());
    }

    #[test]
    fn each_broken_promise_is_told() {
        let told = |acknowledged: &[&str], log: &[&str], what: &str| {
            let violations = judged(acknowledged, log);
            assert!(violations.iter().any(|one| one.contains(what)), "{what}: {violations:?}");
        };
        told(&["0-0-0-", "0-0-1-"], &["0-0-0-"], "is lost");
        told(&["0-0-0-"], &["0-0-0-", "0-0-0-"], "stands at 0 and at 1");
        told(&["0-0-0-"], &["0-1-0-", "0-0-0-"], "was acknowledged at Some(0), is at 1");
        told(&["0-0-0-", "0-0-1-"], &["0-0-1-", "0-0-0-"], "before what was acknowledged earlier");
    }

    #[test]
    fn readers_get_the_next_offset_and_always_the_same_record() {
        let history = History::default();
        history.read(0, 5, 5, "a");
        history.read(0, 5, 5, "a");
        assert!(history.violations().is_empty());
        history.read(0, 6, 7, "b");
        history.read(0, 5, 5, "b");
        assert_eq!(history.violations().len(), 2);
    }
}
