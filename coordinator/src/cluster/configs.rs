//! Dynamic settings of topics, brokers and the whole cluster.

use std::collections::BTreeSet;

use model::settings::{self, InvalidSetting, SettingsMap, ValueType, dynamic_spec, spec};

use super::draft::Draft;
use super::leadership;
use super::{Cluster, ClusterError, ConfigChange, ConfigEdit, ConfigOp, ConfigOpKind, ConfigResource, Record};

/// Most settings of one resource.
const MAX_SETTINGS: usize = 1000;
/// Longest value of a setting, in bytes.
const MAX_VALUE_LEN: usize = 32 * 1024;

/// Most bytes of all settings of one resource, names and values: they stand in the metadata log together.
const MAX_SETTINGS_BYTES: usize = 1 << 20;

/// Every resource may be named once; then each is changed as a whole or not at all.
pub(super) fn alter_all(draft: &mut Draft, changes: &[ConfigChange]) -> Vec<Result<(), ClusterError>> {
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<&ConfigResource> =
        changes.iter().map(|change| &change.resource).filter(|resource| !seen.insert(*resource)).collect();
    let alter_one = |change: &ConfigChange| {
        if twice.contains(&change.resource) {
            return Err(ClusterError::InvalidRequest { reason: format!("{:?} is named twice", change.resource) });
        }
        alter(draft, change)
    };
    let outcomes = changes.iter().map(alter_one).collect();
    if changes.iter().any(may_change_members) {
        leadership::review(draft);
    }
    outcomes
}

/// True when the change may decide who is eligible, or that anybody may lead.
fn may_change_members(change: &ConfigChange) -> bool {
    const DECISIVE: [&str; 2] = ["min.insync.replicas", "unclean.leader.election.enable"];
    match &change.edit {
        ConfigEdit::Replace(_) => true,
        ConfigEdit::Incremental(ops) => ops.iter().any(|op| DECISIVE.contains(&op.name.as_str())),
    }
}

/// Checks a topic's own settings.
pub(super) fn check_topic_settings(configs: &SettingsMap) -> Result<(), ClusterError> {
    check_change(&SettingsMap::new(), configs, true)
}

/// Checks what a change leads to, by the rules by which brokers read it. What stays as it is may be wrong: it must not keep
/// anybody from mending it, and another release may have stored it.
fn check_change(old: &SettingsMap, new: &SettingsMap, is_topic: bool) -> Result<(), ClusterError> {
    check_sizes(new)?;
    let check = if is_topic { settings::check } else { settings::check_dynamic };
    let mut changed = new.iter().filter(|(name, value)| old.get(*name) != Some(*value));
    changed.try_for_each(|(name, value)| check(name, value)).map_err(|error| invalid_setting(&error))?;
    let together = if is_topic { settings::check_together(new, &SettingsMap::new()) } else { Ok(()) };
    together.map_err(|error| invalid_setting(&error))
}

fn alter(draft: &mut Draft, change: &ConfigChange) -> Result<(), ClusterError> {
    let old = current(&draft.state, &change.resource)?;
    let is_topic = matches!(change.resource, ConfigResource::Topic(_));
    let new = match &change.edit {
        ConfigEdit::Incremental(ops) => edited(&old, ops, is_topic)?,
        ConfigEdit::Replace(configs) => replaced(configs)?,
    };
    check_change(&old, &new, is_topic)?;
    if new != old {
        draft.push(record(&draft.state, &change.resource, new)?);
    }
    Ok(())
}

fn current(state: &Cluster, resource: &ConfigResource) -> Result<SettingsMap, ClusterError> {
    match resource {
        ConfigResource::Topic(name) => {
            let topic = state.topic(name).ok_or_else(|| ClusterError::UnknownTopic { name: name.clone() })?;
            Ok(topic.configs.clone())
        }
        ConfigResource::Broker(id) if state.broker(*id).is_none() => {
            Err(ClusterError::UnknownBroker { broker_id: *id })
        }
        ConfigResource::Broker(id) => Ok(state.broker_configs(*id).cloned().unwrap_or_default()),
        ConfigResource::Cluster => Ok(state.cluster_configs().clone()),
    }
}

