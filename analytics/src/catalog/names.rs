//! What tables are called. A table has its topic's name, and engines quote it where it holds a dot or a dash. For engines
//! that split names at dots all the same, every name has a second form without them:
//!
//! | topic | `_` | `.` | `-` |
//! |---|---|---|---|
//! | second form | `__` | `_d` | `_h` |
//!
//! Everything else stands for itself, so each of the two forms can be made from the other. A second form may be the name of
//! another topic, now or later: the two have a namespace each, so that a name means one topic whichever topics there are.

/// How the tables of a namespace are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// `topics`: as their topics.
    Plain,
    /// `topics_escaped`: by the second form.
    Escaped,
}

impl Naming {
    /// One for each namespace.
    pub const ALL: [Naming; 2] = [Naming::Plain, Naming::Escaped];

    /// The naming of the namespace of this name.
    #[must_use]
    pub fn of(namespace: &str) -> Option<Naming> {
        Naming::ALL.into_iter().find(|naming| naming.namespace() == namespace)
    }

    /// The namespace's name.
    #[must_use]
    pub fn namespace(self) -> &'static str {
        match self {
            Naming::Plain => "topics",
            Naming::Escaped => "topics_escaped",
        }
    }

    /// The name of a topic's table.
    #[must_use]
    pub fn table(self, topic: &str) -> String {
        match self {
            Naming::Plain => topic.to_owned(),
            Naming::Escaped => escape(topic),
        }
    }

    /// The topic whose table has this name, whether there is such a topic or not.
    #[must_use]
    pub fn topic(self, table: &str) -> Option<String> {
        match self {
            Naming::Plain => Some(table.to_owned()),
            Naming::Escaped => unescape(table),
        }
    }

    /// Whether the namespace's list has the topic's table: one that has the same name in both is listed once.
    #[must_use]
    pub fn lists(self, topic: &str) -> bool {
        self == Naming::Plain || topic.contains(['_', '.', '-'])
    }
}

/// The second form of a topic's name: letters, digits and `_` alone.
#[must_use]
pub fn escape(topic: &str) -> String {
    let mut escaped = String::with_capacity(topic.len() + 8);
    for sign in topic.chars() {
        match sign {
            '_' => escaped.push_str("__"),
            '.' => escaped.push_str("_d"),
            '-' => escaped.push_str("_h"),
            sign => escaped.push(sign),
        }
    }
    escaped
}

/// The topic whose second form this is; `None` for what is no second form.
#[must_use]
pub fn unescape(name: &str) -> Option<String> {
    let mut topic = String::with_capacity(name.len());
    let mut signs = name.chars();
    while let Some(sign) = signs.next() {
        topic.push(match sign {
            '_' => match signs.next()? {
                '_' => '_',
                'd' => '.',
                'h' => '-',
                _ => return None,
            },
            '.' | '-' => return None,
            sign => sign,
        });
    }
    Some(topic)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dots_and_dashes_have_a_form_without_them() {
        assert_eq!(escape("orders.eu-west_1"), "orders_deu_hwest__1");
        for no_form in ["a_", "a_x", "a.b", "a-b", "_"] {
            assert_eq!(unescape(no_form), None, "{no_form}");
        }
    }

    proptest! {
        #[test]
        fn the_two_forms_are_made_from_each_other(topic in "[A-Za-z0-9._-]{1,40}") {
            let escaped = escape(&topic);
            prop_assert!(!escaped.contains(['.', '-']));
            prop_assert_eq!(unescape(&escaped), Some(topic));
        }

        #[test]
        fn no_two_names_stand_for_one_topic(name in "[A-Za-z0-9_]{0,40}") {
            if let Some(topic) = unescape(&name) {
                prop_assert_eq!(escape(&topic), name);
            }
        }
    }
}
