//! What goes wrong, and when: drawn from the seed alone.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

/// How far wall clocks leap at most, in seconds: ten years.
const LONGEST_LEAP_S: i64 = 10 * 365 * 86_400;

/// Something that goes wrong, and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The process is killed.
    Kill(i32),
    /// Its machine loses power.
    PowerCut(i32),
    /// The process is asked to stop.
    Stop(i32),
    /// All machines lose power at once.
    Blackout,
    /// Two nodes hear nothing of each other, and what they send is lost.
    Cut(i32, i32),
    /// The second hears nothing of the first.
    CutOneWay(i32, i32),
    /// What two nodes send to each other is held back, as by a link that is down for a while.
    Hold(i32, i32),
    /// What two nodes send to each other takes long, and each message its own time.
    Slow(i32, i32),
    /// A node reaches no other one, and none reaches it.
    Isolate(i32),
    /// What a node sends and what is sent to it is held back.
    Stall(i32),
    /// The object store does not answer.
    StoreOut,
    /// A machine is replaced by one with an empty disk. Once in a run: what two have lost is lost.
    LostDisk(i32),
    /// All wall clocks leap by so many seconds, and back.
    Leap(i64),
}

impl Fault {
    /// While it lasts, the node's machine has no power.
    pub(crate) fn keeps_off(&self, node: i32) -> bool {
        matches!(self, Fault::PowerCut(one) | Fault::LostDisk(one) if *one == node) || *self == Fault::Blackout
    }

    /// While it lasts, the node's process does not run.
    pub(crate) fn keeps_down(&self, node: i32) -> bool {
        matches!(self, Fault::Kill(one) | Fault::Stop(one) if *one == node)
    }
}

/// Faults one after the other, some while others last.
#[derive(Debug)]
pub(crate) struct Schedule {
    chance: StdRng,
    next: Duration,
    may_lose_a_disk: bool,
}

impl Schedule {
    /// The first fault comes some time after `start`.
    pub(crate) fn new(mut chance: StdRng, start: Duration) -> Self {
        let next = start + Duration::from_millis(chance.random_range(100..3_000));
        Schedule { chance, next, may_lose_a_disk: true }
    }

    /// The fault that is due, and how long it lasts.
    pub(crate) fn due(&mut self, now: Duration) -> Option<(Fault, Duration)> {
        if now < self.next {
            return None;
        }
        self.next = now + Duration::from_millis(self.chance.random_range(50..3_500));
        let node = self.chance.random_range(1..=3);
        let other = (node + self.chance.random_range(0..2)) % 3 + 1;
        let fault = match self.chance.random_range(0..24) {
            0..=3 => Fault::Kill(node),
            4..=6 => Fault::PowerCut(node),
            7..=8 => Fault::Stop(node),
            9 => Fault::Blackout,
            10..=11 => Fault::Cut(node, other),
            12..=13 => Fault::CutOneWay(node, other),
            14 => Fault::Hold(node, other),
            15..=16 => Fault::Isolate(node),
            17 => Fault::Stall(node),
            18 => Fault::Leap(self.chance.random_range(-LONGEST_LEAP_S..LONGEST_LEAP_S)),
            19..=20 => Fault::Slow(node, other),
            21 if std::mem::take(&mut self.may_lose_a_disk) => Fault::LostDisk(node),
            _ => Fault::StoreOut,
        };
        let lasts = match self.chance.random_range(0..3) {
            0 => self.chance.random_range(20..400),
            1 => self.chance.random_range(400..3_000),
            _ => self.chance.random_range(3_000..9_000),
        };
        Some((fault, Duration::from_millis(lasts)))
    }

    /// Chance for how a fault turns out.
    pub(crate) fn chance(&mut self) -> &mut StdRng {
        &mut self.chance
    }
}
