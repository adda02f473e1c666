//! A snapshot of producer state.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    hot_tier::fuzzing::producer_snapshot(data);
});
