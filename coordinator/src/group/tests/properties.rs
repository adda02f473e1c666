//! Random interleavings of members, administrators and time, with what must hold after every step.

use proptest::collection::vec;
use proptest::prelude::*;

use super::harness::*;
use crate::group::*;

const MEMBERS: usize = 5;

#[derive(Debug, Clone)]
enum Step {
    Join {
        who: usize,
        wide: bool,
    },
    Rejoin {
        who: usize,
    },
    Sync {
        who: usize,
        stale: bool,
    },
    Heartbeat {
        who: usize,
    },
    Leave {
        who: usize,
    },
    Commit {
        who: usize,
        offset: i64,
    },
    StaticJoin {
        who: usize,
    },
    /// A client is given a member id and never uses it, or leaves at once.
    Stranger {
        leaves: bool,
    },
    /// The log commits nothing, until it is released.
    Hold,
    Release,
    /// All members do what they should: join again, then fetch their assignments.
    Settle,
    Wait {
        ms: i64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..MEMBERS;
    prop_oneof![
        4 => (who.clone(), any::<bool>()).prop_map(|(who, wide)| Step::Join { who, wide }),
        4 => who.clone().prop_map(|who| Step::Rejoin { who }),
        6 => (who.clone(), prop::bool::weighted(0.1)).prop_map(|(who, stale)| Step::Sync { who, stale }),
        3 => who.clone().prop_map(|who| Step::Heartbeat { who }),
        1 => who.clone().prop_map(|who| Step::Leave { who }),
        2 => (who.clone(), 0..1_000_i64).prop_map(|(who, offset)| Step::Commit { who, offset }),
        2 => who.prop_map(|who| Step::StaticJoin { who }),
        2 => prop::bool::weighted(0.2).prop_map(|leaves| Step::Stranger { leaves }),
        1 => Just(Step::Hold),
        2 => Just(Step::Release),
        2 => Just(Step::Settle),
        3 => prop_oneof![Just(50_i64), Just(150), Just(4_000), Just(7_000), Just(11_000), Just(61_000)].prop_map(|ms| Step::Wait { ms }),
    ]
}

/// Drives a shard as clients that know no more than the replies they got.
struct Clients {
    shard: Shard,
    ids: Vec<String>,
    drawn: usize,
    last_generation: i32,
    committed: Option<i64>,
}

/// A stable group, as far as a rebalance needs a cause in it.
#[derive(Debug, PartialEq)]
struct Stable {
    generation: i32,
    members: Vec<(MemberId, Option<std::sync::Arc<str>>, Vec<Protocol>)>,
}

impl Clients {
    fn run(&mut self, step: &Step) {
        let before = self.stable();
        self.act(step);
        self.check();
        // A leader may ask for a rebalance by joining again; anything else must have changed the members.
        if let Some(before) = before
            && !matches!(step, Step::Rejoin { .. } | Step::Settle)
        {
            let now = self.stable();
            let same_members = self.members() == before.members;
            assert!(!same_members || now.as_ref() == Some(&before), "a rebalance without a cause: {step:?}");
        }
    }

    fn stable(&self) -> Option<Stable> {
        let membership = self.shard.groups.membership(GROUP)?;
        let generation = membership.generation;
        (membership.state == GroupState::Stable).then(|| Stable { generation, members: self.members() })
    }

    fn members(&self) -> Vec<(MemberId, Option<std::sync::Arc<str>>, Vec<Protocol>)> {
        let members = self.shard.groups.membership(GROUP).into_iter().flat_map(|membership| membership.members.iter());
        members.map(|(id, member)| (id.clone(), member.instance_id.clone(), member.protocols.to_vec())).collect()
    }

    fn act(&mut self, step: &Step) {
        match step {
            Step::Join { who, wide } => {
                self.drawn += 1;
                self.ids[*who] = format!("m{}", self.drawn);
                let names: &[&str] = if *wide { &["range", "sticky"] } else { &["range"] };
                self.shard.join(JoinGroup { protocols: protocols(names), ..newcomer(&self.ids[*who]) });
                self.shard.join(JoinGroup { protocols: protocols(names), ..known(&self.ids[*who]) });
            }
            Step::Rejoin { who } => drop(self.shard.join(known(&self.ids[*who]))),
            Step::Sync { who, stale } => {
                let generation = self.generation() - i32::from(*stale);
                let all: Vec<_> = self.ids.iter().map(|id| (id.as_str(), "part")).collect();
                self.shard.sync(&self.ids[*who], generation, &all);
            }
            Step::Heartbeat { who } => {
                let generation = self.generation();
                let _ = self.shard.heartbeat(&self.ids[*who], generation);
            }
            Step::Leave { who } => drop(self.shard.leave(vec![identity(&self.ids[*who])])),
            Step::Commit { who, offset } => {
                let generation = self.generation();
                if self.shard.commit(commit_of(&self.ids[*who], generation, *offset)).is_ok() {
                    self.committed = Some(*offset);
                }
            }
            Step::StaticJoin { who } => {
                self.drawn += 1;
                self.ids[*who] = format!("s{}", self.drawn);
                self.shard.join(static_newcomer(&format!("i{who}"), &self.ids[*who]));
            }
            Step::Stranger { leaves } => {
                self.drawn += 1;
                let id = format!("stranger{}", self.drawn);
                self.shard.join(JoinGroup { session_timeout_ms: 6_000, ..newcomer(&id) });
                if *leaves {
                    self.shard.leave(vec![identity(&id)]);
                }
            }
            Step::Hold => self.shard.hold(),
            Step::Release => self.shard.release(),
            Step::Settle => self.settle(),
            Step::Wait { ms } => self.shard.wait(*ms),
        }
    }

