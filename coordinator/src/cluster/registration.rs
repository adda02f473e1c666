//! Brokers come and go.
//!
//! A new process of a broker gets a new broker epoch, and every partition that it led gets a new leader epoch, also when
//! the broker stays the leader because it is the only in-sync replica: what the old process may have lost (page cache, an
//! archive commit under way) must not pass for the new one's. With a quorum of one, that is one change per led partition
//! and start.

use model::NodeId;

use super::draft::Draft;
use super::leadership::Disk;
use super::{Broker, BrokerRef, Cluster, ClusterError, Record, RegisterBroker, Reply, leadership};

/// Most listeners of a broker.
const MAX_LISTENERS: usize = 64;

pub(super) fn register(draft: &mut Draft, request: &RegisterBroker) -> Result<Reply, ClusterError> {
    check_request(request)?;
    draft.state.check_build(request.metadata_versions)?;
    let known = draft.state.broker(request.broker_id).filter(|known| known.incarnation == request.incarnation);
    let known = known.map(|known| (known.epoch, known.is_fenced, known.is_shutting_down));
    let (epoch, is_fenced, is_shutting_down) =
        known.unwrap_or((draft.state.next_broker_epoch, request.is_fenced, false));
    let before = draft.state.clone();
    let known_log_id = before.broker(request.broker_id).and_then(|broker| broker.log_id);
    let log_id = request.log_id.or(known_log_id);
    let broker = Broker {
        id: request.broker_id,
        epoch,
        incarnation: request.incarnation,
        listeners: request.listeners.clone(),
        rack: request.rack.clone(),
        internal: request.internal.clone(),
        log_id,
        topic_defaults: request.topic_defaults.clone(),
        metadata_versions: request.metadata_versions,
        is_fenced,
        is_shutting_down,
    };
    if draft.state.broker(broker.id) != Some(&broker) {
        draft.push(Record::BrokerRegistered(broker));
    }
    if known.is_none() {
        let disk = if known_log_id.is_some() && log_id != known_log_id { Disk::Lost } else { Disk::Kept };
        leadership::restart(draft, &before, request.broker_id, disk);
    }
    if before.broker(request.broker_id).is_some_and(|old| old.topic_defaults != request.topic_defaults) {
        leadership::review(draft);
    }
    Ok(Reply::BrokerRegistered { broker_epoch: epoch })
}

pub(super) fn fence(draft: &mut Draft, broker: BrokerRef) -> Result<Reply, ClusterError> {
    check_epoch(&draft.state, broker)?;
    if draft.state.is_alive(broker.broker_id) {
        set_fencing(draft, broker.broker_id, true);
    }
    // Also one that was fenced: it may have been lost while it started, with places in ISRs.
    leadership::leave(draft, broker.broker_id);
    Ok(Reply::Done)
}

pub(super) fn unfence(draft: &mut Draft, broker: BrokerRef) -> Result<Reply, ClusterError> {
    check_epoch(&draft.state, broker)?;
    if !draft.state.is_alive(broker.broker_id) {
        set_fencing(draft, broker.broker_id, false);
        leadership::take_orphans(draft, broker.broker_id);
    }
    Ok(Reply::Done)
}

pub(super) fn shut_down(draft: &mut Draft, broker: BrokerRef) -> Result<Reply, ClusterError> {
    check_epoch(&draft.state, broker)?;
    let broker_id = broker.broker_id;
    if let Some(known) = draft.state.broker(broker_id).filter(|known| !known.is_shutting_down) {
        let is_fenced = known.is_fenced;
        draft.push(Record::BrokerFencingChanged { broker_id, is_fenced, is_shutting_down: true });
    }
    leadership::hand_over(draft, broker_id);
    let led_partitions = draft.state.partitions().filter(|(_, partition)| partition.leader == broker_id).count();
    Ok(Reply::BrokerShutsDown { led_partitions })
}

pub(super) fn unregister(draft: &mut Draft, broker_id: NodeId) -> Result<Reply, ClusterError> {
    let known = draft.state.broker(broker_id).ok_or(ClusterError::UnknownBroker { broker_id })?;
    if known.is_active() {
        let reason = "only a broker that is stopped can be unregistered".to_owned();
        return Err(ClusterError::BrokerIsAlive { broker_id, reason });
    }
    draft.push(Record::BrokerUnregistered { broker_id });
    leadership::leave(draft, broker_id);
    Ok(Reply::Done)
}

fn set_fencing(draft: &mut Draft, broker_id: NodeId, is_fenced: bool) {
    let is_shutting_down = draft.state.broker(broker_id).is_some_and(|broker| broker.is_shutting_down);
    draft.push(Record::BrokerFencingChanged { broker_id, is_fenced, is_shutting_down });
}

/// Refuses a broker process that another registration has replaced.
pub(super) fn check_epoch(state: &Cluster, broker: BrokerRef) -> Result<(), ClusterError> {
    let BrokerRef { broker_id, broker_epoch: given } = broker;
    let current = state.broker(broker_id).ok_or(ClusterError::UnknownBroker { broker_id })?.epoch;
    if given == current { Ok(()) } else { Err(ClusterError::StaleBrokerEpoch { broker_id, given, current }) }
}

fn check_request(request: &RegisterBroker) -> Result<(), ClusterError> {
    let invalid = |reason: String| Err(ClusterError::InvalidRequest { reason });
    if request.broker_id < 0 {
        return invalid(format!("the broker id {} is negative", request.broker_id));
    }
    if request.listeners.is_empty() || request.listeners.len() > MAX_LISTENERS {
        return invalid(format!("a broker has 1 to {MAX_LISTENERS} listeners, not {}", request.listeners.len()));
    }
    Ok(())
}
