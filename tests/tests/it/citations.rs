//! What code and pages cite exists: pages, and the sections in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use firn_tests::repository;

use crate::tidy::rust_files;

/// The pages below `docs/` and at the root, by their path from there.
fn pages() -> BTreeMap<PathBuf, String> {
    let root = repository();
    let folders = ["", "docs", "docs/formats", "docs/decisions"];
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(root.join(folder)).ok()).flatten();
    let files = files.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "md"));
    files.map(|path| (path.strip_prefix(&root).unwrap().to_owned(), std::fs::read_to_string(&path).unwrap())).collect()
}

fn headings(page: &str) -> impl Iterator<Item = &str> {
    page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim())
}

/// A heading as links name it.
fn anchor(heading: &str) -> String {
    let is_kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.to_lowercase().chars().filter(is_kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The pages that a text names as `docs/….md`, each with the words in quotes before ` in `.
fn citations(text: &str) -> Vec<(String, Option<String>)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/' | '.');
    let mut found = Vec::new();
    for (at, _) in text.match_indices("docs/") {
        let name = text[at..].split(|c| !is_part(c)).next().unwrap_or_default();
        let Some(page) = name.find(".md").map(|end| &name[..end + 3]) else { continue };
        let before = text[..at].trim_end().strip_suffix(" in");
        let section = before.and_then(|before| {
            let before = before.strip_suffix("\\\"").or_else(|| before.strip_suffix('"'))?;
            let start = before.rfind('"')?;
            Some(before[start + 1..].trim_end_matches('\\').to_owned())
        });
        found.push((page.to_owned(), section));
    }
    found
}

fn check(place: &Path, text: &str, pages: &BTreeMap<PathBuf, String>, wrong: &mut Vec<String>) {
    for (page, section) in citations(text) {
        let Some(content) = pages.get(Path::new(&page)) else {
            wrong.push(format!("{}: there is no {page}", place.display()));
            continue;
        };
        if let Some(section) = section.filter(|section| !headings(content).any(|heading| heading == section)) {
            wrong.push(format!("{}: {page} has no section {section:?}", place.display()));
        }
    }
}

#[test]
fn pages_and_sections_that_are_cited_exist() {
    let pages = pages();
    let mut wrong = Vec::new();
    for path in rust_files() {
        let text = std::fs::read_to_string(&path).unwrap();
        check(&path, &text, &pages, &mut wrong);
    }
    for (place, text) in &pages {
        check(place, text, &pages, &mut wrong);
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (page, section) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") || !(page.is_empty() || page.ends_with(".md")) {
                continue;
            }
            let target = if page.is_empty() { place.clone() } else { normal(&place.with_file_name("").join(page)) };
            let Some(content) = pages.get(&target) else {
                wrong.push(format!("{}: the link {link} leads nowhere", place.display()));
                continue;
            };
            if !section.is_empty() && !headings(content).any(|heading| anchor(heading) == section) {
                wrong.push(format!("{}: {} has no section #{section}", place.display(), target.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The path without `..`.
fn normal(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut whole, part| {
        match part.as_os_str().to_str() {
            Some("..") => drop(whole.pop()),
            _ => whole.push(part),
        }
        whole
    })
}

#[test]
fn a_citation_is_found_with_its_section() {
    let text =
        "see \\\"The majority is lost\\\" in docs/cluster.md. And docs/formats/archive.md, not docs/benchmarks/cpu.svg";
    let found = citations(text);
    assert_eq!(
        found,
        [
            ("docs/cluster.md".to_owned(), Some("The majority is lost".to_owned())),
            ("docs/formats/archive.md".to_owned(), None)
        ]
    );
    assert_eq!(anchor("What to do when …"), "what-to-do-when-");
}
