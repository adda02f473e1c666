//! The local disks of the brokers: which have failed, are full, or do not answer.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::ErrorCode;
use protocol::messages::DescribeLogDirsRequest;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Finding;
use super::causes::Cause;
use crate::client::Client;
use crate::client::overview::Overview;

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

/// Asks all brokers at once, fenced ones too.
pub(super) async fn ask(client: &Client, overview: &Overview) -> Disks {
    let mut asking = JoinSet::new();
    for broker in &overview.brokers {
        let (id, endpoint, mut client) = (broker.id, broker.endpoint(), client.another());
        asking.spawn(async move {
            let request = DescribeLogDirsRequest { topics: Some(Vec::new()), ..DescribeLogDirsRequest::default() };
            let answer = client.call_at(&endpoint, &request, Instant::now() + ANSWER_WITHIN).await.ok()?;
            let dirs = answer.results.into_iter();
            Some((id, dirs.map(|dir| state(dir.error_code, dir.usable_bytes)).find(|state| *state != DiskState::Sound)))
        });
    }
    let answers = asking.join_all().await.into_iter().flatten();
    answers.map(|(id, state)| (id, state.unwrap_or(DiskState::Sound))).collect()
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
