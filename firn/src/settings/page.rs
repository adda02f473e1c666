//! The generated part of `docs/configuration.md`: written, and kept current, by the test below.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::{env, fs};

use super::{Reference, Setting, reference};

/// The generated part of `docs/configuration.md` is between these two lines.
const BEGIN: &str = "<!-- generated from the tables of settings: begin -->";
const END: &str = "<!-- generated from the tables of settings: end -->";

/// The page with current tables; `None` when it lacks the two lines that enclose them.
fn page(existing: &str) -> Option<String> {
    let (before, rest) = existing.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    let Reference { broker, topic, kafka } = reference();
    let (broker, topic, kafka) = (markdown(&broker), markdown(&topic), listed(&kafka));
    let tables = format!("## Broker settings\n\n{broker}\n## Topic settings\n\n{topic}");
    Some(format!(
        "{before}{BEGIN}\n{tables}\n## Broker settings of Kafka's that mean nothing here\n\n{kafka}{END}{after}"
    ))
}

/// Settings by what is said of them.
fn listed(settings: &[Setting]) -> String {
    let mut by_meaning: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for setting in settings {
        by_meaning.entry(setting.documentation).or_default().push(format!("`{}`", setting.name));
    }
    by_meaning.iter().map(|(meaning, names)| format!("- {meaning} {}\n", names.join(", "))).collect()
}

fn markdown(settings: &[Setting]) -> String {
    let mut text = "| Setting | Default | Values | Meaning |\n|---|---|---|---|\n".to_owned();
    for setting in settings {
        let others: Vec<_> = setting.broker_defaults.iter().filter(|name| **name != setting.name).collect();
        let names = others.iter().fold(String::new(), |names, name| format!("{names}<br>`{name}`"));
        let Setting { name, default, values, documentation, .. } = setting;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{name}`{names} | `{default}` | {values} | {documentation} |");
    }
    text
}

#[test]
fn the_page_about_settings_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let existing = fs::read_to_string(&path).unwrap();
    let current = page(&existing).expect("the page has the marks of its generated part");
    if env::var_os("FIRN_BLESS").is_some() {
        fs::write(&path, current).unwrap();
    } else {
        assert!(existing == current, "docs/configuration.md is out of date: FIRN_BLESS=1 cargo test -p firn");
    }
}
