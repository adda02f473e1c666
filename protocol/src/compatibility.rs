//! Writes the generated part of `docs/kafka-compatibility.md`: the table of APIs, ours against Apache Kafka's.

use std::fmt::Write;

use crate::api_key::{ApiKey, KAFKA_RELEASE};
use crate::versions::served_api;

/// The generated part of the page is between these two lines.
const BEGIN: &str = "<!-- generated from protocol/src/versions.rs: begin -->";
const END: &str = "<!-- generated from protocol/src/versions.rs: end -->";

/// The page with a current table; everything outside of the generated part stays as it is. `None` where the page lacks
/// the two lines that enclose it.
pub fn page(existing: &str) -> Option<String> {
    let (before, rest) = existing.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}{END}{after}", table()))
}

fn table() -> String {
    let on_brokers: Vec<ApiKey> = ApiKey::all().filter(|key| key.is_on_brokers()).collect();
    let served = on_brokers.iter().filter(|key| served_api(**key).is_some()).count();
    let mut text = format!(
        "Of the {} APIs that brokers of Apache Kafka {KAFKA_RELEASE} answer, Firn speaks {served}.\n\n\
         | API | key | Firn | Apache Kafka {KAFKA_RELEASE} | |\n|---|---|---|---|---|\n",
        on_brokers.len()
    );
    for key in on_brokers {
        let ours = served_api(key).map(|api| (api.min, api.max));
        let theirs = key.kafka_versions();
        let note = if ours == theirs {
            "same"
        } else if ours.is_some() {
            "narrower"
        } else {
            ""
        };
        let _ = writeln!(text, "| {key} | {} | {} | {} | {note} |", key.id(), range(ours), range(theirs));
    }
    text
}

fn range(versions: Option<(i16, i16)>) -> String {
    match versions {
        None => "–".to_owned(),
        Some((min, max)) if min == max => min.to_string(),
        Some((min, max)) => format!("{min}–{max}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_generated_part_of_the_page_changes() {
        let page = page(&format!("mine\n{BEGIN}\nold\n{END}\nalso mine\n")).unwrap();
        assert!(page.starts_with("mine\n") && page.ends_with("\nalso mine\n") && !page.contains("old"));
        assert!(page.contains("| Fetch | 1 | 4–18 | 4–18 | same |"), "{page}");
    }

    #[test]
    fn a_page_without_its_marks_is_left_alone() {
        assert_eq!(page("mine"), None);
    }
}
