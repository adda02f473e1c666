//! Topics are created, grown and deleted.

use model::settings::SettingsMap;
use model::{NodeId, TopicId, TopicName, TopicPartition};

use super::apply::metric_name;
use super::draft::Draft;
use super::election::first_active;
use super::placement::{Wish, place};
use super::versions::WITH_WANTED_REPLICAS;
use super::{
    Cluster, ClusterError, CreatedTopic, Layout, MorePartitions, NO_LEADER, NewTopic, Partition, Record, RemovedTopic,
    Topic, TopicRef,
};

/// Most partitions that one command may create.
pub const MAX_PARTITIONS_PER_COMMAND: i64 = 10_000;
/// Most partitions of the cluster.
const MAX_PARTITIONS: usize = 1_000_000;

pub(super) fn create_all(
    draft: &mut Draft,
    topics: &[NewTopic],
) -> Result<Vec<Result<CreatedTopic, ClusterError>>, ClusterError> {
    check_total(draft, topics.iter().map(|topic| topic.layout.partitions()).fold(0, i64::saturating_add))?;
    Ok(topics.iter().map(|topic| create(draft, topic)).collect())
}

pub(super) fn grow_all(
    draft: &mut Draft,
    topics: &[MorePartitions],
) -> Result<Vec<Result<(), ClusterError>>, ClusterError> {
    let wanted = |more: &MorePartitions| {
        let existing = draft.state.topic(&more.name).map_or(0, |topic| topic.partitions);
        i64::from(more.total).saturating_sub(i64::from(existing)).max(0)
    };
    check_total(draft, topics.iter().map(wanted).fold(0, i64::saturating_add))?;
    Ok(topics.iter().map(|more| grow(draft, more)).collect())
}

pub(super) fn delete(draft: &mut Draft, topic: &TopicRef) -> Result<RemovedTopic, ClusterError> {
    let found = match topic {
        TopicRef::Id(id) => draft.state.topic_by_id(*id).ok_or(ClusterError::UnknownTopicId { id: *id })?,
        TopicRef::Name(name) => {
            draft.state.topic(name).ok_or_else(|| ClusterError::UnknownTopic { name: name.clone() })?
        }
    };
    let removed = RemovedTopic { id: found.id, name: found.name.clone() };
    draft.push(Record::TopicDeleted { topic_id: removed.id, deleted_ms: draft.now });
    Ok(removed)
}

fn create(draft: &mut Draft, new: &NewTopic) -> Result<CreatedTopic, ClusterError> {
    let name = check_name(&draft.state, &new.name)?;
    check_id(&draft.state, new.id)?;
    let configs = check_configs(&new.configs)?;
    let seed = new.id.0.as_u128();
    let assignment = match &new.layout {
        Layout::Assigned(assignment) => checked_assignment(&draft.state, &new.name, assignment, None)?,
        Layout::Placed { partitions, .. } if *partitions < 1 => {
            return Err(ClusterError::InvalidPartitions {
                reason: format!("topic {:?} needs at least 1 partition, not {partitions}", new.name),
            });
        }
        Layout::Placed { partitions, replication_factor } => {
            let (partitions, replication_factor) = (*partitions, *replication_factor);
            place(&draft.state, &Wish { partitions, replication_factor, first: 0, seed })?
        }
    };
    let created = CreatedTopic {
        id: new.id,
        name: name.clone(),
        partitions: i32::try_from(assignment.len()).unwrap_or(i32::MAX),
        replication_factor: assignment.first().and_then(|r| i16::try_from(r.len()).ok()).unwrap_or(i16::MAX),
        configs: configs.clone(),
    };
    let topic = Topic { id: new.id, name, created_ms: draft.now, partitions: 0, configs };
    draft.push(Record::TopicCreated(topic));
    add_partitions(draft, new.id, (0, new.wanted_replicas), assignment);
    Ok(created)
}

fn grow(draft: &mut Draft, more: &MorePartitions) -> Result<(), ClusterError> {
    let topic = draft.state.topic(&more.name).ok_or_else(|| ClusterError::UnknownTopic { name: more.name.clone() })?;
    let (topic_id, first) = (topic.id, topic.partitions);
    if more.total <= first {
        return Err(ClusterError::InvalidPartitions {
            reason: format!(
                "topic {:?} has {first} partitions, {} were asked for: the number can only grow",
                more.name, more.total
            ),
        });
    }
    let partitions = more.total - first;
    let of_first = draft.state.partition(TopicPartition { topic_id, partition: 0 });
    let replicas = of_first.map_or(1, |partition| partition.target_replicas().len());
    let wanted_replicas = of_first.and_then(|partition| partition.wanted_replicas);
    let assignment = match &more.assignment {
        Some(assignment) if usize::try_from(partitions) != Ok(assignment.len()) => {
            return Err(ClusterError::InvalidReplicaAssignment {
                reason: format!(
                    "{partitions} new partitions need as many assignments, {} were given",
                    assignment.len()
                ),
            });
        }
        Some(assignment) => checked_assignment(&draft.state, &more.name, assignment, Some(replicas))?,
        None => {
            let replication_factor = i16::try_from(replicas).unwrap_or(i16::MAX);
            place(&draft.state, &Wish { partitions, replication_factor, first, seed: topic_id.0.as_u128() })?
        }
    };
    add_partitions(draft, topic_id, (first, wanted_replicas), assignment);
    Ok(())
}

