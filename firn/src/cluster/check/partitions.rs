//! Partitions without a leader, with too few copies, or badly placed.

use std::collections::{BTreeMap, BTreeSet};

use model::topic_name::GROUP_OFFSETS_TOPIC;

use super::Finding;
use crate::client::overview::{Overview, PartitionState, Reassignment, TopicState};
use crate::cluster::list;
use crate::output::count;

pub(super) fn examine(overview: &Overview, moving: &[Reassignment]) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(leaderless(overview));
    findings.extend(too_few_copies(overview, moving));
    findings.extend(impossible_minimum(overview));
    findings.extend(fewer_than_usual(overview, moving));
    findings.extend(single_copies(overview));
    findings.extend(in_one_rack(overview));
    findings.extend(led_by_others(overview));
    if !moving.is_empty() {
        findings.push(Finding::note(
            format!("{} to other brokers; that may take its time", moves(moving.len())),
            "`firn cluster reassign --list` shows them, `firn cluster reassign --cancel` takes them back.",
        ));
    }
    findings
}

fn moves(number: usize) -> String {
    if number == 1 { "1 partition moves".to_owned() } else { format!("{number} partitions move") }
}

fn leaderless(overview: &Overview) -> Vec<Finding> {
    let mut waiting: BTreeMap<Vec<i32>, Vec<String>> = BTreeMap::new();
    for (topic, partition) in overview.partitions().filter(|(_, partition)| partition.leader < 0) {
        let mut wanted: BTreeSet<i32> = partition.in_sync.iter().copied().collect();
        wanted.extend(&partition.eligible);
        waiting.entry(wanted.into_iter().collect()).or_default().push(name(topic, partition));
    }
    let finding = |(wanted, places): (Vec<i32>, Vec<String>)| {
        let alive: Vec<i32> = wanted.iter().copied().filter(|id| overview.is_alive(*id)).collect();
        let advice = if !alive.is_empty() {
            format!(
                "Broker {} is up and may lead: wait a few seconds and check again. If it stays so, the metadata quorum makes \
                 no decisions; see its findings.",
                list(&alive)
            )
        } else {
            format!(
                "Start broker {}: any of them will do, each has every acknowledged record. Only if none of them will ever come \
                 back: `firn cluster elect --unclean --topic NAME` lets another copy lead; what that copy lacks is then lost \
                 for ever.",
                list(&wanted).replace(", ", " or ")
            )
        };
        let what = format!(
            "{} can be neither read nor written: no replica that has everything is up ({})",
            count(places.len(), "partition"),
            list(&wanted)
        );
        let lost: Vec<i32> = wanted.iter().copied().filter(|id| !overview.is_alive(*id)).collect();
        let finding = Finding::problem(what, advice).at(places);
        // Which broker to start, and what to do without any of them, is said here alone.
        if wanted.len() > 1 { finding } else { finding.because_of(&lost) }
    };
    waiting.into_iter().map(finding).collect()
}

