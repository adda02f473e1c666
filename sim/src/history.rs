//! What clients saw, and what they may have seen.
//!
//! Partitions are logs of values, none of which is written twice: a value tells in which log, who wrote it and as which. Of a
//! topic that is deleted and made again each incarnation is a log of its own.

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
    /// Acknowledged values by log, with their offset where the answer had it.
    acknowledged: BTreeMap<String, Vec<(String, Option<i64>)>>,
    /// What readers found, by log and offset.
    seen: BTreeMap<String, BTreeMap<i64, String>>,
    /// What was asked to be deleted, by log.
    deleted: BTreeMap<String, Deleted>,
    violations: Vec<String>,
    reads: u64,
}

/// Below which offsets the records of a log were to be deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Deleted {
    /// The highest offset that was asked for.
    asked: i64,
    /// The highest that was confirmed.
    confirmed: i64,
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

    /// A deletion of records below `offset` is asked for.
    pub(crate) fn ask_deletion(&self, log: &str, offset: i64) {
        let mut state = self.state.lock();
        let deleted = state.deleted.entry(log.to_owned()).or_default();
        deleted.asked = deleted.asked.max(offset);
    }

    /// The records below `offset` are deleted.
    pub(crate) fn confirm_deletion(&self, log: &str, offset: i64) {
        trace::note(&format!("deleted {log} below {offset}"));
        let mut state = self.state.lock();
        let deleted = state.deleted.entry(log.to_owned()).or_default();
        deleted.confirmed = deleted.confirmed.max(offset);
        if deleted.confirmed > deleted.asked {
            drop(state);
            self.violation(format!("{log}: everything below {offset} was deleted, which was not requested"));
        }
    }

    /// True when the log may begin at `start`, as far as deletions were asked for.
    pub(crate) fn may_start_at(&self, log: &str, start: i64) -> bool {
        start <= self.deleted(log).asked
    }

    fn deleted(&self, log: &str) -> Deleted {
        self.state.lock().deleted.get(log).copied().unwrap_or_default()
    }

    /// One more than the last acknowledged offset that is known.
    pub(crate) fn end(&self, log: &str) -> i64 {
        let state = self.state.lock();
        let offsets = state.acknowledged.get(log).into_iter().flatten().filter_map(|(_, offset)| *offset);
        offsets.max().map_or(0, |last| last + 1)
    }

    /// The values are acknowledged, from `base` on where the answer had it.
    pub(crate) fn acknowledge(&self, log: &str, values: &[String], base: Option<i64>) {
        let (first, last) = (values.first().map(|one| name(one)), values.last().map(|one| name(one)));
        trace::note(&format!("acknowledged {log} at {base:?}: {first:?} to {last:?}"));
        let mut state = self.state.lock();
        let all = state.acknowledged.entry(log.to_owned()).or_default();
        for (value, place) in values.iter().zip(0..) {
            all.push((value.clone(), base.map(|base| base + place)));
        }
    }

    /// A reader found a value where it expected the offset `expected`.
    pub(crate) fn read(&self, log: &str, expected: i64, offset: i64, value: &str) {
        if offset != expected {
            self.violation(format!("{log}: a reader at {expected} was given offset {offset} next"));
        }
        if log_of(value) != log {
            self.violation(format!("{log} offset {offset}: {value:?} was written to another log"));
        }
        let mut state = self.state.lock();
        state.reads += 1;
        let seen = state.seen.entry(log.to_owned()).or_default();
        let before = seen.entry(offset).or_insert_with(|| value.to_owned()).clone();
        drop(state);
        if before != value {
            self.violation(format!("{log} offset {offset}: was {before:?}, is {value:?}"));
        }
    }

    /// Judges the whole, once everything was read from `start` to its end.
    pub(crate) fn judge(&self, log: &str, start: i64, found: &[String]) {
        let Deleted { asked, confirmed } = self.deleted(log);
        if !(confirmed..=asked).contains(&start) {
            self.violation(format!("{log}: begins at {start}, deleted was below {confirmed}, asked for {asked}"));
        }
        let acknowledged = self.state.lock().acknowledged.get(log).cloned().unwrap_or_default();
        let mut places: BTreeMap<&str, i64> = BTreeMap::new();
        for (value, place) in found.iter().zip(start..) {
            if let Some(first) = places.insert(value, place) {
                self.violation(format!("{log}: {value} is at {first} and at {place}"));
            }
        }
        let mut last_of: BTreeMap<&str, i64> = BTreeMap::new();
        for (value, offset) in &acknowledged {
            let Some(place) = places.get(value.as_str()).copied() else {
                // Of a value whose offset is not known it cannot be said whether it was deleted.
                if offset.map_or(start == 0, |offset| offset >= start) {
                    self.violation(format!("{log}: {value}, acknowledged at {offset:?}, is lost"));
                }
                continue;
            };
            if offset.is_some_and(|offset| offset != place) {
                self.violation(format!("{log}: {value} was acknowledged at {offset:?}, is at {place}"));
            }
            let writer = value.rsplitn(3, '-').last().unwrap_or_default();
            if last_of.insert(writer, place).is_some_and(|last| last > place) {
                self.violation(format!("{log}: {value} is before what was acknowledged earlier"));
            }
        }
    }
}

