//! Brokers come and go.
//!
//! A new process of a broker gets a new broker epoch, and every partition that it led gets a new leader epoch, also when
//! the broker stays the leader because it is the only in-sync replica: what the old process may have lost (page cache, an
//! archive commit under way) must not pass for the new one's. With a quorum of one, that is one change per led partition
//! and start. A broker that was in an ISR with others leaves it and catches up first, since it may have lost its tail.

use model::NodeId;

use super::draft::Draft;
use super::{Broker, BrokerRef, Cluster, ClusterError, Record, RegisterBroker, Reply, leadership};

/// Most listeners of a broker.
const MAX_LISTENERS: usize = 64;

pub(super) fn register(draft: &mut Draft, request: &RegisterBroker) -> Result<Reply, ClusterError> {
    check_request(request)?;
    let known = draft.state.broker(request.broker_id).filter(|known| known.incarnation == request.incarnation);
    let known = known.map(|known| (known.epoch, known.is_fenced));
    let (epoch, is_fenced) = known.unwrap_or((draft.state.next_broker_epoch, request.is_fenced));
    let broker = Broker {
        id: request.broker_id,
        epoch,
        incarnation: request.incarnation,
        listeners: request.listeners.clone(),
        rack: request.rack.clone(),
        is_fenced,
    };
    if draft.state.broker(broker.id) != Some(&broker) {
        draft.push(Record::BrokerRegistered(broker));
    }
    if known.is_none() {
        leadership::restart(draft, request.broker_id);
    }
    Ok(Reply::BrokerRegistered { broker_epoch: epoch })
}

pub(super) fn fence(draft: &mut Draft, broker: BrokerRef) -> Result<Reply, ClusterError> {
    check_epoch(&draft.state, broker)?;
    if draft.state.is_alive(broker.broker_id) {
        draft.push(Record::BrokerFencingChanged { broker_id: broker.broker_id, is_fenced: true });
        leadership::leave(draft, broker.broker_id);
    }
    Ok(Reply::Done)
}

pub(super) fn unfence(draft: &mut Draft, broker: BrokerRef) -> Result<Reply, ClusterError> {
    check_epoch(&draft.state, broker)?;
    if !draft.state.is_alive(broker.broker_id) {
        draft.push(Record::BrokerFencingChanged { broker_id: broker.broker_id, is_fenced: false });
        leadership::take_orphans(draft, broker.broker_id);
    }
    Ok(Reply::Done)
}

pub(super) fn unregister(draft: &mut Draft, broker_id: NodeId) -> Result<Reply, ClusterError> {
    if draft.state.broker(broker_id).is_none() {
        return Err(ClusterError::UnknownBroker { broker_id });
    }
    draft.push(Record::BrokerUnregistered { broker_id });
    leadership::leave(draft, broker_id);
    Ok(Reply::Done)
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
