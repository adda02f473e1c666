//! The APIs by which a cluster is operated.

use protocol::ApiKey;
use protocol::messages::{
    AddRaftVoterRequest, AlterPartitionReassignmentsRequest, DescribeQuorumRequest, ElectLeadersRequest,
    ListPartitionReassignmentsRequest, RemoveRaftVoterRequest, UnregisterBrokerRequest, UpdateFeaturesRequest,
    alter_partition_reassignments_request as reassign, describe_quorum_request as quorum,
    describe_quorum_response as state, elect_leaders_request as elect, list_partition_reassignments_request as moving,
    update_features_request as features,
};

use super::{Asker, TOPIC, expect_success, text, versions};

const NO_REASSIGNMENT_IN_PROGRESS: i16 = 85;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const DUPLICATE_VOTER: i16 = 126;
const VOTER_NOT_FOUND: i16 = 127;
const INVALID_UPDATE_VERSION: i16 = 95;
const INCONSISTENT_CLUSTER_ID: i16 = 104;
const INVALID_REQUEST: i16 = 42;
const ELECTION_NOT_NEEDED: i16 = 84;
const BROKER_ID_NOT_REGISTERED: i16 = 102;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

pub(super) fn operate(asker: &mut Asker) {
    let node = describe_quorum(asker);
    elect_leaders(asker);
    reassign(asker, node);
    change_voters(asker, node);
    for version in versions::<UnregisterBrokerRequest>() {
        let request = UnregisterBrokerRequest { broker_id: 77, ..UnregisterBrokerRequest::default() };
        assert_eq!(asker.ask(&request, version).error_code, BROKER_ID_NOT_REGISTERED);
    }
    update_features(asker);
}

/// Down and up again. What is refused stands beside each feature before version 2, and for the whole from then on.
fn update_features(asker: &mut Asker) {
    let (upgrade, downgrade) = (1, 2);
    let update = |feature: &str, max_version_level, upgrade_type| features::FeatureUpdateKey {
        feature: text(feature),
        max_version_level,
        allow_downgrade: upgrade_type == downgrade,
        upgrade_type,
        ..features::FeatureUpdateKey::default()
    };
    for version in versions::<UpdateFeaturesRequest>() {
        let mut ask = |updates: Vec<features::FeatureUpdateKey>| {
            // Fields that a version does not have are at their defaults.
            let fit = |update: features::FeatureUpdateKey| features::FeatureUpdateKey {
                allow_downgrade: version == 0 && update.allow_downgrade,
                upgrade_type: if version == 0 { upgrade } else { update.upgrade_type },
                ..update
            };
            let feature_updates = updates.into_iter().map(fit).collect();
            let answer =
                asker.ask(&UpdateFeaturesRequest { feature_updates, ..UpdateFeaturesRequest::default() }, version);
            let results: Vec<i16> = answer.results.iter().map(|result| result.error_code).collect();
            (answer.error_code, results)
        };
        // A refusal is one of the whole request, in every version.
        let whole_or_each = |code| if version < 2 && code == 0 { (0, vec![0]) } else { (code, Vec::new()) };
        let own = "firn.metadata.version";
        assert_eq!(ask(vec![update(own, 1, downgrade)]), whole_or_each(0));
        assert_eq!(ask(vec![update(own, 2, upgrade)]), whole_or_each(0));
        assert_eq!(ask(vec![update(own, 1, upgrade)]), whole_or_each(INVALID_UPDATE_VERSION));
        assert_eq!(ask(vec![update(own, 99, upgrade)]), whole_or_each(INVALID_UPDATE_VERSION));
        assert_eq!(ask(vec![update("metadata.version", 25, upgrade)]), whole_or_each(INVALID_UPDATE_VERSION));
        assert_eq!(ask(vec![update(own, -1, upgrade)]), whole_or_each(INVALID_REQUEST));
        assert_eq!(ask(Vec::new()), (0, Vec::new()));
    }
}

