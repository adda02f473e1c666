//! Bytes from a bucket as an archived object: footer, page index, every chunk's pages, the producers' state.
#![no_main]

use bytes::Bytes;
use cold_tier::inspect::{Inspected, inspect};
use libfuzzer_sys::fuzz_target;
use model::batch::{Batches, RecordsBuffer};

const MAX_RECORDS_BYTES: usize = 64 << 20;

fuzz_target!(|data: &[u8]| {
    let Ok(Inspected::Object(object)) = inspect(Bytes::copy_from_slice(data)) else { return };
    let _ = object.producers();
    for chunk in 0..object.chunks().len() {
        let Ok(batches) = object.batches(chunk) else { continue };
        let mut buffer = RecordsBuffer::new(MAX_RECORDS_BYTES);
        for batch in Batches::new(&batches) {
            let batch = batch.expect("rebuilt batches are whole");
            for record in batch.records(&mut buffer).expect("rebuilt batches can be read") {
                record.expect("rebuilt records can be read");
            }
        }
    }
});