fn record(state: &Cluster, resource: &ConfigResource, configs: SettingsMap) -> Result<Record, ClusterError> {
    Ok(match resource {
        ConfigResource::Topic(name) => {
            let topic = state.topic(name).ok_or_else(|| ClusterError::UnknownTopic { name: name.clone() })?;
            Record::TopicConfigsSet { topic_id: topic.id, configs }
        }
        ConfigResource::Broker(id) => Record::BrokerConfigsSet { broker_id: Some(*id), configs },
        ConfigResource::Cluster => Record::BrokerConfigsSet { broker_id: None, configs },
    })
}

fn replaced(configs: &[(String, Option<String>)]) -> Result<SettingsMap, ClusterError> {
    let mut new = SettingsMap::new();
    for (name, value) in configs {
        let value = value.as_ref().ok_or_else(|| no_value(name))?;
        if new.insert(name.clone(), value.clone()).is_some() {
            return Err(named_twice(name));
        }
    }
    Ok(new)
}

fn edited(old: &SettingsMap, ops: &[ConfigOp], is_topic: bool) -> Result<SettingsMap, ClusterError> {
    let mut new = old.clone();
    let mut seen = BTreeSet::new();
    for op in ops {
        if !seen.insert(&op.name) {
            return Err(named_twice(&op.name));
        }
        if op.kind == ConfigOpKind::Delete {
            new.remove(&op.name);
            continue;
        }
        let value = op.value.as_deref().ok_or_else(|| no_value(&op.name))?;
        let value = match op.kind {
            ConfigOpKind::Set | ConfigOpKind::Delete => value.to_owned(),
            ConfigOpKind::Append | ConfigOpKind::Subtract => edited_list(&new, op, value, is_topic)?,
        };
        new.insert(op.name.clone(), value);
    }
    Ok(new)
}

/// Adds words to a list, or takes them out; the order of the others stays.
fn edited_list(settings: &SettingsMap, op: &ConfigOp, value: &str, is_topic: bool) -> Result<String, ClusterError> {
    let found = if is_topic { spec(&op.name) } else { dynamic_spec(&op.name).map(|(spec, _)| spec) };
    let spec = found.map_err(|error| invalid_setting(&error))?;
    if spec.kind.value_type() != ValueType::List {
        let operation = if op.kind == ConfigOpKind::Append { "append" } else { "subtract" };
        let reason = format!("Config value {operation} is not allowed for config key: {}", op.name);
        return Err(ClusterError::InvalidConfig { name: op.name.clone(), reason });
    }
    let before = settings.get(&op.name).map_or(spec.default, String::as_str);
    let mut list: Vec<&str> = words(before).collect();
    for word in words(value) {
        if op.kind == ConfigOpKind::Subtract {
            list.retain(|other| *other != word);
        } else if !list.contains(&word) {
            list.push(word);
        }
    }
    Ok(list.join(","))
}

fn words(list: &str) -> impl Iterator<Item = &str> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty())
}

fn check_sizes(configs: &SettingsMap) -> Result<(), ClusterError> {
    if configs.len() > MAX_SETTINGS {
        let reason = format!("{} settings on one resource: at most {MAX_SETTINGS} are allowed", configs.len());
        return Err(ClusterError::LimitExceeded { reason });
    }
    let bytes: usize = configs.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_SETTINGS_BYTES {
        let reason = format!("{bytes} bytes of settings on one resource: at most {MAX_SETTINGS_BYTES} are allowed");
        return Err(ClusterError::LimitExceeded { reason });
    }
    match configs.iter().find(|(name, value)| name.len().max(value.len()) > MAX_VALUE_LEN) {
        None => Ok(()),
        Some((name, _)) => {
            let name: String = name.chars().take(80).collect();
            let reason = format!("the setting {name} is longer than {MAX_VALUE_LEN} bytes");
            Err(ClusterError::InvalidConfig { name, reason })
        }
    }
}

fn invalid_setting(error: &InvalidSetting) -> ClusterError {
    let name = match error {
        InvalidSetting::Unknown { name, .. } => name.clone(),
        InvalidSetting::Value { name, .. } => (*name).to_owned(),
        InvalidSetting::Conflict(_) => String::new(),
    };
    ClusterError::InvalidConfig { name, reason: error.to_string() }
}

fn no_value(name: &str) -> ClusterError {
    ClusterError::InvalidRequest { reason: format!("the setting {name} has no value") }
}

fn named_twice(name: &str) -> ClusterError {
    ClusterError::InvalidRequest { reason: format!("the setting {name} is named twice") }
}
