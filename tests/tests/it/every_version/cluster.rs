//! The APIs by which a cluster is operated.

use protocol::ApiKey;
use protocol::messages::{
    DescribeQuorumRequest, UnregisterBrokerRequest, describe_quorum_request as quorum,
    describe_quorum_response as state,
};

use super::{Asker, expect_success, text, versions};

const BROKER_ID_NOT_REGISTERED: i16 = 102;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

pub(super) fn operate(asker: &mut Asker) {
    describe_quorum(asker);
    for version in versions::<UnregisterBrokerRequest>() {
        let request = UnregisterBrokerRequest { broker_id: 77, ..UnregisterBrokerRequest::default() };
        assert_eq!(asker.ask(&request, version).error_code, BROKER_ID_NOT_REGISTERED);
    }
}

fn describe_quorum(asker: &mut Asker) {
    let asked = |name: &str| DescribeQuorumRequest {
        topics: vec![quorum::TopicData {
            topic_name: text(name),
            partitions: vec![quorum::PartitionData::default()],
            ..quorum::TopicData::default()
        }],
        ..DescribeQuorumRequest::default()
    };
    for version in versions::<DescribeQuorumRequest>() {
        let answer = asker.ask(&asked("__cluster_metadata"), version);
        expect_success(&answer, ApiKey::DescribeQuorum, version);
        let state::PartitionData { leader_id, leader_epoch, high_watermark, current_voters, .. } =
            &answer.topics[0].partitions[0];
        let voters: Vec<i32> = current_voters.iter().map(|voter| voter.replica_id).collect();
        assert_eq!(voters, [*leader_id], "a cluster of one votes for itself");
        assert!(*leader_epoch > 0 && *high_watermark > 0, "{answer:?}");
        assert!(current_voters[0].log_end_offset >= *high_watermark, "{answer:?}");
        let answer = asker.ask(&asked("orders"), version);
        assert_eq!(answer.topics[0].partitions[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
    }
}