/// Replicas that are fenced or about to stop start outside the ISR. `wanted`: how many each shall have one day.
fn add_partitions(
    draft: &mut Draft,
    topic_id: TopicId,
    (first, wanted): (i32, Option<usize>),
    assignment: Vec<Vec<NodeId>>,
) {
    let wanted = wanted.filter(|_| draft.state.metadata_version() >= WITH_WANTED_REPLICAS);
    for (partition, replicas) in (first..).zip(assignment) {
        let isr: Vec<NodeId> = replicas.iter().copied().filter(|id| draft.state.is_active(*id)).collect();
        let leader = first_active(&draft.state, &replicas, &isr).unwrap_or(NO_LEADER);
        let wanted_replicas = wanted.filter(|wanted| *wanted > replicas.len());
        let new = Partition { wanted_replicas, ..Partition::new(replicas, isr, leader) };
        draft.put_partition(TopicPartition { topic_id, partition }, new);
    }
}

fn check_total(draft: &Draft, partitions: i64) -> Result<(), ClusterError> {
    let exceeded = |reason: String| Err(ClusterError::LimitExceeded { reason });
    if partitions > MAX_PARTITIONS_PER_COMMAND {
        return exceeded(format!(
            "{partitions} partitions in one request: at most {MAX_PARTITIONS_PER_COMMAND} are allowed"
        ));
    }
    let existing = draft.state.partition_count();
    if existing + usize::try_from(partitions).unwrap_or(usize::MAX / 2) > MAX_PARTITIONS {
        return exceeded(format!("the cluster has {existing} partitions and at most {MAX_PARTITIONS} are allowed"));
    }
    Ok(())
}

fn check_name(state: &Cluster, name: &str) -> Result<TopicName, ClusterError> {
    let checked = TopicName::new(name).map_err(|error| ClusterError::InvalidTopicName { reason: error.to_string() })?;
    if state.topic(name).is_some() {
        return Err(ClusterError::TopicExists { name: name.to_owned() });
    }
    if let Some(existing) = metric_name(name).and_then(|metric_name| state.metric_names.get(&metric_name)) {
        return Err(ClusterError::TopicCollision { name: name.to_owned(), existing: existing.to_string() });
    }
    Ok(checked)
}

fn check_id(state: &Cluster, id: TopicId) -> Result<(), ClusterError> {
    // Kafka keeps the id 1 for the topic of its own metadata.
    let is_reserved = id.0.as_u128() <= 1;
    if is_reserved || state.topic_by_id(id).is_some() || state.deleted_topic(id).is_some() {
        return Err(ClusterError::TopicIdTaken { id });
    }
    Ok(())
}

fn check_configs(configs: &[(String, Option<String>)]) -> Result<SettingsMap, ClusterError> {
    let mut checked = SettingsMap::new();
    for (name, value) in configs {
        let invalid = |reason: String| ClusterError::InvalidConfig { name: name.clone(), reason };
        let value = value.as_ref().ok_or_else(|| invalid(format!("the setting {name} has no value")))?;
        if checked.insert(name.clone(), value.clone()).is_some() {
            return Err(invalid(format!("the setting {name} is given twice")));
        }
    }
    super::configs::check_topic_settings(&checked)?;
    Ok(checked)
}

fn checked_assignment(
    state: &Cluster,
    name: &str,
    assignment: &[Vec<NodeId>],
    replicas: Option<usize>,
) -> Result<Vec<Vec<NodeId>>, ClusterError> {
    let refused = |reason: String| Err(ClusterError::InvalidReplicaAssignment { reason });
    let Some(first) = assignment.first() else {
        return refused(format!("the assignment of topic {name:?} names no partition"));
    };
    let wanted = replicas.unwrap_or(first.len());
    for (i, replicas) in assignment.iter().enumerate() {
        let place = format!("topic {name:?}, entry {i} of the assignment {replicas:?}");
        if replicas.is_empty() {
            return refused(format!("{place}: no replicas"));
        }
        if replicas.len() != wanted {
            return refused(format!("{place}: {wanted} replicas are needed, as for the other partitions"));
        }
        if let Some(unknown) = replicas.iter().find(|id| state.broker(**id).is_none()) {
            return refused(format!("{place}: broker {unknown} is not registered"));
        }
        if let Some((_, twice)) = replicas.iter().enumerate().find(|(j, id)| replicas[..*j].contains(id)) {
            return refused(format!("{place}: broker {twice} is named twice"));
        }
        if !replicas.iter().any(|id| state.is_active(*id)) {
            return refused(format!("{place}: all of them are fenced or about to stop, none could lead"));
        }
    }
    Ok(assignment.to_vec())
}
