//! House style that a reader can decide in ten seconds, decided by a machine.

use std::fs;
use std::path::{Path, PathBuf};

/// Longest file of production code, in lines.
const MAX_LINES: usize = 500;
/// Longest inline test module, in lines; a longer one moves to `name/tests.rs`.
const MAX_INLINE_TEST_LINES: usize = 150;
/// Names that say nothing.
const BANNED_NAMES: [&str; 8] = ["utils", "util", "helpers", "helper", "common", "types", "manager", "impls"];
const PACKAGES: [&str; 10] =
    ["model", "protocol", "hot-tier", "cold-tier", "coordinator", "broker", "firn", "sim", "tests", "bench"];

pub(crate) fn rust_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for package in PACKAGES {
        collect(&firn_tests::repository().join(package), &mut files);
    }
    assert!(files.len() > 100, "only {} files were found", files.len());
    files
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the entry is readable").path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Every file that breaks a rule, told at once.
fn assert_none(broken: &[String]) {
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_file_says_what_it_is_for() {
    let lacks = |path: &PathBuf| !fs::read_to_string(path).expect("readable").starts_with("//!");
    let broken: Vec<_> =
        rust_files().iter().filter(|p| lacks(p)).map(|p| format!("{}: no //! header", p.display())).collect();
    assert_none(&broken);
}

#[test]
fn no_file_is_two_rooms() {
    let mut broken = Vec::new();
    for path in rust_files() {
        if path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("readable");
        let lines: Vec<&str> = text.lines().collect();
        // `mod tests;` elsewhere in a file only names the tests' own file.
        let is_inline =
            |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{');
        let production = lines.windows(2).position(is_inline).unwrap_or(lines.len());
        if production > MAX_LINES {
            broken.push(format!("{}: {production} lines of production code", path.display()));
        }
        if lines.len() - production > MAX_INLINE_TEST_LINES {
            broken.push(format!("{}: {} lines of inline tests", path.display(), lines.len() - production));
        }
    }
    assert_none(&broken);
}

#[test]
fn names_say_something() {
    let mut broken = Vec::new();
    for path in rust_files() {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        if BANNED_NAMES.contains(&stem.as_str()) || stem == "mod" || stem.ends_with("_v2") {
            broken.push(format!("{}: a name that says nothing", path.display()));
        }
    }
    assert_none(&broken);
}

#[test]
fn nothing_is_left_to_do_or_switched_off_without_a_reason() {
    let marks =
        [["to", "do!("].concat(), ["unimple", "mented!("].concat(), ["FIX", "ME"].concat(), ["#[ig", "nore]"].concat()];
    let mut broken = Vec::new();
    for path in rust_files() {
        let text = fs::read_to_string(&path).expect("readable");
        for (number, line) in text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                broken.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert_none(&broken);
}

#[test]
fn libraries_do_not_ask_for_the_time() {
    let asks = ["SystemTime::now", "Instant::now", "rand::rng", "thread_rng"];
    let mut broken = Vec::new();
    for package in ["model", "protocol", "coordinator"] {
        let mut files = Vec::new();
        collect(&firn_tests::repository().join(package).join("src"), &mut files);
        for path in files {
            let text = fs::read_to_string(&path).expect("readable");
            for ask in asks.iter().filter(|ask| text.contains(**ask)) {
                broken.push(format!("{}: {ask}", path.display()));
            }
        }
    }
    assert_none(&broken);
}