/// Partitions with a leader whose copies are not all in sync.
fn too_few_copies(overview: &Overview, moving: &[Reassignment]) -> Vec<Finding> {
    let (mut refused, mut fewer) = (Vec::new(), Vec::new());
    let (mut missing_alive, mut lost) = (BTreeSet::new(), BTreeSet::new());
    for (topic, partition) in overview.partitions().filter(|(_, partition)| partition.leader >= 0) {
        let joining = moving.iter().find(|m| m.topic == topic.name && m.partition == partition.index);
        let is_joining = |id: &i32| joining.is_some_and(|moving| moving.adding.contains(id));
        let out = |id: &&i32| !partition.in_sync.contains(id) && !is_joining(id);
        let missing: Vec<i32> = partition.replicas.iter().filter(out).copied().collect();
        let place = format!(
            "{}: in sync {} of {} (needs {}), missing {}",
            name(topic, partition),
            partition.in_sync.len(),
            partition.replicas.len(),
            topic.min_in_sync,
            list(&missing)
        );
        if partition.in_sync.len() < topic.min_in_sync && topic.min_in_sync <= partition.replicas.len() {
            refused.push(place);
        } else if !missing.is_empty() {
            fewer.push(place);
        } else {
            continue;
        }
        let (alive, down): (Vec<i32>, Vec<i32>) = missing.into_iter().partition(|id| overview.is_alive(*id));
        missing_alive.extend(alive);
        lost.extend(down);
    }
    // Where a live broker is behind, that needs an explanation of its own.
    let lost: Vec<i32> = if missing_alive.is_empty() { lost.into_iter().collect() } else { Vec::new() };
    let mut findings = Vec::new();
    if !refused.is_empty() {
        findings.push(
            Finding::problem(
                format!(
                    "{} below min.insync.replicas: writes with acks=all are refused, reads go on",
                    has_or_have(refused.len())
                ),
                "Bring the missing brokers back: see their findings. Lowering min.insync.replicas lets writes in again, and \
                 gives up the protection that it is for.",
            )
            .at(refused)
            .because_of(&lost),
        );
    }
    if !fewer.is_empty() {
        let advice = if missing_alive.is_empty() {
            "Bring the missing brokers back; they catch up by themselves.".to_owned()
        } else {
            let alive: Vec<i32> = missing_alive.into_iter().collect();
            format!(
                "Broker {} is up and should be catching up: check again in a minute. If the number does not fall, look at \
                 its log, its disk and the network to the leaders.",
                list(&alive)
            )
        };
        let what = format!("{} fewer copies than wanted; reads and writes go on", has_or_have(fewer.len()));
        findings.push(Finding::problem(what, advice).at(fewer).because_of(&lost));
    }
    findings
}

fn has_or_have(partitions: usize) -> String {
    if partitions == 1 { "1 partition has".to_owned() } else { format!("{partitions} partitions have") }
}

/// Topics whose minimum cannot be reached even when all is well, or only just.
fn impossible_minimum(overview: &Overview) -> Vec<Finding> {
    let replicas = |topic: &TopicState| topic.partitions.iter().map(|p| p.replicas.len()).min().unwrap_or(0);
    let topics = |wanted: fn(usize, usize) -> bool| {
        let found = overview.topics.iter().filter(move |topic| wanted(topic.min_in_sync, replicas(topic)));
        found.map(|topic| topic.name.clone()).collect::<Vec<String>>()
    };
    let (impossible, exact) = (topics(|min, all| all > 0 && min > all), topics(|min, all| min > 1 && min == all));
    let mut findings = Vec::new();
    if !impossible.is_empty() {
        findings.push(
            Finding::problem(
                "min.insync.replicas is above the number of replicas: writes with acks=all never succeed",
                "`firn topic alter NAME --config min.insync.replicas=N` lowers it; `firn cluster reassign` adds replicas.",
            )
            .at(impossible),
        );
    }
    if !exact.is_empty() {
        findings.push(
            Finding::note(
                "min.insync.replicas equals the number of replicas: every restart of a broker stops writes with acks=all",
                "Usual is one less than the number of replicas: `firn topic alter NAME --config min.insync.replicas=N`.",
            )
            .at(exact),
        );
    }
    findings
}

/// Topics with fewer replicas than topics usually get, though there are brokers for more.
fn fewer_than_usual(overview: &Overview, moving: &[Reassignment]) -> Vec<Finding> {
    let mut ordinary = Vec::new();
    let mut findings = Vec::new();
    for topic in &overview.topics {
        let (usual, replicas) = (usual_replicas(overview, topic), fewest_replicas(topic));
        if !is_below_usual(overview, topic) || moving.iter().any(|moving| moving.topic == topic.name) {
            continue;
        }
        let has = format!("{}: {}", topic.name, count(replicas, "replica"));
        if topic.name == GROUP_OFFSETS_TOPIC {
            let advice = "Where it was made while there were too few brokers, the cluster adds replicas by itself within seconds. If \
                          nothing moves, an operator has decided otherwise, or it is older than metadata version 2: \
                          `firn cluster reassign __consumer_offsets --replication-factor N` adds them.";
            findings.push(
                Finding::note(
                    format!(
                        "the offsets of groups have fewer replicas than offsets.topic.replication.factor ({usual})"
                    ),
                    advice,
                )
                .at(vec![has]),
            );
        } else {
            ordinary.push(has);
        }
    }
    if !ordinary.is_empty() {
        let usual = overview.usual.ordinary;
        findings.push(
            Finding::note(
                format!(
                    "{} fewer replicas than default.replication.factor ({usual}), and stay so",
                    if ordinary.len() == 1 {
                        "1 topic has".to_owned()
                    } else {
                        format!("{} topics have", ordinary.len())
                    }
                ),
                format!(
                    "`firn cluster reassign NAME --replication-factor {usual}` adds replicas, if that is not intended."
                ),
            )
            .at(ordinary),
        );
    }
    findings
}

