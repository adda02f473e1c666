//! How fast replicas that are not in sync may be copied (KIP-73): an allowance in bytes that grows by the rate, up to one
//! second's worth. Bytes are counted when they have passed; the allowance may become negative, and then nothing passes until
//! it has grown back.

use std::time::{Duration, Instant};

use coordinator::cluster::Cluster;
use model::NodeId;
use parking_lot::Mutex;

/// Broker setting: the rate at which a leader sends.
pub(crate) const LEADER_RATE: &str = "leader.replication.throttled.rate";
/// Broker setting: the rate at which a follower takes.
pub(crate) const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";

/// One allowance.
#[derive(Debug)]
pub(crate) struct Throttle {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Bytes per second; none is unlimited.
    rate: Option<u64>,
    /// Bytes that may pass, as of `at`.
    allowance: i128,
    at: Instant,
}

/// Both directions of one broker.
#[derive(Debug)]
pub(crate) struct Throttles {
    /// What its followers take from it.
    pub(crate) leader: Throttle,
    /// What it takes from leaders.
    pub(crate) follower: Throttle,
}

impl Throttles {
    /// Unlimited.
    pub(crate) fn new() -> Self {
        Throttles { leader: Throttle::new(), follower: Throttle::new() }
    }

    /// Takes over the rates that the metadata say for this node.
    pub(crate) fn follow(&self, image: &Cluster, node_id: NodeId) {
        let rate = |name: &str| {
            let own = image.broker_configs(node_id).and_then(|configs| configs.get(name));
            let value = own.or_else(|| image.cluster_configs().get(name))?;
            value.trim().parse().ok().filter(|rate| *rate < u64::try_from(i64::MAX).unwrap_or(u64::MAX))
        };
        let now = Instant::now();
        self.leader.set_rate(rate(LEADER_RATE), now);
        self.follower.set_rate(rate(FOLLOWER_RATE), now);
    }
}

impl Throttle {
    fn new() -> Self {
        Throttle { state: Mutex::new(State { rate: None, allowance: 0, at: Instant::now() }) }
    }

    fn set_rate(&self, rate: Option<u64>, now: Instant) {
        let mut state = self.state.lock();
        if state.rate != rate {
            *state = State { rate, allowance: i128::from(rate.unwrap_or(0)), at: now };
        }
    }

    /// So many bytes have passed.
    pub(crate) fn note(&self, bytes: usize, now: Instant) {
        let mut state = self.state.lock();
        if state.rate.is_some() {
            state.grow(now);
            state.allowance -= i128::try_from(bytes).unwrap_or(i128::MAX);
        }
    }

    /// How long nothing may pass; `None` when something may.
    pub(crate) fn closed_for(&self, now: Instant) -> Option<Duration> {
        let mut state = self.state.lock();
        let rate = state.rate?;
        state.grow(now);
        if state.allowance > 0 {
            return None;
        }
        let missing = u64::try_from(1 - state.allowance).unwrap_or(u64::MAX);
        let micros = u128::from(missing) * 1_000_000 / u128::from(rate.max(1));
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }
}

impl State {
    fn grow(&mut self, now: Instant) {
        let Some(rate) = self.rate else { return };
        let passed = now.saturating_duration_since(self.at);
        let grown = i128::from(rate) * i128::try_from(passed.as_micros()).unwrap_or(0) / 1_000_000;
        if grown > 0 {
            self.allowance = (self.allowance + grown).min(i128::from(rate));
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_at_the_rate() {
        let (throttle, start) = (Throttle::new(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        throttle.note(1 << 30, start);
        assert_eq!(throttle.closed_for(start), None, "without a rate everything passes");
        throttle.set_rate(Some(1000), start);
        throttle.note(3000, start);
        let wait = throttle.closed_for(start).unwrap();
        assert!(wait >= Duration::from_millis(2000) && wait < Duration::from_millis(2010), "{wait:?}");
        assert!(throttle.closed_for(at(1990)).is_some());
        assert_eq!(throttle.closed_for(at(2010)), None);
        throttle.note(10, at(100_000));
        assert_eq!(throttle.closed_for(at(100_000)), None, "a pause saves up one second's worth");
        throttle.note(1000, at(100_000));
        assert!(throttle.closed_for(at(100_000)).is_some(), "and no more");
        throttle.set_rate(Some(0), at(100_000));
        assert!(throttle.closed_for(at(900_000)).is_some(), "a rate of 0 lets nothing pass");
        throttle.set_rate(None, at(900_000));
        assert_eq!(throttle.closed_for(at(900_000)), None);
    }
}
