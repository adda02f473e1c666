//! Schedules of the threads that commit, admit followers and keep the ISR.

use ::interleavings::check;
use model::LeaderEpoch;

use super::*;

const SCHEDULES: usize = 400;
const PATIENCE: Duration = Duration::from_secs(3600);

/// A fetch from `offset` on, which the follower has flushed up to there.
fn fetch(replica: &Replica, node_id: NodeId, offset: Offset) {
    let (partition, fetch) = (&replica.partition, FollowerFetch { node_id, broker_epoch: 1, offset, log_start: 0 });
    partition.admit(fetch, partition.leadership().leader_epoch, partition.log.latest_epoch()).unwrap();
}

/// Looks at the ISR, as its keeper does; the cluster agrees to what is asked for.
fn keep_isr(replica: &Replica, epoch: LeaderEpoch) {
    let partition = &replica.partition;
    let wanted = match &*partition.role.read() {
        Role::Leader(leading) => {
            let mut leading = leading.lock();
            leading.want_isr(partition.high_watermark(), PATIENCE, Instant::now(), |_, _| true)
        }
        Role::Follower => None,
    };
    if let Some(wanted) = wanted {
        replica.follow(1, epoch, &wanted.isr);
        partition.isr_asked(&wanted, Asked::Answered, Instant::now());
    }
}

#[tokio::test]
async fn nothing_is_committed_without_a_follower_that_is_asked_into_the_isr() {
    let settings = Arc::new(TopicSettings { flush: FlushMode::Replicated, ..TopicSettings::default() });
    let replica = Arc::new(replica_in(Arc::new(tempfile::tempdir().unwrap()), (1, 1), settings).await);
    let (epochs, joined) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicUsize::new(0)));
    let (met, shared) = (Arc::clone(&joined), Arc::clone(&replica));
    check(1, SCHEDULES, move || {
        let (epoch, replica) = (epochs.fetch_add(1, Ordering::Relaxed), &shared);
        replica.follow(1, epoch, &[1, 2]);
        let before = replica.partition.log.log_end();
        fetch(replica, 2, before);
        fetch(replica, 3, before);
        let (producer, keeper) = (Arc::clone(replica), Arc::clone(replica));
        let tasks = [
            shuttle::thread::spawn(move || {
                producer.append(1);
                fetch(&producer, 2, producer.partition.log.log_end());
            }),
            shuttle::thread::spawn(move || keep_isr(&keeper, epoch)),
        ];
        tasks.into_iter().for_each(|task| task.join().unwrap());
        let (committed, isr) = (replica.partition.high_watermark(), &replica.partition.leadership().isr);
        if isr.contains(&3) {
            met.fetch_add(1, Ordering::Relaxed);
            assert!(committed <= before, "node 3 is in sync and has {before}, {committed} is committed");
        } else {
            assert_eq!(committed, before + 1);
        }
    });
    // It is closed out of the model.
    drop(replica);
    let joined = joined.load(Ordering::Relaxed);
    assert!((1..SCHEDULES).contains(&joined), "both orders are met: {joined} of {SCHEDULES}");
}
