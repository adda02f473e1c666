//! Places where a test may kill the process: between the steps of settling, retention, the sweep, and of what leaves do.
//!
//! A debug build that is started with `FIRN_TEST_CRASH_AT=STEP` dies at that step as if by SIGKILL, the first time it gets
//! there; `STEP:3` dies the third time. A release build has no such places.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where and when to die.
#[derive(Debug)]
struct Target {
    step: String,
    passes_left: AtomicU32,
}

static TARGET: OnceLock<Option<Target>> = OnceLock::new();

/// Dies here, if a test wants it.
#[inline]
pub fn crash_point(step: &str) {
    if cfg!(debug_assertions) {
        let Some(target) = TARGET.get_or_init(|| std::env::var("FIRN_TEST_CRASH_AT").ok().map(parse)) else { return };
        if target.step == step && target.passes_left.fetch_sub(1, Ordering::AcqRel) == 1 {
            // No destructor, no flush, no farewell.
            std::process::abort();
        }
    }
}

fn parse(wanted: String) -> Target {
    match wanted.split_once(':') {
        Some((step, nth)) => {
            Target { step: step.to_owned(), passes_left: AtomicU32::new(nth.parse().unwrap_or(1).max(1)) }
        }
        None => Target { step: wanted, passes_left: AtomicU32::new(1) },
    }
}
