//! Who may import whom, from what cargo says of the workspace.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// The table of ARCHITECTURE.md: each package and those of ours that it may import. Think twice before adding a line: an
/// arrow more is easy to draw and hard to erase.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("protocol", &["model"]),
    ("hot-tier", &["model", "interleavings"]),
    ("cold-tier", &["model", "interleavings"]),
    ("analytics", &["model", "cold-tier"]),
    ("coordinator", &["model"]),
    ("broker", &["model", "protocol", "hot-tier", "cold-tier", "coordinator", "interleavings"]),
    ("firn", &["model", "protocol", "hot-tier", "cold-tier", "coordinator", "broker", "analytics"]),
    ("firn-sim", &["model", "protocol", "broker"]),
    ("faulty-disk", &[]),
    // For tests: a dependency of the others only there.
    ("interleavings", &[]),
    ("firn-tests", &["model", "protocol", "hot-tier", "cold-tier", "coordinator", "broker", "firn"]),
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        // Without dependencies: asking for them would download those of other platforms, too.
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .current_dir(firn_tests::repository())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

#[test]
fn packages_import_only_what_the_table_allows() {
    let metadata = metadata();
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.iter().copied().collect();
    let members: BTreeSet<&str> =
        metadata["workspace_members"].as_array().unwrap().iter().map(|m| m.as_str().unwrap()).collect();
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        if !members.contains(package["id"].as_str().unwrap()) {
            continue;
        }
        let name = package["name"].as_str().unwrap();
        seen.insert(name);
        let may = allowed.get(name).unwrap_or_else(|| panic!("package {name} is not in the table"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let dependency = dependency["name"].as_str().unwrap();
            if allowed.contains_key(dependency) {
                assert!(may.contains(&dependency), "{name} must not import {dependency}");
            }
        }
    }
    assert_eq!(seen, allowed.keys().copied().collect(), "the table names packages that do not exist");
}

#[test]
fn there_is_one_arrow_one_parquet_and_one_object_store() {
    let lock = std::fs::read_to_string(firn_tests::repository().join("Cargo.lock")).expect("the lock file is there");
    let lock: toml::Table = toml::from_str(&lock).expect("the lock file is TOML");
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in lock["package"].as_array().unwrap() {
        versions.entry(package["name"].as_str().unwrap()).or_default().insert(package["version"].as_str().unwrap());
    }
    for name in ["arrow-array", "arrow-schema", "parquet", "object_store", "zstd", "rustls", "hyper"] {
        let found = versions.get(name).unwrap_or_else(|| panic!("{name} is not in the tree"));
        assert_eq!(found.len(), 1, "{name} is there as {found:?}");
    }
}
