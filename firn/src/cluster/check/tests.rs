//! Tables of clusters, and what is said of them.

use super::*;
use crate::client::overview::{
    BrokerState, PartitionState, QuorumMember, QuorumState, Reassignment, TopicState, UsualReplicas,
};

/// Three brokers in three racks, all alive, three voters, no topics.
fn three() -> Overview {
    let broker = |id, rack: &str| BrokerState {
        id,
        host: "h".to_owned(),
        port: 9092,
        rack: Some(rack.to_owned()),
        is_fenced: false,
    };
    let voter = |id| QuorumMember { id, log_end: 100, address: None };
    Overview {
        cluster_id: "c".to_owned(),
        controller: 1,
        brokers: vec![broker(1, "a"), broker(2, "b"), broker(3, "c")],
        topics: Vec::new(),
        quorum: QuorumState {
            leader: 1,
            epoch: 1,
            high_watermark: 100,
            voters: vec![voter(1), voter(2), voter(3)],
            learners: Vec::new(),
        },
        usual: UsualReplicas { ordinary: 1, group_offsets: 3 },
    }
}

fn with_partition(mut overview: Overview, leader: i32, replicas: &[i32], in_sync: &[i32]) -> Overview {
    let partition = PartitionState {
        index: 0,
        leader,
        replicas: replicas.to_vec(),
        in_sync: in_sync.to_vec(),
        eligible: Vec::new(),
    };
    overview.topics.push(TopicState { name: "t".to_owned(), min_in_sync: 2, partitions: vec![partition] });
    overview
}

fn fence(mut overview: Overview, id: i32) -> Overview {
    overview.brokers.iter_mut().filter(|broker| broker.id == id).for_each(|broker| broker.is_fenced = true);
    overview
}

fn examine(overview: &Overview, moving: &[Reassignment]) -> Vec<Finding> {
    let mut all = quorum::examine(overview);
    all.extend(brokers::examine(overview, |_| false));
    all.extend(partitions::examine(overview, moving));
    all
}

fn problems(overview: &Overview) -> Vec<Finding> {
    let mut all = examine(overview, &[]);
    all.retain(|finding| finding.severity == Severity::Problem);
    all
}

fn only(findings: Vec<Finding>) -> Finding {
    assert_eq!(findings.len(), 1, "{findings:#?}");
    findings.into_iter().next().unwrap()
}

#[test]
fn nothing_is_said_of_a_cluster_that_is_well() {
    assert_eq!(examine(&with_partition(three(), 1, &[1, 2, 3], &[1, 2, 3]), &[]), []);
}

#[test]
fn a_lost_broker_is_named_with_what_it_held_and_what_to_do() {
    let overview = fence(with_partition(three(), 1, &[1, 2, 3], &[1, 2]), 3);
    let found = problems(&overview);
    assert_eq!(found.len(), 3, "{found:#?}");
    let voters = "1 of 3 voters of the metadata quorum is lost (node 3), 2 answer: ";
    assert!(found[0].what.starts_with(voters), "{found:#?}");
    assert!(found[0].what.contains("the loss of one more stops"), "{found:#?}");
    assert!(found[1].what.contains("broker 3 (h:9092, rack c) is down"), "{found:#?}");
    assert!(found[1].what.contains("1 partition miss"), "{found:#?}");
    assert!(found[1].advice.contains("firn cluster decommission 3"), "{found:#?}");
    assert!(found[2].what.contains("fewer copies"), "{found:#?}");
    assert_eq!(found[2].places, ["t-0: in sync 2 of 3 (needs 2), missing 3"]);
    assert!(found[2].advice.contains("Bring the missing brokers back"), "{found:#?}");
}

