//! Partitions in a line of the log: how many, and the first of them. What happens to thousands of partitions at once is one
//! line; who wants to know each of them turns on the level `debug`.

use std::fmt;

use model::PartitionIndex;

/// Partitions that a line names.
const NAMED: usize = 3;

/// Some partitions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Places {
    count: usize,
    first: Vec<String>,
}

impl Places {
    /// Adds one.
    pub(crate) fn add(&mut self, topic: &str, partition: PartitionIndex) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(format!("{topic}-{partition}"));
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// True without any.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.first.join(", "))?;
        if self.count > self.first.len() { f.write_str(", …") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_named_and_all_are_counted() {
        let mut places = Places::default();
        assert!(places.is_empty() && places.to_string().is_empty());
        (0..3).for_each(|partition| places.add("t", partition));
        assert_eq!((places.count(), places.to_string()), (3, "t-0, t-1, t-2".to_owned()));
        (0..1000).for_each(|partition| places.add("u", partition));
        assert_eq!((places.count(), places.to_string()), (1003, "t-0, t-1, t-2, …".to_owned()));
    }
}
