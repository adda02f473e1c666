//! `firn cluster status`: the cluster on one screen.

use serde::Serialize;

use super::list;
use crate::client::overview::{BrokerState, Overview, QuorumState, Reassignment};
use crate::connect::ViewArgs;
use crate::output::{count, offset, print_json, print_line, table};

/// What is printed.
#[derive(Debug, Serialize)]
struct Status {
    cluster_id: String,
    controller: i32,
    brokers: Vec<BrokerLine>,
    quorum: QuorumState,
    partitions: Partitions,
    reassignments: Vec<Reassignment>,
}

#[derive(Debug, Serialize)]
struct BrokerLine {
    #[serde(flatten)]
    broker: BrokerState,
    /// Partitions that it leads.
    leads: usize,
    /// Partitions of which it shall have a copy.
    replicas: usize,
    /// Those of them whose copy is not in sync.
    out_of_sync: usize,
}

/// How many partitions are how well off. The groups overlap.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Partitions {
    all: usize,
    topics: usize,
    without_leader: usize,
    under_min_in_sync: usize,
    under_replicated: usize,
    not_led_by_preferred: usize,
}

/// Runs the command.
pub(crate) async fn run(args: ViewArgs) -> anyhow::Result<()> {
    let mut client = args.connect.client();
    let overview = client.overview().await?;
    let status = summarize(overview, client.reassignments().await?);
    if args.json { Ok(print_json(&status)?) } else { print(&status) }
}

fn summarize(overview: Overview, reassignments: Vec<Reassignment>) -> Status {
    let line = |broker: &BrokerState| {
        let of = |wanted: fn(&crate::client::overview::PartitionState, i32) -> bool| {
            overview.partitions().filter(|(_, partition)| wanted(partition, broker.id)).count()
        };
        BrokerLine {
            broker: broker.clone(),
            leads: of(|partition, id| partition.leader == id),
            replicas: of(|partition, id| partition.replicas.contains(&id)),
            out_of_sync: of(|partition, id| partition.replicas.contains(&id) && !partition.in_sync.contains(&id)),
        }
    };
    let brokers = overview.brokers.iter().map(line).collect();
    let mut partitions = Partitions { topics: overview.topics.len(), ..Partitions::default() };
    for (topic, partition) in overview.partitions() {
        partitions.all += 1;
        partitions.without_leader += usize::from(partition.leader < 0);
        partitions.under_min_in_sync += usize::from(partition.in_sync.len() < topic.min_in_sync);
        partitions.under_replicated += usize::from(partition.in_sync.len() < partition.replicas.len());
        let is_preferred = partition.replicas.first() == Some(&partition.leader);
        partitions.not_led_by_preferred += usize::from(!is_preferred);
    }
    let Overview { cluster_id, controller, quorum, .. } = overview;
    Status { cluster_id, controller, brokers, quorum, partitions, reassignments }
}

fn print(status: &Status) -> anyhow::Result<()> {
    print_line(format_args!("cluster {}, controller {}", status.cluster_id, status.controller))?;
    let mut shown = table(&[">broker", "address", "rack", "state", ">leads", ">replicas", ">out of sync", "quorum"]);
    for BrokerLine { broker, leads, replicas, out_of_sync } in &status.brokers {
        shown.add_row([
            broker.id.to_string(),
            broker.endpoint().to_string(),
            broker.rack.clone().unwrap_or_else(|| "-".to_owned()),
            if broker.is_fenced { "fenced" } else { "alive" }.to_owned(),
            leads.to_string(),
            replicas.to_string(),
            out_of_sync.to_string(),
            role(&status.quorum, broker.id).to_owned(),
        ]);
    }
    print_line(shown)?;
    print_quorum(&status.quorum)?;
    let Partitions { all, topics, without_leader, under_min_in_sync, under_replicated, not_led_by_preferred } =
        status.partitions;
    print_line(format_args!(
        "{} of {}: {without_leader} without a leader, {under_min_in_sync} below min.insync.replicas, \
         {under_replicated} under-replicated, {not_led_by_preferred} not led by the preferred replica",
        count(all, "partition"),
        count(topics, "topic"),
    ))?;
    for moving in &status.reassignments {
        let Reassignment { topic, partition, replicas, adding, removing } = moving;
        let (replicas, adding, removing) = (list(replicas), list(adding), list(removing));
        print_line(format_args!(
            "{topic}-{partition} moves: replicas {replicas}; adding {adding}; removing {removing}"
        ))?;
    }
    Ok(())
}

fn print_quorum(quorum: &QuorumState) -> anyhow::Result<()> {
    let leader = if quorum.leader < 0 {
        "without a leader that reaches a majority (brokers and partitions as last known)".to_owned()
    } else {
        format!("led by {}", quorum.leader)
    };
    print_line(format_args!(
        "metadata quorum {leader}, epoch {}, committed up to {}",
        quorum.epoch, quorum.high_watermark
    ))?;
    let leader_end = quorum.voters.iter().find(|voter| voter.id == quorum.leader).map_or(-1, |voter| voter.log_end);
    let mut shown = table(&[">node", "part", ">log end", ">lag", "internal listener"]);
    for (members, part) in [(&quorum.voters, "voter"), (&quorum.learners, "learner")] {
        for member in members {
            let lag = if member.log_end < 0 || leader_end < 0 { -1 } else { (leader_end - member.log_end).max(0) };
            let address = member.address.clone().unwrap_or_else(|| "-".to_owned());
            shown.add_row([member.id.to_string(), part.to_owned(), offset(member.log_end), offset(lag), address]);
        }
    }
    Ok(print_line(shown)?)
}

fn role(quorum: &QuorumState, id: i32) -> &'static str {
    let is_in = |members: &[crate::client::overview::QuorumMember]| members.iter().any(|member| member.id == id);
    match () {
        () if quorum.leader == id => "leader",
        () if is_in(&quorum.voters) => "voter",
        () if is_in(&quorum.learners) => "learner",
        () => "-",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::overview::{PartitionState, TopicState};

    #[test]
    fn a_summary_counts_each_kind_of_trouble() {
        let partition = |leader, in_sync: &[i32]| PartitionState {
            leader,
            replicas: vec![1, 2, 3],
            in_sync: in_sync.to_vec(),
            ..PartitionState::default()
        };
        let partitions = vec![partition(1, &[1, 2, 3]), partition(2, &[2]), partition(-1, &[3])];
        let broker = |id, is_fenced| BrokerState { id, is_fenced, ..BrokerState::default() };
        let overview = Overview {
            brokers: vec![broker(1, false), broker(3, true)],
            topics: vec![TopicState { min_in_sync: 2, partitions, ..TopicState::default() }],
            ..Overview::default()
        };
        let status = summarize(overview, Vec::new());
        let expected = Partitions {
            all: 3,
            topics: 1,
            without_leader: 1,
            under_min_in_sync: 2,
            under_replicated: 2,
            not_led_by_preferred: 2,
        };
        assert_eq!(status.partitions, expected);
        let counts = |line: &BrokerLine| (line.leads, line.replicas, line.out_of_sync);
        assert_eq!(status.brokers.iter().map(counts).collect::<Vec<_>>(), [(1, 3, 2), (0, 3, 1)]);
    }
}
