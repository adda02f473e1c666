//! The asking side of an incremental fetch session (KIP-227): the leader remembers the partitions, a request names only
//! those that changed.
//!
//! Invariant: `sent` is what the leader knows when `epoch` is above 0. A reply that is lost or refused makes the next
//! request a full one.

use std::collections::BTreeMap;

use model::{LeaderEpoch, Offset, TopicId, TopicPartition};
use protocol::messages::FetchRequest;
use protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};

/// What a follower asks of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The leader epoch in which it follows.
    pub(super) leader_epoch: LeaderEpoch,
    /// The first offset that it has not flushed.
    pub(super) fetch_offset: Offset,
    /// The epoch of the record before, or −1.
    pub(super) last_fetched_epoch: LeaderEpoch,
    /// Its log start.
    pub(super) log_start: Offset,
    /// The high watermark that it knows.
    pub(super) high_watermark: Offset,
    /// Most bytes in one reply.
    pub(super) max_bytes: i32,
}

/// One session with one leader.
#[derive(Debug, Default)]
pub(super) struct Session {
    id: i32,
    epoch: i32,
    sent: BTreeMap<TopicPartition, Wanted>,
}

impl Session {
    /// Fills in what concerns the session and its partitions.
    pub(super) fn fill(&mut self, request: &mut FetchRequest, wanted: BTreeMap<TopicPartition, Wanted>) {
        (request.session_id, request.session_epoch) = (self.id, self.epoch);
        let is_full = self.epoch == 0;
        if is_full {
            self.sent.clear();
        }
        let changed = wanted.iter().filter(|(id, wanted)| self.sent.get(id) != Some(*wanted));
        let mut topics: BTreeMap<TopicId, FetchTopic> = BTreeMap::new();
        for (id, wanted) in changed {
            let topic = topics
                .entry(id.topic_id)
                .or_insert_with(|| FetchTopic { topic_id: id.topic_id.0, ..FetchTopic::default() });
            topic.partitions.push(wanted.of(id.partition));
        }
        request.topics = topics.into_values().collect();
        let mut forgotten: BTreeMap<TopicId, ForgottenTopic> = BTreeMap::new();
        for id in self.sent.keys().filter(|id| !wanted.contains_key(id)) {
            let topic = forgotten
                .entry(id.topic_id)
                .or_insert_with(|| ForgottenTopic { topic_id: id.topic_id.0, ..ForgottenTopic::default() });
            topic.partitions.push(id.partition);
        }
        request.forgotten_topics_data = forgotten.into_values().collect();
        self.sent = wanted;
    }

    /// What the last request asked of the partition, whether it named it or the leader remembered it.
    pub(super) fn asked(&self, id: TopicPartition) -> Option<Wanted> {
        self.sent.get(&id).copied()
    }

    /// The leader has answered; `id` is that of the session which it keeps, 0 for none.
    pub(super) fn succeeded(&mut self, id: i32) {
        self.id = id;
        self.epoch = match (id, self.epoch) {
            (0, _) => 0,
            (_, i32::MAX) => 1,
            (_, epoch) => epoch + 1,
        };
    }

    /// What the leader knows is uncertain: the next request names everything, and replaces the session.
    pub(super) fn start_over(&mut self) {
        self.epoch = 0;
    }

    /// The leader does not know the session: the next request makes a new one.
    pub(super) fn forget(&mut self) {
        *self = Session::default();
    }
}

impl Wanted {
    fn of(&self, partition: i32) -> FetchPartition {
        FetchPartition {
            partition,
            current_leader_epoch: self.leader_epoch,
            fetch_offset: self.fetch_offset,
            last_fetched_epoch: self.last_fetched_epoch,
            log_start_offset: self.log_start,
            partition_max_bytes: self.max_bytes,
            high_watermark: self.high_watermark,
            ..FetchPartition::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn id(topic: u128, partition: i32) -> TopicPartition {
        TopicPartition { topic_id: TopicId(Uuid::from_u128(topic)), partition }
    }

    fn at(fetch_offset: Offset) -> Wanted {
        Wanted {
            leader_epoch: 3,
            fetch_offset,
            last_fetched_epoch: 2,
            log_start: 0,
            high_watermark: 1,
            max_bytes: 1 << 20,
        }
    }

    /// Session, epoch, offsets of the partitions that are named, and those that are forgotten.
    type Shape = (i32, i32, Vec<(i32, i64)>, Vec<i32>);

    fn ask(session: &mut Session, wanted: &[(TopicPartition, Wanted)]) -> Shape {
        let mut request = FetchRequest::default();
        session.fill(&mut request, wanted.iter().copied().collect());
        let named = request.topics.iter().flat_map(|t| &t.partitions).map(|p| (p.partition, p.fetch_offset)).collect();
        let forgotten = request.forgotten_topics_data.iter().flat_map(|t| t.partitions.clone()).collect();
        (request.session_id, request.session_epoch, named, forgotten)
    }

    #[test]
    fn a_request_names_only_what_changed() {
        let mut session = Session::default();
        let (a, b) = (id(1, 0), id(2, 1));
        assert_eq!(ask(&mut session, &[(a, at(5)), (b, at(7))]), (0, 0, vec![(0, 5), (1, 7)], vec![]));
        session.succeeded(9);
        assert_eq!(ask(&mut session, &[(a, at(6)), (b, at(7))]), (9, 1, vec![(0, 6)], vec![]));
        session.succeeded(9);
        assert_eq!(ask(&mut session, &[(a, at(6))]), (9, 2, vec![], vec![1]));
        session.succeeded(9);
        assert_eq!(ask(&mut session, &[(a, at(6)), (b, at(7))]), (9, 3, vec![(1, 7)], vec![]), "it is named again");
    }

    #[test]
    fn a_lost_reply_makes_the_next_request_a_full_one_that_replaces_the_session() {
        let mut session = Session::default();
        ask(&mut session, &[(id(1, 0), at(5))]);
        session.succeeded(9);
        ask(&mut session, &[(id(1, 0), at(6))]);
        session.start_over();
        assert_eq!(ask(&mut session, &[(id(1, 0), at(6))]), (9, 0, vec![(0, 6)], vec![]));
        session.forget();
        assert_eq!(ask(&mut session, &[(id(1, 0), at(6))]), (0, 0, vec![(0, 6)], vec![]));
    }

    #[test]
    fn a_leader_that_keeps_no_session_is_told_everything_each_time() {
        let mut session = Session::default();
        for _ in 0..2 {
            assert_eq!(ask(&mut session, &[(id(1, 0), at(5))]), (0, 0, vec![(0, 5)], vec![]));
            session.succeeded(0);
        }
    }

    #[test]
    fn the_epoch_of_a_session_wraps_to_one() {
        let mut session = Session { id: 9, epoch: i32::MAX, ..Session::default() };
        session.succeeded(9);
        assert_eq!(session.epoch, 1);
    }
}
