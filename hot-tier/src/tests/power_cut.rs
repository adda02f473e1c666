//! Random work, the power goes at some change of the disk, unsynced bytes and names are lost: what was acknowledged is
//! there again, byte for byte, and nothing else ever was.
//!
//! `HOT_TIER_SEED=n cargo test -p hot-tier power_cut` repeats one seed; `HOT_TIER_SEEDS=n` runs that many.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::TopicPartition;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::fixture::{Fixture, Make, NOW, contents, id, settings};
use crate::disk::memory::MemoryDisk;
use crate::producer_state::{ActiveProducer, ProducerStates};
use crate::{Bootstrap, HotTier, PartitionLog};

const PARTITIONS: u128 = 3;
const STEPS: usize = 60;

/// What a partition was at one moment.
#[derive(Debug, Clone, PartialEq)]
struct Image {
    /// Bytes of the log from offset 0 of this life on, as they were appended and not truncated.
    bytes: Vec<u8>,
    /// Offset and position in `bytes` of each batch, then of the end.
    marks: Vec<(i64, usize)>,
    log_start: i64,
    producers: Vec<ActiveProducer>,
    /// What it began with, and has not forgotten since.
    inherited: Option<Bootstrap>,
}

impl Image {
    fn empty(start: i64) -> Self {
        Image { bytes: Vec::new(), marks: vec![(start, 0)], log_start: start, producers: Vec::new(), inherited: None }
    }

    fn end(&self) -> i64 {
        self.marks[self.marks.len() - 1].0
    }

    fn inherited_producers(&self) -> Vec<i64> {
        let states = self.inherited.as_ref().and_then(|state| ProducerStates::decode(&state.producers));
        states.map_or_else(Vec::new, |states| states.active().iter().map(|producer| producer.producer_id).collect())
    }

    /// True when the log still has what it began with.
    fn remembers(&self, log: &PartitionLog) -> bool {
        let Some(state) = &self.inherited else { return true };
        let known: Vec<i64> = log.producers().iter().map(|producer| producer.producer_id).collect();
        let in_force = state.epochs.iter().rfind(|epoch| epoch.start_offset <= log.log_start());
        let in_force = in_force.map_or(-1, |epoch| epoch.leader_epoch);
        let epochs: Vec<i32> = log.epochs().iter().map(|epoch| epoch.leader_epoch).collect();
        let is_known = |epoch: &i32| epochs.contains(epoch);
        self.inherited_producers().iter().all(|id| known.contains(id))
            && state
                .epochs
                .iter()
                .filter(|epoch| epoch.leader_epoch >= in_force)
                .all(|epoch| is_known(&epoch.leader_epoch))
    }

    /// The bytes from the batch that contains `offset` on.
    fn from(&self, offset: i64) -> &[u8] {
        let after = self.marks.partition_point(|mark| mark.0 <= offset);
        &self.bytes[self.marks[after.saturating_sub(1)].1..]
    }
}

/// Every state that a partition went through, oldest first.
#[derive(Default)]
struct Model {
    states: Vec<Image>,
    /// The first state that may be found again: the last one that was reported durable.
    durable: usize,
    removed: bool,
}

struct Work {
    rng: StdRng,
    models: BTreeMap<TopicPartition, Model>,
    sequence: i32,
    epoch: i32,
}

impl Work {
    /// Does random things until the machine is off. True when it got through.
    fn run(&mut self, tier: &HotTier) -> bool {
        for _ in 0..STEPS {
            if self.step(tier).is_none() {
                return false;
            }
            self.note_durable(tier);
        }
        true
    }

    fn step(&mut self, tier: &HotTier) -> Option<()> {
        let number = self.rng.random_range(1..=PARTITIONS);
        let topic = super::fixture::topic();
        let log = match tier.partition(id(number)) {
            Some(log) => log,
            None if self.models.get(&id(number)).is_some_and(|model| model.removed) => return Some(()),
            None => {
                self.models.entry(id(number)).or_default().states.push(Image::empty(0));
                tier.create(&topic, id(number), Arc::new(settings())).ok()?
            }
        };
        match self.rng.random_range(0..100) {
            0..60 => self.append(&log)?,
            60..75 => drop(tier.core().flush_round().ok()?),
            75..80 => tier.checkpoint().ok()?,
            80..84 => self.truncate(&log)?,
            84..88 => self.advance(&log)?,
            88..89 => self.reset(&log)?,
            89..90 => self.bootstrap(tier, &log)?,
            90..93 => drop(log.roll().ok()?),
            93..96 => {
                let below = self.rng.random_range(log.local_start()..=log.log_end());
                log.evict_below(below).ok()?;
            }
            96..97 => self.remove(tier, &log)?,
            _ => tier.core().trash.empty(tier.core().disk()),
        }
        Some(())
    }

