//! The page about compatibility is current. `FIRN_BLESS=1` rewrites it.

use std::path::Path;
use std::{env, fs};

#[test]
fn the_page_about_compatibility_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kafka-compatibility.md");
    let existing = fs::read_to_string(&path).unwrap();
    let current = protocol::compatibility::page(&existing).expect("the page has the marks of its generated part");
    if env::var_os("FIRN_BLESS").is_some() {
        fs::write(&path, current).unwrap();
    } else {
        assert!(existing == current, "docs/kafka-compatibility.md is out of date: FIRN_BLESS=1 cargo test -p protocol");
    }
}