#[test]
fn what_follows_from_a_lost_broker_is_listed_below_it() {
    let overview = fence(with_partition(three(), 1, &[1, 2, 3], &[1, 2]), 3);
    let found = only(grouped(problems(&overview)));
    assert!(found.what.starts_with("broker 3 (h:9092, rack c) is down"), "{found:#?}");
    let below: Vec<&str> = found.consequences.iter().map(|finding| finding.what.as_str()).collect();
    assert!(below[0].starts_with("1 of 3 voters") && below[1].contains("fewer copies"), "{below:?}");
    // One that is up has another cause.
    let both = grouped(problems(&fence(with_partition(three(), 1, &[1, 2, 3], &[1]), 3)));
    assert!(both.len() == 2 && both[1].what.contains("below min.insync.replicas"), "{both:#?}");
    // A partition that waits for one of two says which will do.
    let mut waiting = fence(fence(with_partition(three(), -1, &[1, 2, 3], &[2, 3]), 2), 3);
    waiting.quorum.leader = -1;
    let found = grouped(problems(&waiting));
    assert_eq!(found.iter().filter(|finding| finding.is.is_some()).count(), 2, "{found:#?}");
    assert!(found.iter().any(|finding| finding.advice.starts_with("Start broker 2 or 3:")), "{found:#?}");
}

#[test]
fn a_replica_that_is_up_but_not_in_sync_is_told_from_a_lost_one() {
    let found = only(problems(&with_partition(three(), 1, &[1, 2, 3], &[1, 2])));
    assert!(found.advice.contains("Broker 3 is up and should be catching up"), "{found:#?}");
}

#[test]
fn too_few_copies_for_acks_all_is_said_to_refuse_writes() {
    let found = only(problems(&with_partition(three(), 1, &[1, 2, 3], &[1])));
    assert!(found.what.contains("below min.insync.replicas: writes with acks=all are refused"), "{found:#?}");
}

#[test]
fn a_partition_without_a_leader_waits_for_those_that_have_everything() {
    let mut overview = fence(with_partition(three(), -1, &[1, 2, 3], &[3]), 3);
    overview.topics[0].partitions[0].eligible = vec![2];
    overview = fence(overview, 2);
    let found = problems(&overview);
    let leaderless = found.iter().find(|finding| finding.what.contains("neither read nor written")).unwrap();
    assert!(leaderless.advice.starts_with("Start broker 2 or 3:"), "{leaderless:#?}");
    assert!(leaderless.advice.contains("--unclean"), "{leaderless:#?}");
    assert_eq!(leaderless.places, ["t-0"]);
}

#[test]
fn a_quorum_without_a_leader_names_the_voters_that_are_missing() {
    let mut overview = fence(fence(three(), 2), 3);
    overview.quorum.leader = -1;
    let found = &problems(&overview)[0];
    assert!(found.what.contains("no leader") && found.what.contains("(2, 3 do not answer)"), "{found:#?}");
    assert!(found.advice.contains("until 2 of 3 run"), "{found:#?}");
}

#[test]
fn a_voter_far_behind_and_a_single_voter_are_mentioned() {
    let mut overview = three();
    overview.quorum.high_watermark = 50_000;
    overview.quorum.voters[0].log_end = 50_000;
    let found = only(problems(&overview));
    assert_eq!(found.places, ["node 2: 49900 entries behind", "node 3: 49900 entries behind"]);
}

#[test]
fn too_few_voters_and_an_even_number_of_them_are_problems() {
    let with_voters = |voters: usize| {
        let mut overview = three();
        let fourth = QuorumMember { id: 4, ..overview.quorum.voters[0].clone() };
        overview.quorum.voters.push(fourth);
        overview.brokers.push(BrokerState { id: 4, ..overview.brokers[0].clone() });
        overview.quorum.learners = overview.quorum.voters.split_off(voters);
        overview
    };
    let found = only(problems(&with_voters(1)));
    assert!(found.what.contains("have 1 voter (3 more nodes without a vote: 2, 3, 4)"), "{found:#?}");
    assert!(found.advice.contains("firn cluster voters add 2"), "{found:#?}");
    let found = only(problems(&with_voters(2)));
    assert!(found.what.contains("have 2 voters (2 more nodes without a vote: 3, 4)"), "{found:#?}");
    assert!(found.what.contains("the loss of one voter stops every change"), "{found:#?}");
    assert!(found.advice.contains("firn cluster voters add 3"), "{found:#?}");
    assert_eq!(examine(&with_voters(3), &[]), []);
    let found = only(problems(&with_voters(4)));
    assert!(found.what.contains("an even number survives no more losses"), "{found:#?}");
    // Two nodes cannot do better.
    let mut pair = three();
    pair.brokers.pop();
    pair.quorum.voters.pop();
    assert_eq!(examine(&pair, &[]), []);
}