fn usual_replicas(overview: &Overview, topic: &TopicState) -> usize {
    if topic.name == GROUP_OFFSETS_TOPIC { overview.usual.group_offsets } else { overview.usual.ordinary }
}

fn fewest_replicas(topic: &TopicState) -> usize {
    topic.partitions.iter().map(|partition| partition.replicas.len()).min().unwrap_or(0)
}

fn is_below_usual(overview: &Overview, topic: &TopicState) -> bool {
    let alive = overview.brokers.iter().filter(|broker| !broker.is_fenced).count();
    let (usual, replicas) = (usual_replicas(overview, topic), fewest_replicas(topic));
    usual <= alive && (1..usual).contains(&replicas)
}

fn single_copies(overview: &Overview) -> Option<Finding> {
    let is_single = |topic: &&TopicState| fewest_replicas(topic) == 1 && !is_below_usual(overview, topic);
    let topics: Vec<String> = overview.topics.iter().filter(is_single).map(|topic| topic.name.clone()).collect();
    (overview.brokers.len() > 1 && !topics.is_empty()).then(|| {
        Finding::note(
            format!(
                "{} one replica only: they stop with its broker, and what is not archived is lost with its disk",
                if topics.len() == 1 { "1 topic has".to_owned() } else { format!("{} topics have", topics.len()) }
            ),
            "`firn cluster reassign NAME --replication-factor 3` adds replicas.",
        )
        .at(topics)
    })
}

/// Partitions with several replicas in one rack, though there are several racks.
fn in_one_rack(overview: &Overview) -> Option<Finding> {
    let racks: BTreeMap<i32, &str> =
        overview.brokers.iter().filter_map(|broker| Some((broker.id, broker.rack.as_deref()?))).collect();
    let all: BTreeSet<&str> = racks.values().copied().collect();
    let is_concentrated = |partition: &PartitionState| {
        let used: BTreeSet<&str> = partition.replicas.iter().filter_map(|id| racks.get(id).copied()).collect();
        partition.replicas.len() > 1 && used.len() < all.len().min(partition.replicas.len())
    };
    let found = overview.partitions().filter(|(_, partition)| is_concentrated(partition));
    let places: Vec<String> = found
        .map(|(topic, partition)| format!("{}: replicas {}", name(topic, partition), list(&partition.replicas)))
        .collect();
    (all.len() > 1 && !places.is_empty()).then(|| {
        Finding::note(
            format!("{} share racks that they need not: the loss of one rack takes more copies than it must", {
                count(places.len(), "partition")
            }),
            "`firn cluster rebalance --dry-run` shows how replicas would be spread, without it they are moved.",
        )
        .at(places)
    })
}

/// Partitions whose preferred replica could lead, but does not.
fn led_by_others(overview: &Overview) -> Option<Finding> {
    let could_lead = |partition: &PartitionState| {
        let preferred = partition.replicas.first().copied().unwrap_or(-1);
        partition.leader >= 0
            && preferred != partition.leader
            && partition.in_sync.contains(&preferred)
            && overview.is_alive(preferred)
    };
    let found = overview.partitions().filter(|(_, partition)| could_lead(partition));
    let places: Vec<String> = found
        .map(|(topic, partition)| {
            let preferred = partition.replicas.first().copied().unwrap_or(-1);
            format!("{}: led by {}, preferred {preferred}", name(topic, partition), partition.leader)
        })
        .collect();
    (!places.is_empty()).then(|| {
        Finding::note(
            format!("{} not led by the preferred replica: the load may be uneven", {
                if places.len() == 1 { "1 partition is".to_owned() } else { format!("{} partitions are", places.len()) }
            }),
            "`firn cluster elect` brings the leaderships back; no request is lost.",
        )
        .at(places)
    })
}

fn name(topic: &TopicState, partition: &PartitionState) -> String {
    format!("{}-{}", topic.name, partition.index)
}