/// A value without what makes it long: log, writer, number.
fn name(value: &str) -> &str {
    value.rsplit_once('-').map_or(value, |(name, _)| name)
}

/// The log that a value was written to.
fn log_of(value: &str) -> &str {
    value.rsplitn(4, '-').last().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the judge says of a log after these were acknowledged, from offset 0 on.
    fn judged(acknowledged: &[&str], found: &[&str]) -> Vec<String> {
        let history = History::default();
        history.acknowledge("l", &owned(acknowledged), Some(0));
        history.judge("l", 0, &owned(found));
        history.violations()
    }

    fn owned(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn a_log_with_all_that_was_acknowledged_breaks_nothing() {
        assert!(judged(&["l-0-0-", "l-1-0-", "l-0-1-"], &["l-0-0-", "l-1-0-", "l-0-1-", "l-1-1-"]).is_empty());
    }

    #[test]
    fn each_broken_promise_is_reported() {
        let reported = |acknowledged: &[&str], found: &[&str], what: &str| {
            let violations = judged(acknowledged, found);
            assert!(violations.iter().any(|one| one.contains(what)), "{what}: {violations:?}");
        };
        reported(&["l-0-0-", "l-0-1-"], &["l-0-0-"], "is lost");
        reported(&["l-0-0-"], &["l-0-0-", "l-0-0-"], "is at 0 and at 1");
        reported(&["l-0-0-"], &["l-1-0-", "l-0-0-"], "was acknowledged at Some(0), is at 1");
        reported(&["l-0-0-", "l-0-1-"], &["l-0-1-", "l-0-0-"], "before what was acknowledged earlier");
    }

    #[test]
    fn deleted_records_are_gone_and_only_those() {
        let judged = |confirmed, start, found: &[&str]| {
            let history = History::default();
            history.acknowledge("l", &owned(&["l-0-0-", "l-0-1-", "l-0-2-"]), Some(0));
            history.ask_deletion("l", 2);
            history.confirm_deletion("l", confirmed);
            history.judge("l", start, &owned(found));
            history.violations().join("; ")
        };
        assert_eq!(judged(1, 1, &["l-0-1-", "l-0-2-"]), "");
        assert_eq!(judged(0, 2, &["l-0-2-"]), "", "a deletion without an answer may have happened");
        assert!(judged(2, 1, &["l-0-1-", "l-0-2-"]).contains("begins at 1"));
        assert!(judged(1, 3, &[]).contains("begins at 3"));
        assert!(judged(1, 1, &["l-0-1-"]).contains("is lost"));
    }

    #[test]
    fn readers_get_the_next_offset_and_always_the_same_record() {
        let history = History::default();
        history.read("l", 5, 5, "l-0-1-");
        history.read("l", 5, 5, "l-0-1-");
        assert!(history.violations().is_empty());
        history.read("l", 6, 7, "l-0-2-");
        history.read("l", 5, 5, "l-0-3-");
        history.read("l", 8, 8, "k-0-4-");
        assert_eq!(history.violations().len(), 3);
    }
}
