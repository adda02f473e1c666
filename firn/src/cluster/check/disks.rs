//! The local disks of the brokers: which have failed, are full, or do not answer.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::ErrorCode;
use protocol::messages::DescribeLogDirsRequest;
use protocol::messages::describe_log_dirs_response::DescribeLogDirsTopic;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Finding;
use super::causes::Cause;
use crate::client::Client;
use crate::client::overview::Overview;
use crate::output::count;

/// How long a broker may take to answer; those that are down do not.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What a broker says of its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DiskState {
    Sound,
    Failed,
    Full,
    Slow,
}

/// The states by broker, without the brokers that do not answer.
pub(super) type Disks = BTreeMap<i32, DiskState>;

/// Partitions that brokers cannot open, by broker.
pub(super) type Unopened = BTreeMap<i32, Vec<String>>;

/// Asks all brokers at once, fenced ones too.
pub(super) async fn ask(client: &Client, overview: &Overview) -> (Disks, Unopened) {
    let mut asking = JoinSet::new();
    for broker in &overview.brokers {
        let (id, endpoint, mut client) = (broker.id, broker.endpoint(), client.another());
        asking.spawn(async move {
            let request = DescribeLogDirsRequest { topics: Some(Vec::new()), ..DescribeLogDirsRequest::default() };
            let answer = client.call_at(&endpoint, &request, Instant::now() + ANSWER_WITHIN).await.ok()?;
            let dirs = answer.results.iter();
            let fault =
                dirs.map(|dir| state(dir.error_code, dir.usable_bytes)).find(|state| *state != DiskState::Sound);
            let topics = answer.results.iter().flat_map(|dir| &dir.topics);
            let of_topic = |topic: &DescribeLogDirsTopic| {
                let unopened = topic.partitions.iter().filter(|partition| partition.partition_size < 0);
                unopened.map(|partition| format!("{}-{}", &*topic.name, partition.partition_index)).collect::<Vec<_>>()
            };
            Some((id, fault.unwrap_or(DiskState::Sound), topics.flat_map(of_topic).collect::<Vec<_>>()))
        });
    }
    let (mut disks, mut unopened) = (Disks::new(), Unopened::new());
    for (id, state, places) in asking.join_all().await.into_iter().flatten() {
        disks.insert(id, state);
        unopened.insert(id, places);
    }
    unopened.retain(|_, places| !places.is_empty());
    (disks, unopened)
}

pub(super) fn examine_unopened(unopened: Unopened) -> impl Iterator<Item = Finding> {
    unopened.into_iter().map(|(id, places)| {
        let what = format!("broker {id} cannot open {}: it serves none of them", count(places.len(), "partition"));
        let advice = "Its log and /health name the reason. Mend the disk, or stop the broker and restore the folders; a restart \
                      opens them. Until then let other brokers have what it leads: `firn cluster reassign`, or, where it \
                      alone is in sync, stop it and use `firn cluster elect --unclean`.";
        Finding::problem(what, advice).at(places)
    })
}

fn state(error_code: i16, usable_bytes: i64) -> DiskState {
    match ErrorCode::from_code(error_code) {
        Some(ErrorCode::None) if usable_bytes == 0 => DiskState::Full,
        Some(ErrorCode::None) => DiskState::Sound,
        Some(ErrorCode::RequestTimedOut) => DiskState::Slow,
        _ => DiskState::Failed,
    }
}

pub(super) fn examine(disks: &Disks) -> Vec<Finding> {
    disks.iter().filter_map(|(id, state)| finding(*id, *state)).collect()
}

fn finding(id: i32, state: DiskState) -> Option<Finding> {
    let problem = |what: String, advice: &str| Some(Finding::problem(what, advice).cause(Cause::Broker(id)));
    match state {
        DiskState::Sound => None,
        DiskState::Failed => problem(
            format!("the local disk of broker {id} has failed: it is fenced and acknowledges nothing until a restart"),
            "Its log names the file and the error. Repair or replace the disk, then start the process again; with an empty \
             folder and the same options it copies what it lacks from the others.",
        ),
        DiskState::Full => problem(
            format!(
                "the local disk of broker {id} is full: it refuses writes, and other in-sync replicas lead instead"
            ),
            "Free space, or lower local.retention.ms and local.retention.bytes of its largest topics. The broker takes part \
             again by itself some seconds later.",
        ),
        DiskState::Slow => problem(
            format!("a flush on the local disk of broker {id} has not returned for firn.disk.stall.ms: it hands over"),
            "Look at the disk and at what else uses it. The broker takes part again by itself once its flushes return.",
        ),
    }
}
