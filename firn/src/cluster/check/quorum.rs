//! The metadata quorum: whether changes are possible, and how many more losses it survives.

use super::Finding;
use crate::client::overview::{Overview, QuorumMember, QuorumState};
use crate::cluster::list;
use crate::output::count;

/// A voter that is further behind the leader, in entries, is slow.
const LAG: i64 = 10_000;

pub(super) fn examine(overview: &Overview) -> Vec<Finding> {
    let quorum = &overview.quorum;
    let mut findings = Vec::new();
    let lost: Vec<i32> = quorum.voters.iter().map(|voter| voter.id).filter(|id| !overview.is_alive(*id)).collect();
    let voters = quorum.voters.len();
    let majority = voters / 2 + 1;
    if quorum.leader < 0 {
        findings.push(no_leader(quorum, &lost, majority));
    } else if !lost.is_empty() {
        findings.push(fewer_voters(&lost, voters, majority));
    }
    findings.extend(lagging(quorum, &lost));
    findings.extend(shape(overview));
    findings
}

fn no_leader(quorum: &QuorumState, lost: &[i32], majority: usize) -> Finding {
    let voters: Vec<i32> = quorum.voters.iter().map(|voter| voter.id).collect();
    let missing = if lost.is_empty() { String::new() } else { format!(" ({} do not answer)", list(lost)) };
    Finding::problem(
        format!(
            "the metadata quorum has no leader that reaches a majority of the voters: no topic, leader, in-sync replica or \
             setting can change, and the state of brokers and partitions is the last one known. Records are still read from \
             brokers that run; a write with acks=all is acknowledged only where every in-sync replica runs. Voters: \
             {}{missing}",
            list(&voters)
        ),
        format!(
            "Start voters until {majority} of {} run and reach each other on their internal listeners; they then elect a \
             leader within seconds. If so many are lost for ever, see \"The majority is lost\" in docs/cluster.md.",
            voters.len()
        ),
    )
}

fn fewer_voters(lost: &[i32], voters: usize, majority: usize) -> Finding {
    let left = voters - lost.len();
    let spare = left.saturating_sub(majority);
    let meaning = if spare == 0 {
        "the loss of one more stops every change of topics, leaders and settings".to_owned()
    } else {
        format!("{} may still be lost", count(spare, "voter"))
    };
    let which = if let [one] = lost { format!("node {one}") } else { "them".to_owned() };
    let advice = format!(
        "Start {which}. Where the disk is gone, an empty folder and the same options will do: the node catches up and gets its \
         vote back by itself. One that will not come back loses its vote by `firn cluster voters remove ID`."
    );
    let is_one = lost.len() == 1;
    let (verb, nodes) = if is_one { ("is", "node") } else { ("are", "nodes") };
    let (count, nodes_lost) = (lost.len(), list(lost));
    let what = format!(
        "{count} of {voters} voters of the metadata quorum {verb} lost ({nodes} {nodes_lost}), {left} answer: {meaning}"
    );
    Finding::problem(what, advice).because_of(lost)
}

fn lagging(quorum: &QuorumState, lost: &[i32]) -> Option<Finding> {
    let end = quorum.voters.iter().find(|voter| voter.id == quorum.leader)?.log_end;
    let is_slow = |voter: &&QuorumMember| {
        !lost.contains(&voter.id) && voter.log_end >= 0 && end.saturating_sub(voter.log_end) > LAG
    };
    let slow: Vec<String> = quorum
        .voters
        .iter()
        .filter(is_slow)
        .map(|voter| format!("node {}: {} entries behind", voter.id, end - voter.log_end))
        .collect();
    (!slow.is_empty()).then(|| {
        Finding::problem(
            "voters are far behind the metadata log: until they catch up the quorum survives fewer losses",
            "Look at the disk of these nodes, and at the network between them and the leader; `firn cluster voters list` \
             shows whether they catch up.",
        )
        .at(slow)
    })
}

/// What the number of voters means for the cluster.
fn shape(overview: &Overview) -> Option<Finding> {
    let (voters, brokers) = (overview.quorum.voters.len(), overview.brokers.len());
    let learners: Vec<i32> = overview.quorum.learners.iter().map(|learner| learner.id).collect();
    if brokers < 3 || (voters >= 3 && voters % 2 == 1) {
        return None;
    }
    let how = match learners.first() {
        Some(learner) => {
            format!(
                "`firn cluster voters add {learner}` gives a vote to a node that follows the log already. One whose disk was lost \
                 gets its vote back by itself when it has caught up."
            )
        }
        None => "Add a node with --join, then `firn cluster voters add ID`; or remove a voter.".to_owned(),
    };
    let what = if voters < 3 {
        let follows = if learners.is_empty() {
            String::new()
        } else {
            format!(" ({} without a vote: {})", count(learners.len(), "more node"), list(&learners))
        };
        format!(
            "the metadata have {}{follows}: the loss of one voter stops every change, though there are {brokers} brokers",
            count(voters, "voter")
        )
    } else {
        format!("the metadata have {voters} voters: an even number survives no more losses than one voter less")
    };
    Some(Finding::problem(what, how))
}