/// Returns the leader.
fn describe_quorum(asker: &mut Asker) -> i32 {
    let mut leader = -1;
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
        leader = *leader_id;
        assert!(*leader_epoch > 0 && *high_watermark > 0, "{answer:?}");
        assert!(current_voters[0].log_end_offset >= *high_watermark, "{answer:?}");
        let listeners: Vec<_> = answer.nodes.iter().flat_map(|node| &node.listeners).collect();
        assert_eq!(listeners.len(), usize::from(version >= 2), "{answer:?}");
        assert!(listeners.iter().all(|listener| listener.port > 0), "{answer:?}");
        let answer = asker.ask(&asked("orders"), version);
        assert_eq!(answer.topics[0].partitions[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
    }
    leader
}

/// A cluster of one is led as it should be: there is nothing to elect, and a list of all names nothing.
fn elect_leaders(asker: &mut Asker) {
    let asked = |topic: &str| elect::TopicPartitions {
        topic: text(topic),
        partitions: vec![0],
        ..elect::TopicPartitions::default()
    };
    for version in versions::<ElectLeadersRequest>() {
        let request = ElectLeadersRequest {
            topic_partitions: Some(vec![asked(TOPIC), asked("nowhere")]),
            ..ElectLeadersRequest::default()
        };
        let answer = asker.ask(&request, version);
        let codes: Vec<_> = answer
            .replica_election_results
            .iter()
            .map(|topic| (topic.topic.to_string(), topic.partition_result[0].error_code))
            .collect();
        let expected = [("nowhere".to_owned(), UNKNOWN_TOPIC_OR_PARTITION), (TOPIC.to_owned(), ELECTION_NOT_NEEDED)];
        assert_eq!(codes, expected, "version {version}");
        let all = ElectLeadersRequest { topic_partitions: None, ..ElectLeadersRequest::default() };
        let answer = asker.ask(&all, version);
        assert_eq!((answer.error_code, answer.replica_election_results.len()), (0, 0), "version {version}");
    }
}

/// The only broker keeps everything already; anything else is refused for its own reason.
fn reassign(asker: &mut Asker, node: i32) {
    let partition = |replicas: Option<Vec<i32>>| reassign::ReassignablePartition {
        replicas,
        ..reassign::ReassignablePartition::default()
    };
    for version in versions::<AlterPartitionReassignmentsRequest>() {
        let mut ask = |topic: &str, replicas| {
            let request = AlterPartitionReassignmentsRequest {
                topics: vec![reassign::ReassignableTopic {
                    name: text(topic),
                    partitions: vec![partition(replicas)],
                    ..reassign::ReassignableTopic::default()
                }],
                ..AlterPartitionReassignmentsRequest::default()
            };
            let answer = asker.ask(&request, version);
            assert_eq!(answer.error_code, 0, "version {version}: {answer:?}");
            answer.responses[0].partitions[0].error_code
        };
        assert_eq!(ask(TOPIC, Some(vec![node])), 0, "version {version}");
        assert_eq!(ask(TOPIC, None), NO_REASSIGNMENT_IN_PROGRESS, "version {version}");
        assert_eq!(ask(TOPIC, Some(vec![node, 77])), INVALID_REPLICA_ASSIGNMENT, "version {version}");
        assert_eq!(ask("nowhere", Some(vec![node])), UNKNOWN_TOPIC_OR_PARTITION, "version {version}");
    }
    let asked = moving::ListPartitionReassignmentsTopics {
        name: text(TOPIC),
        partition_indexes: vec![0],
        ..moving::ListPartitionReassignmentsTopics::default()
    };
    for topics in [None, Some(vec![asked])] {
        let request = ListPartitionReassignmentsRequest { topics, ..ListPartitionReassignmentsRequest::default() };
        let answer = asker.ask(&request, 0);
        assert_eq!((answer.error_code, answer.topics.len()), (0, 0), "{answer:?}");
    }
}

/// Nobody follows the only voter, and it cannot lose its vote.
fn change_voters(asker: &mut Asker, node: i32) {
    for version in versions::<AddRaftVoterRequest>() {
        let mut add = |voter_id, cluster_id| {
            let request = AddRaftVoterRequest { voter_id, cluster_id, ..AddRaftVoterRequest::default() };
            asker.ask(&request, version).error_code
        };
        assert_eq!(add(node, None), DUPLICATE_VOTER, "version {version}");
        assert_eq!(add(77, None), VOTER_NOT_FOUND, "version {version}");
        assert_eq!(add(77, Some(text("another"))), INCONSISTENT_CLUSTER_ID, "version {version}");
    }
    let mut remove = |voter_id| {
        asker
            .ask(&RemoveRaftVoterRequest { cluster_id: None, voter_id, ..RemoveRaftVoterRequest::default() }, 0)
            .error_code
    };
    assert_eq!(remove(node), INVALID_REQUEST);
    assert_eq!(remove(77), VOTER_NOT_FOUND);
}
