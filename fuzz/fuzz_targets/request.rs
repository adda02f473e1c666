//! A stranger's bytes as a stream of requests: nothing panics, and what was understood can be said again.
#![no_main]

use bytes::{Bytes, BytesMut};
use libfuzzer_sys::fuzz_target;
use protocol::frame::FrameSplitter;
use protocol::{Writer, decode_any_request};

const MAX_FRAME_BYTES: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let mut buffer = BytesMut::from(data);
    let splitter = FrameSplitter::new(MAX_FRAME_BYTES);
    while let Ok(Some(frame)) = splitter.next_frame(&mut buffer) {
        check(frame);
    }
    check(Bytes::copy_from_slice(data));
});

fn check(frame: Bytes) {
    let Ok(request) = decode_any_request(frame) else { return };
    let mut writer = Writer::new();
    request.body.encode_any(&mut writer, request.header.version).expect("what was decoded can be encoded");
}