#[test]
fn racks_preferred_leaders_and_minimums_are_notes() {
    let mut overview = with_partition(three(), 2, &[1, 2], &[1, 2]);
    overview.brokers[1].rack = Some("a".to_owned());
    let found = examine(&overview, &[]);
    assert!(found.iter().all(|finding| finding.severity == Severity::Note), "{found:#?}");
    let said = |text: &str| found.iter().any(|finding| finding.what.contains(text));
    assert!(
        said("share racks") && said("not led by the preferred") && said("equals the number of replicas"),
        "{found:#?}"
    );
    assert_eq!(found.len(), 3, "{found:#?}");
}

#[test]
fn a_minimum_above_the_replicas_is_a_problem_and_one_replica_a_note() {
    let overview = with_partition(three(), 1, &[1], &[1]);
    let found = only(problems(&overview));
    assert!(found.what.contains("never succeed"), "{found:#?}");
    assert!(examine(&overview, &[]).iter().any(|finding| finding.what.contains("one replica only")));
}

#[test]
fn a_replica_that_is_just_being_added_is_not_missed() {
    let overview = with_partition(three(), 1, &[1, 2, 3], &[1, 2]);
    let moving = Reassignment {
        topic: "t".to_owned(),
        partition: 0,
        replicas: vec![1, 2, 3],
        adding: vec![3],
        removing: Vec::new(),
    };
    let found = only(examine(&overview, &[moving]));
    assert_eq!(found.severity, Severity::Note);
    assert!(found.what.starts_with("1 partition moves"), "{found:#?}");
}

#[test]
fn topics_with_fewer_replicas_than_usual_are_noted_once_there_are_brokers_for_more() {
    let mut overview = with_partition(three(), 1, &[1], &[1]);
    overview.topics[0].min_in_sync = 1;
    overview.topics.push(TopicState { name: "__consumer_offsets".to_owned(), ..overview.topics[0].clone() });
    overview.usual.ordinary = 2;
    let found = examine(&overview, &[]);
    assert!(found.iter().all(|finding| finding.severity == Severity::Note), "{found:#?}");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].what.contains("fewer replicas than offsets.topic.replication.factor (3)"), "{found:#?}");
    assert_eq!(found[0].places, ["__consumer_offsets: 1 replica"]);
    assert!(found[1].what.starts_with("1 topic has fewer replicas than default.replication.factor (2)"), "{found:#?}");
    assert!(found[1].advice.contains("--replication-factor 2"), "{found:#?}");
    assert_eq!(found[1].places, ["t: 1 replica"]);
    // What moves already is not spoken of, nor what two brokers could not keep.
    let moving = Reassignment {
        topic: "__consumer_offsets".to_owned(),
        partition: 0,
        replicas: vec![1, 2],
        adding: vec![2],
        removing: Vec::new(),
    };
    assert!(!examine(&overview, &[moving]).iter().any(|finding| finding.what.contains("offsets.topic")));
    assert!(!examine(&fence(overview, 3), &[]).iter().any(|finding| finding.what.contains("offsets.topic")));
}

#[test]
fn a_broker_with_an_impaired_disk_is_reported_as_such_and_not_as_down() {
    let overview = fence(three(), 2);
    let disks = [(1, disks::DiskState::Full), (2, disks::DiskState::Failed), (3, disks::DiskState::Sound)].into();
    let mut found = brokers::examine(&overview, |id| id == 2);
    found.extend(disks::examine(&disks));
    let said: Vec<&str> = found.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        said[0].contains("disk of broker 1 is full") && said[1].contains("disk of broker 2 has failed"),
        "{said:?}"
    );
    assert!(found.iter().all(|finding| finding.severity == Severity::Problem));
}
