//! Cutting a stream into frames, and opening them.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use protocol::frame::{self, FrameError, FrameSplitter, HeaderError, RequestHeader};
use protocol::messages::{ApiVersionsResponse, FetchRequest, FetchResponse, fetch_response};
use protocol::{ApiKey, BY_REFERENCE_MIN_BYTES, Records, versions};

const MAX_FRAME_BYTES: usize = 1000;

fn buffer(bytes: &[u8]) -> BytesMut {
    BytesMut::from(bytes)
}

#[test]
fn a_frame_comes_out_once_it_is_whole() {
    let splitter = FrameSplitter::new(MAX_FRAME_BYTES);
    let stream = [&[0, 0, 0, 3][..], b"abc", &[0, 0, 0, 1], b"d"].concat();
    let (mut arrived, mut frames) = (BytesMut::new(), Vec::new());
    for byte in stream {
        arrived.extend_from_slice(&[byte]);
        while let Some(frame) = splitter.next_frame(&mut arrived).unwrap() {
            frames.push(frame);
        }
    }
    assert_eq!(frames, [Bytes::from_static(b"abc"), Bytes::from_static(b"d")]);
    assert!(arrived.is_empty());
}

#[test]
fn a_length_of_zero_or_less_is_refused() {
    let splitter = FrameSplitter::new(MAX_FRAME_BYTES);
    for (bytes, length) in [([0, 0, 0, 0], 0), ([0xff, 0xff, 0xff, 0xff], -1), ([0x80, 0, 0, 0], i32::MIN)] {
        assert_eq!(splitter.next_frame(&mut buffer(&bytes)), Err(FrameError::NotPositive { length }));
    }
}

#[test]
fn a_length_over_the_limit_is_refused_before_its_bytes_arrive() {
    let splitter = FrameSplitter::new(MAX_FRAME_BYTES);
    let oversized = buffer(&[0, 0, 0x03, 0xe9]);
    assert_eq!(splitter.missing_bytes(&oversized), Err(FrameError::TooLarge { length: 1001, max: 1000 }));
    assert_eq!(splitter.next_frame(&mut buffer(&[0, 0, 0x03, 0xe8])), Ok(None));
    let error = splitter.next_frame(&mut buffer(&[0x47, 0, 0, 0])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a frame of 1191182336 bytes was announced, the limit is 1000 (socket.request.max.bytes)"
    );
}

#[test]
fn another_protocol_is_named_with_what_to_change() {
    let splitter = FrameSplitter::new(MAX_FRAME_BYTES);
    let said = |bytes: &[u8]| splitter.next_frame(&mut buffer(bytes)).unwrap_err().to_string();
    let tls = said(&[0x16, 0x03, 0x01, 0x02, 0x00]);
    assert!(tls.starts_with("the client speaks TLS") && tls.ends_with("set security.protocol=PLAINTEXT"), "{tls}");
    for request in ["GET / HTTP/1.1", "POST /v1/sql HTTP/1.1", "PRI * HTTP/2.0"] {
        let http = said(request.as_bytes());
        assert!(http.starts_with("the client speaks HTTP") && http.contains("admin port"), "{http}");
    }
}

#[test]
fn a_large_frame_is_awaited_in_steps() {
    let splitter = FrameSplitter::new(100 * 1024 * 1024);
    assert_eq!(splitter.missing_bytes(&buffer(&[])), Ok(4));
    assert_eq!(splitter.missing_bytes(&buffer(&[0, 0, 0, 9, 1])), Ok(8));
    assert_eq!(splitter.missing_bytes(&buffer(&[0x05, 0, 0, 0])), Ok(1024 * 1024));
}

#[test]
fn a_truncated_frame_stays_in_the_buffer() {
    let mut arrived = buffer(&[0, 0, 0, 9, 1, 2, 3]);
    assert_eq!(FrameSplitter::new(MAX_FRAME_BYTES).next_frame(&mut arrived), Ok(None));
    assert_eq!(arrived.len(), 7);
}

