//! An entry of the hot tier's journal.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    hot_tier::fuzzing::journal_entry(data);
});
