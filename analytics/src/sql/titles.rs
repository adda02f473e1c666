//! Titles of columns, of which no two are the same.

use std::collections::{HashMap, HashSet};

/// Gives out titles, with a number behind those that are taken.
#[derive(Debug)]
pub(super) struct Titles {
    taken: HashSet<String>,
    /// Where it stopped for the last column of a text: a query may have thousands of them.
    numbers: HashMap<String, usize>,
}

impl Titles {
    /// Beside columns that have names already.
    pub(super) fn new(taken: impl IntoIterator<Item = String>) -> Self {
        Titles { taken: taken.into_iter().collect(), numbers: HashMap::new() }
    }

    /// The text, or the text with the smallest number that makes it one of its own.
    pub(super) fn next(&mut self, text: &str) -> String {
        let number = self.numbers.entry(text.to_owned()).or_insert(1);
        let mut title = if *number == 1 { text.to_owned() } else { format!("{text} ({number})") };
        while !self.taken.insert(title.clone()) {
            *number += 1;
            title = format!("{text} ({number})");
        }
        title
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_that_is_taken_gets_a_number() {
        let mut titles = Titles::new(["a".to_owned(), "b (2)".to_owned()]);
        let given: Vec<_> = ["a", "b", "b", "b", "a", "c"].into_iter().map(|text| titles.next(text)).collect();
        assert_eq!(given, ["a (2)", "b", "b (3)", "b (4)", "a (3)", "c"]);
    }
}
