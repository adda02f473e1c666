//! A stranger's bytes as the records of a produce request. What is taken at the door can be read in full afterwards.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use model::batch::{Batches, ProduceLimits, RecordsBuffer, validate_produced};

const MAX_RECORDS_BYTES: usize = 1 << 20;
/// Where the length lies in a batch.
const LENGTH: usize = 8;
/// Where the format's number lies.
const MAGIC: usize = 16;
/// Where the checksum lies.
const CRC: usize = 17;
/// Where that begins which the checksum covers.
const CHECKED: usize = 21;

fuzz_target!(|data: &[u8]| {
    check(data.to_vec());
    // The fuzzer finds no checksums by itself.
    check(repaired(data));
});

fn repaired(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    if bytes.len() > CHECKED {
        let length = u32::try_from(bytes.len() - LENGTH - 4).expect("a fuzzer's input is small");
        bytes[LENGTH..LENGTH + 4].copy_from_slice(&length.to_be_bytes());
        bytes[MAGIC] = 2;
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &bytes[CHECKED..]);
        let crc = u32::try_from(crc).expect("a CRC-32C has 32 bits");
        bytes[CRC..CRC + 4].copy_from_slice(&crc.to_be_bytes());
    }
    bytes
}

fn check(bytes: Vec<u8>) {
    let _ = read(&bytes);
    let limits = ProduceLimits {
        max_batch_bytes: MAX_RECORDS_BYTES,
        max_decompressed_bytes: MAX_RECORDS_BYTES,
        timestamp_type: model::batch::TimestampType::CreateTime,
        timestamp_before_max_ms: u64::MAX,
        timestamp_after_max_ms: u64::MAX,
        now: 0,
    };
    if let Ok(batch) = validate_produced(Bytes::from(bytes), &limits) {
        let count = read(batch.bytes()).expect("a batch that was taken can be read");
        assert_eq!(Ok(count), usize::try_from(batch.record_count), "it holds what it says");
    }
}

/// Reads every record and header; says how many records there are.
fn read(bytes: &[u8]) -> Result<usize, model::batch::BatchError> {
    let mut buffer = RecordsBuffer::new(MAX_RECORDS_BYTES);
    let mut count = 0;
    for batch in Batches::new(bytes) {
        let batch = batch?;
        for record in batch.records(&mut buffer)? {
            for header in record?.headers.iter() {
                header?;
            }
            count += 1;
        }
    }
    Ok(count)
}
