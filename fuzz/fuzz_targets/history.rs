//! A partition's log start and leader epochs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    hot_tier::fuzzing::history(data);
});