#[test]
fn a_request_is_opened_as_it_was_built() {
    let request = FetchRequest { max_wait_ms: 500, ..FetchRequest::default() };
    let frame = frame::request(&request, 12, 77, Some("me".into())).unwrap().into_bytes();
    let (header, mut reader) = RequestHeader::decode(frame.slice(4..)).unwrap();
    assert_eq!((header.key, header.version, header.correlation_id), (ApiKey::Fetch, 12, 77));
    assert_eq!(FetchRequest::decode(&mut reader, header.version), Ok(request));
    assert_eq!(reader.remaining(), 0);
}

#[test]
fn an_api_that_does_not_exist_is_named() {
    let error = RequestHeader::decode(Bytes::from_static(&[0x03, 0xe7, 0, 1, 0, 0, 0, 1])).unwrap_err();
    assert_eq!(error, HeaderError::UnknownApi { id: 999, version: 1 });
    let error = RequestHeader::decode(Bytes::from_static(&[0])).unwrap_err();
    assert!(matches!(error, HeaderError::Malformed(_)), "{error}");
}

#[test]
fn api_versions_of_an_unknown_version_is_answered_as_kafka_does() {
    // The request as version 99 and the answer, both as exchanged with Apache Kafka 4.3.1.
    let request = Bytes::from_static(b"\x00\x12\x00\x63\x00\x00\x00\x07\x00\x02me\x00\x02a\x02b\x00");
    let (header, _) = RequestHeader::decode(request).unwrap();
    assert_eq!(versions::support(header.key, header.version), versions::Support::ApiVersionsFallback);
    let fallback = versions::api_versions_fallback();
    let answer = frame::response(header.key, 0, header.correlation_id, &fallback).unwrap().into_bytes();
    assert_eq!(answer, b"\0\0\0\x10\0\0\0\x07\0\x23\0\0\0\x01\0\x12\0\0\0\x04"[..]);
}

#[test]
fn the_response_of_api_versions_has_the_oldest_header() {
    let body = ApiVersionsResponse { api_keys: versions::announced(), ..ApiVersionsResponse::default() };
    let answer = frame::response(ApiKey::ApiVersions, 4, 1, &body).unwrap().into_bytes();
    assert_eq!(answer[4..10], [0, 0, 0, 1, 0, 0]);
    let (id, mut reader) = frame::open_response(ApiKey::ApiVersions, 4, answer.slice(4..)).unwrap();
    assert_eq!((id, ApiVersionsResponse::decode(&mut reader, 4)), (1, Ok(body)));
}

#[test]
fn records_of_a_fetch_response_are_sent_from_where_they_lie() {
    let records = Bytes::from(vec![9; BY_REFERENCE_MIN_BYTES]);
    let partition =
        fetch_response::PartitionData { records: Some(Records::from(records.clone())), ..Default::default() };
    let topic = fetch_response::FetchableTopicResponse { partitions: vec![partition; 3], ..Default::default() };
    let response = FetchResponse { responses: vec![topic], ..Default::default() };
    for version in 4..=18 {
        let frame = frame::response(ApiKey::Fetch, version, 1, &response).unwrap();
        let referenced = frame.segments.iter().filter(|segment| segment.as_ptr() == records.as_ptr()).count();
        assert_eq!(referenced, 3);
        let (_, mut reader) = frame::open_response(ApiKey::Fetch, version, frame.into_bytes().slice(4..)).unwrap();
        assert_eq!(FetchResponse::decode(&mut reader, version).unwrap(), response);
    }
}

proptest! {
    #[test]
    fn garbage_is_never_more_than_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let splitter = FrameSplitter::new(MAX_FRAME_BYTES);
        let mut arrived = buffer(&bytes);
        let _ = splitter.missing_bytes(&arrived);
        while let Ok(Some(frame)) = splitter.next_frame(&mut arrived) {
            prop_assert!(!frame.is_empty() && frame.len() <= MAX_FRAME_BYTES);
            let _ = RequestHeader::decode(frame);
        }
    }
}