    fn append(&mut self, log: &Arc<PartitionLog>) -> Option<()> {
        let value_len = if self.rng.random_bool(0.15) { 5000 } else { self.rng.random_range(0..300) };
        if self.rng.random_bool(0.1) {
            self.epoch += 1;
        }
        let producer = self.rng.random_bool(0.5).then(|| {
            self.sequence += 1;
            // A producer of its own for each append: any sequence is taken.
            (i64::from(self.sequence), 0, 0)
        });
        let salt = self.rng.random();
        let make = Make { records: self.rng.random_range(1..4), value_len, producer, salt, ..Make::default() };
        let image = self.image(log);
        let mut next = image.clone();
        let base = next.end();
        next.bytes.extend_from_slice(&make.at(base, self.epoch));
        next.marks.push((base + make.records, next.bytes.len()));
        if let Some((producer_id, producer_epoch, _)) = producer {
            next.producers.push(ActiveProducer {
                producer_id,
                producer_epoch,
                last_sequence: i32::try_from(make.records).unwrap() - 1,
                last_timestamp: NOW + make.records - 1,
                coordinator_epoch: -1,
                current_txn_start_offset: None,
            });
            next.producers.sort_by_key(|producer| producer.producer_id);
        }
        // It may be found after a cut in the middle of the append, too.
        self.push(log, next);
        let batch = model::batch::ValidatedBatch::from_own(make.at(0, -1)).unwrap();
        let appended = log.append_leader(vec![batch], self.epoch, NOW).ok()?;
        assert_eq!(appended.base_offset, base);
        Some(())
    }

    fn truncate(&mut self, log: &Arc<PartitionLog>) -> Option<()> {
        let offset = self.rng.random_range(log.local_start()..=log.log_end());
        let mut image = self.image(log);
        if offset == image.end() {
            return Some(());
        }
        let keep = image.marks.partition_point(|mark| mark.0 <= offset);
        image.marks.truncate(keep);
        image.bytes.truncate(image.marks[keep - 1].1);
        if image.end() < image.log_start {
            image = Image::empty(image.log_start);
        }
        let end = image.end();
        // Who was seen only in what is gone, is gone.
        let kept: Vec<i64> =
            model::batch::Batches::new(&image.bytes).map(|batch| batch.unwrap().header.producer_id).collect();
        let inherited = image.inherited_producers();
        image
            .producers
            .retain(|producer| kept.contains(&producer.producer_id) || inherited.contains(&producer.producer_id));
        self.push(log, image);
        let cut = log.truncate_to(offset).ok()?;
        assert_eq!(cut, end);
        self.note_all_durable(log);
        Some(())
    }

    fn advance(&mut self, log: &Arc<PartitionLog>) -> Option<()> {
        let mut image = self.image(log);
        let start = self.rng.random_range(image.log_start..=image.end());
        if start == image.log_start {
            return Some(());
        }
        image.log_start = start;
        self.push(log, image);
        log.advance_log_start(start).ok()?;
        self.note_all_durable(log);
        Some(())
    }

    fn reset(&mut self, log: &Arc<PartitionLog>) -> Option<()> {
        let start = self.image(log).end() + self.rng.random_range(0..50);
        self.push(log, Image::empty(start));
        log.reset_to(start).ok()?;
        self.note_all_durable(log);
        Some(())
    }

    /// Another partition's state, moved to where this one goes on.
    fn bootstrap(&mut self, tier: &HotTier, log: &Arc<PartitionLog>) -> Option<()> {
        let others = tier.partitions();
        let state = others[self.rng.random_range(0..others.len())].bootstrap().ok()?;
        let local_start = self.image(log).end().max(state.local_start) + self.rng.random_range(0..50);
        let state = Bootstrap { local_start, ..state };
        let mut image = Image::empty(local_start);
        image.log_start = state.log_start;
        image.producers = ProducerStates::decode(&state.producers).unwrap().active();
        image.inherited = Some(state.clone());
        self.push(log, image);
        log.reset_to_bootstrap(&state).ok()?;
        self.note_all_durable(log);
        Some(())
    }

    fn remove(&mut self, tier: &HotTier, log: &Arc<PartitionLog>) -> Option<()> {
        // Also when the machine goes off meanwhile: it may be gone then.
        self.models.get_mut(&log.id()).unwrap().removed = true;
        tier.remove(log.id()).ok()?;
        Some(())
    }

    fn image(&self, log: &PartitionLog) -> Image {
        self.models[&log.id()].states.last().unwrap().clone()
    }

    fn push(&mut self, log: &PartitionLog, image: Image) {
        self.models.get_mut(&log.id()).unwrap().states.push(image);
    }

    fn note_all_durable(&mut self, log: &PartitionLog) {
        let model = self.models.get_mut(&log.id()).unwrap();
        model.durable = model.states.len() - 1;
    }

