//! The rules by which calls fail or come late.
//!
//! A rule is for one kind of call and for paths that contain a text; the first rule that fits a call decides about it. A rule
//! with a number of times is gone after so many calls.

use std::str::FromStr;
use std::time::Duration;

/// A kind of call that rules can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// Reading bytes of a file.
    Read,
    /// Writing, cutting, extending or allocating a file.
    Write,
    /// `fsync` or `fdatasync` of a file.
    Sync,
    /// `fsync` of a folder.
    SyncFolder,
    /// Making, linking, renaming or removing a name.
    Change,
}

impl FromStr for Call {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "read" => Call::Read,
            "write" => Call::Write,
            "sync" => Call::Sync,
            "sync-folder" => Call::SyncFolder,
            "change" => Call::Change,
            _ => anyhow::bail!("{text} is not one of read, write, sync, sync-folder, change"),
        })
    }
}

/// The effect of a rule on a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// EIO; a sync has marked its pages clean all the same.
    Fail,
    /// The call takes that much longer.
    Delay(Duration),
}

#[derive(Debug)]
struct Rule {
    call: Call,
    path: String,
    effect: Effect,
    /// Calls that it is still for; all when none is given.
    times: Option<u64>,
    hits: u64,
}

/// All rules, in the order in which they were given.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Vec<Rule>,
    hits_of_ended: u64,
}

impl Faults {
    /// Adds a rule for paths that contain `path`; `*` is for all.
    pub(crate) fn add(&mut self, call: Call, path: &str, effect: Effect, times: Option<u64>) {
        let path = if path == "*" { String::new() } else { path.to_owned() };
        self.rules.push(Rule { call, path, effect, times, hits: 0 });
    }

    /// Removes all rules.
    pub(crate) fn clear(&mut self) {
        self.hits_of_ended += self.rules.drain(..).map(|rule| rule.hits).sum::<u64>();
    }

    /// Calls that some rule decided about.
    pub(crate) fn hits(&self) -> u64 {
        self.hits_of_ended + self.rules.iter().map(|rule| rule.hits).sum::<u64>()
    }

    /// True when a path must be found out for [`Faults::effect`].
    pub(crate) fn concern(&self, call: Call) -> bool {
        self.rules.iter().any(|rule| rule.call == call)
    }

    /// The effect on a call, counted as one.
    pub(crate) fn effect(&mut self, call: Call, path: &str) -> Option<Effect> {
        let at = self.rules.iter().position(|rule| rule.call == call && path.contains(&rule.path))?;
        let rule = &mut self.rules[at];
        rule.hits += 1;
        let effect = rule.effect;
        if rule.times == Some(rule.hits) {
            self.hits_of_ended += self.rules.remove(at).hits;
        }
        Some(effect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_decides_as_often_as_it_may() {
        let mut faults = Faults::default();
        let late = Effect::Delay(Duration::from_secs(1));
        faults.add(Call::Sync, "journal/", Effect::Fail, Some(2));
        faults.add(Call::Sync, "*", late, None);
        assert!(faults.concern(Call::Sync) && !faults.concern(Call::Read));
        let mut sync = |path| faults.effect(Call::Sync, path);
        assert_eq!(sync("/data/journal/slot-0000"), Some(Effect::Fail));
        assert_eq!(sync("/data/topics/t/0.log"), Some(late));
        assert_eq!(sync("/data/journal/slot-0001"), Some(Effect::Fail));
        assert_eq!(sync("/data/journal/slot-0001"), Some(late));
        assert_eq!(faults.effect(Call::Write, "/data/journal/slot-0001"), None);
        faults.clear();
        assert_eq!(faults.hits(), 4);
        assert_eq!(faults.effect(Call::Sync, "/"), None);
    }
}
