//! The hot tier's checkpoint.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    hot_tier::fuzzing::checkpoint(data);
});
