//! A consumer group as `firn group` shows it. The member is a hand-made one, request by request.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use protocol::coordinator_record::encode_versioned;
use protocol::messages::consumer_protocol_assignment::TopicPartition;
use protocol::messages::join_group_request::JoinGroupRequestProtocol;
use protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest,
    SyncGroupRequest,
};
use protocol::{Message, Request, Str, frame};
use serde_json::json;

use crate::process::{PATIENCE, Server, wait_for};

/// A connection that sends requests in versions of the test's choice.
struct Raw {
    stream: TcpStream,
}

impl Raw {
    fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        let bytes = frame::request(request, version, 1, Some(Str::from_static("by hand"))).unwrap().into_bytes();
        self.stream.write_all(&bytes).unwrap();
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::try_from(i32::from_be_bytes(length)).unwrap()];
        self.stream.read_exact(&mut answer).unwrap();
        let (_, mut body) = frame::open_response(R::KEY, version, Bytes::from(answer)).unwrap();
        R::Response::decode(&mut body, version).unwrap()
    }

    fn join(&mut self) -> JoinGroupResponse {
        let subscription = ConsumerProtocolSubscription { topics: vec!["t".into()], ..Default::default() };
        let protocol = JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: encode_versioned(&subscription, 0).unwrap(),
            ..Default::default()
        };
        let request = JoinGroupRequest {
            group_id: "g".into(),
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 30_000,
            protocol_type: "consumer".into(),
            protocols: vec![protocol],
            ..Default::default()
        };
        // The coordinator's partition may still be loading.
        wait_for("joining", || Some(self.call(&request, 3)).filter(|answer| answer.error_code == 0))
    }

    fn sync(&mut self, joined: &JoinGroupResponse, partitions: Vec<i32>) {
        let owned = TopicPartition { topic: "t".into(), partitions };
        let assignment = ConsumerProtocolAssignment { assigned_partitions: vec![owned], ..Default::default() };
        let assignment = SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: encode_versioned(&assignment, 0).unwrap(),
            ..Default::default()
        };
        let request = SyncGroupRequest {
            group_id: "g".into(),
            generation_id: joined.generation_id,
            member_id: joined.member_id.clone(),
            assignments: vec![assignment],
            ..Default::default()
        };
        assert_eq!(self.call(&request, 2).error_code, 0);
    }

    fn commit(&mut self, joined: &JoinGroupResponse, partition: i32, offset: i64) {
        let committed = OffsetCommitRequestPartition {
            partition_index: partition,
            committed_offset: offset,
            committed_metadata: Some(Str::default()),
            ..Default::default()
        };
        let topic = OffsetCommitRequestTopic { name: "t".into(), partitions: vec![committed], ..Default::default() };
        let request = OffsetCommitRequest {
            group_id: "g".into(),
            generation_id_or_member_epoch: joined.generation_id,
            member_id: joined.member_id.clone(),
            topics: vec![topic],
            ..Default::default()
        };
        assert_eq!(self.call(&request, 5).topics[0].partitions[0].error_code, 0);
    }
}

#[test]
fn a_group_shows_members_committed_offsets_and_lag() {
    let server = Server::start();
    server.text(&["topic", "create", "t", "--partitions", "2"]);
    server.produce(&["t", "--partition", "0"], b"1\n2\n3\n");
    let stream = TcpStream::connect(server.bootstrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut member = Raw { stream };
    // The first look at a group makes the coordinator's topic.
    wait_for("a coordinator", || server.output(&["group", "describe", "g"]).status.code());
    let joined = member.join();
    member.sync(&joined, vec![0, 1]);
    member.commit(&joined, 0, 2);

    assert_eq!(
        server.json(&["group", "list", "--json"]),
        json!([{"group": "g", "state": "Stable", "protocol_type": "consumer"}])
    );
    let group = server.json(&["group", "describe", "g", "--json"]);
    let id = joined.member_id.as_str();
    assert_eq!((&group["state"], &group["protocol"]), (&json!("Stable"), &json!("range")));
    assert_eq!(group["members"][0]["assigned"], json!({"t": [0, 1]}));
    assert_eq!(group["members"][0]["client_id"], "by hand");
    assert_eq!(
        group["offsets"],
        json!([
            {"topic": "t", "partition": 0, "committed": 2, "log_end": 3, "lag": 1, "member_id": id},
            {"topic": "t", "partition": 1, "committed": null, "log_end": 0, "lag": null, "member_id": id},
        ])
    );
    let text = server.text(&["group", "describe", "g"]);
    assert!(text.contains("state Stable") && text.contains("t [0,1]"), "{text}");
}
