//! Records of `__consumer_offsets` as a restarted coordinator reads them.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use protocol::coordinator_record::{CoordinatorKey, decode_versioned};
use protocol::messages::{GroupMetadataValue, OffsetCommitValue};

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(key) = CoordinatorKey::decode(bytes.clone()) {
        let stored = key.encode().expect("what was decoded can be encoded");
        assert_eq!(CoordinatorKey::decode(stored).as_ref(), Ok(&key));
    }
    let _ = decode_versioned::<GroupMetadataValue>(bytes.clone());
    let _ = decode_versioned::<OffsetCommitValue>(bytes);
});