    fn settle(&mut self) {
        for id in &self.ids {
            self.shard.join(JoinGroup { rebalance_timeout_ms: 3_000, ..known(id) });
        }
        self.shard.wait(4_000);
        self.check();
        let all: Vec<_> = self.ids.iter().map(|id| (id.as_str(), "part")).collect();
        for id in &self.ids {
            let generation = self.generation();
            self.shard.sync(id, generation, &all);
        }
    }

    fn generation(&self) -> i32 {
        self.shard.groups.membership(GROUP).map_or(0, |membership| membership.generation)
    }

    fn check(&mut self) {
        if let Some(membership) = self.shard.groups.membership(GROUP) {
            assert!(membership.generation >= self.last_generation, "a generation went back");
            self.last_generation = membership.generation;
            assert_eq!(membership.leader.is_some(), !membership.members.is_empty());
            assert!(membership.leader.iter().all(|leader| membership.members.contains_key(leader)));
            let joins = membership.members.values().any(|member| member.awaiting_join.is_some());
            let syncs = membership.members.values().any(|member| member.awaiting_sync.is_some());
            assert!(!joins || membership.state == GroupState::PreparingRebalance);
            assert!(!syncs || membership.state == GroupState::CompletingRebalance);
            assert_eq!(
                membership.state == GroupState::Empty,
                membership.members.is_empty() && !joins && membership.join_deadline.is_none()
            );
            for (instance, id) in membership.static_members.iter() {
                assert_eq!(membership.members.get(id).unwrap().instance_id.as_ref(), Some(instance));
            }
            if membership.state == GroupState::Stable {
                assert!(membership.protocol_name.is_some());
            }
        }
        let reloaded = self.shard.reloaded();
        assert_eq!(reloaded.groups.persisted(), self.shard.groups.persisted());
        let offset = reloaded.groups.offset(GROUP, "t", 0).map(|committed| committed.offset);
        assert_eq!(offset, self.committed, "an offset was lost");
        // What is shown is what a broker finds that takes over now, no more and no less.
        let taken_over = self.shard.reloaded_at(self.shard.committed);
        let shown = self.shard.groups.offsets(GROUP);
        assert_eq!(shown, taken_over.groups.offsets(GROUP));
        let mut one_by_one: Vec<_> = self.shard.groups.each_offset(GROUP).cloned().collect();
        let mut at_once: Vec<_> = shown.into_values().flat_map(std::collections::BTreeMap::into_values).collect();
        for all in [&mut one_by_one, &mut at_once] {
            all.sort_by_key(|it| (it.offset, it.commit_timestamp));
        }
        assert_eq!(one_by_one, at_once);
    }

    /// All members of one generation that completed were told the same leader and protocol, and one leader only.
    fn check_generations(&self) {
        let mut leaders = std::collections::BTreeMap::new();
        for reply in self.shard.answered.values() {
            let Reply::Join(Ok(joined)) = reply else { continue };
            // A static leader that came back has led its generation under two ids.
            if joined.leader.starts_with('s') || joined.member_id.starts_with('s') {
                continue;
            }
            let first = leaders.entry(joined.generation).or_insert_with(|| joined.leader.clone());
            assert!(*first == joined.leader || first.starts_with('s'), "two leaders in one generation");
            assert_eq!(!joined.members.is_empty(), joined.leader == joined.member_id);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_order_of_events_every_request_is_answered_once_and_nothing_is_lost(steps in vec(step(), 1..80)) {
        let ids = (0..MEMBERS).map(|n| format!("nobody{n}")).collect();
        let mut clients = Clients { shard: Shard::new(), ids, drawn: 0, last_generation: 0, committed: None };
        for step in &steps {
            clients.run(step);
        }
        // Long enough for every session, join and sync to run out: then nobody waits any more.
        clients.run(&Step::Release);
        clients.run(&Step::Wait { ms: 1_000_000 });
        for token in clients.shard.issued() {
            prop_assert!(!clients.shard.is_parked(token), "{token:?} still waits");
        }
        clients.check_generations();
        let empty = matches!(clients.shard.state(), GroupState::Empty | GroupState::Dead);
        prop_assert!(empty);
    }
}
