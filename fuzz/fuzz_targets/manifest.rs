//! Bytes from a bucket as a manifest. What was understood is stored again as the same.
#![no_main]

use cold_tier::Manifest;
use cold_tier::manifest::Node;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    check(data);
    // The fuzzer finds no checksums by itself.
    let json = data.iter().position(|&byte| byte == b'\n').map_or(data, |end| &data[end + 1..]);
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, json);
    for magic in ["firn-manifest", "firn-manifest-node"] {
        let mut bytes = format!("{magic} 1 {} {crc:08x}\n", json.len()).into_bytes();
        bytes.extend_from_slice(json);
        check(&bytes);
    }
});

fn check(bytes: &[u8]) {
    if let Ok(manifest) = Manifest::decode(bytes) {
        let stored = manifest.encode().expect("a manifest can be stored");
        assert_eq!(Manifest::decode(&stored).as_ref(), Ok(&manifest));
    }
    if let Ok(node) = Node::decode(bytes) {
        let stored = node.encode().expect("a child manifest can be stored");
        assert_eq!(Node::decode(&stored).as_ref(), Ok(&node));
    }
}