    /// What the tier calls flushed must be found again.
    fn note_durable(&mut self, tier: &HotTier) {
        for log in tier.partitions() {
            let model = self.models.get_mut(&log.id()).unwrap();
            let flushed = log.flushed_end();
            let reached = (model.durable..model.states.len()).rev().find(|&i| model.states[i].end() <= flushed);
            model.durable = reached.unwrap_or(model.durable).max(model.durable);
        }
    }

    fn check(&self, tier: &HotTier, context: &str) {
        assert_eq!(tier.recovery_report().damage, Vec::<String>::new(), "{context}");
        for (id, model) in &self.models {
            let Some(log) = tier.partition(*id) else {
                let is_young = model.durable == 0 && model.states[0].end() == 0;
                assert!(model.removed || is_young || model.states[model.durable].end() == 0, "{context}: {id} is gone");
                continue;
            };
            let (start, end, bytes) = (log.local_start(), log.log_end(), contents(&log));
            let candidates = &model.states[model.durable..];
            let found = candidates.iter().enumerate().any(|(i, image)| {
                image.end() == end
                    && image.from(start) == bytes
                    // A move of the log start may survive a torn append before it: neither was acknowledged.
                    && candidates[i..].iter().any(|later| later.log_start.min(end) == log.log_start())
                    && log.producers().iter().all(|producer| image.producers.contains(producer))
                    && image.remembers(&log)
                    && producers_in(&bytes).iter().all(|id| log.producers().iter().any(|p| p.producer_id == *id))
            });
            assert!(
                found,
                "{context}: {id} is [{start}, {end}) with log start {}, expected one of {:?}",
                log.log_start(),
                model.states[model.durable..].iter().map(|i| (i.log_start, i.end())).collect::<Vec<_>>()
            );
            assert_eq!(log.flushed_end(), end, "{context}");
        }
    }
}

fn producers_in(bytes: &[u8]) -> Vec<i64> {
    let ids = model::batch::Batches::new(bytes).map(|batch| batch.unwrap().header.producer_id);
    ids.filter(|id| *id >= 0).collect()
}

/// One life after another on the same disk, each ended by a power cut; false when the first life ended by itself.
fn live(seed: u64, off_at: u64, lives: usize) -> bool {
    let mut rng = StdRng::seed_from_u64(seed ^ off_at.rotate_left(32));
    let mut work = Work { rng: StdRng::seed_from_u64(seed), models: BTreeMap::new(), sequence: 0, epoch: 0 };
    let mut disk = MemoryDisk::default();
    let mut was_cut = true;
    for life in 0..lives {
        let context = format!("HOT_TIER_SEED={seed} change {off_at} life {life}");
        let fixture = Fixture::on(disk.clone()).unwrap_or_else(|e| panic!("{context}: cannot open: {e}"));
        work.check(&fixture.tier, &context);
        work.settle(&fixture.tier);
        fixture.faults.turn_off_at(fixture.faults.changes() + off_at);
        was_cut &= !work.run(&fixture.tier);
        disk = fixture.disk.power_cut(&mut rng);
        if rng.random_bool(0.3) {
            // The power goes again while recovery is under way.
            let (faulty, faults) = crate::disk::faulty::FaultyDisk::new(Arc::new(disk.clone()));
            faults.turn_off_at(rng.random_range(0..30));
            drop(Fixture::with(disk.clone(), Arc::new(faulty), faults));
            disk = disk.power_cut(&mut rng);
        }
    }
    let fixture = Fixture::on(disk).unwrap();
    work.check(&fixture.tier, &format!("HOT_TIER_SEED={seed} change {off_at} at last"));
    was_cut
}

impl Work {
    /// After a restart the model goes on from what was found.
    fn settle(&mut self, tier: &HotTier) {
        self.models.retain(|id, model| tier.partition(*id).is_some() || model.removed);
        for log in tier.partitions() {
            let model = self.models.get_mut(&log.id()).unwrap();
            let bytes = contents(&log);
            let found = model.states[model.durable..]
                .iter()
                .rposition(|image| image.end() == log.log_end() && image.from(log.local_start()) == bytes);
            let mut image = model.states[model.durable + found.unwrap()].clone();
            image.log_start = log.log_start();
            image.producers = log.producers();
            *model = Model { states: vec![image], durable: 0, removed: false };
        }
    }
}

#[test]
fn a_power_cut_at_any_change_of_the_disk_loses_nothing_that_was_flushed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("HOT_TIER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HOT_TIER_SEEDS").unwrap_or(6),
    };
    for seed in seeds {
        // Every change from the first on, until the work gets through.
        for off_at in 1.. {
            if !live(seed, off_at, 1) {
                break;
            }
        }
    }
}

#[test]
fn a_log_survives_many_power_cuts_in_a_row() {
    let more = std::env::var("HOT_TIER_SEEDS").ok().and_then(|value| value.parse::<u64>().ok()).unwrap_or(150);
    for seed in 1000..1000 + more {
        live(seed, 5 + seed % 90, 5);
    }
}
