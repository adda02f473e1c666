//! What an administrator asks for: topics, settings, deletions of records, reassignments.

use model::TopicId;
use protocol::messages::alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
use protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use protocol::messages::delete_topics_request::DeleteTopicState;
use protocol::messages::describe_configs_request::DescribeConfigsResource;
use protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::messages::{
    AlterPartitionReassignmentsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
    DescribeConfigsRequest, IncrementalAlterConfigsRequest,
};
use protocol::{ErrorCode, Str};

use super::{Client, checked, only};

/// Time that a request gives the cluster, in ms.
const TIMEOUT_MS: i32 = 5_000;
/// The kind of a resource (DescribeConfigs).
const TOPIC_RESOURCE: i8 = 2;

/// The name, size and settings of a new topic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewTopic<'a> {
    pub(crate) name: &'a str,
    pub(crate) partitions: i32,
    pub(crate) replicas: i16,
    pub(crate) settings: &'a [(&'a str, &'a str)],
}

fn refused(code: i16, message: Option<&Str>) -> String {
    format!("{code} {:?}", message.map(Str::as_str))
}

impl Client {
    /// Makes a topic, or finds it made.
    pub(crate) async fn create_topic(&mut self, node: i32, new: &NewTopic<'_>) -> Result<(), String> {
        let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
            name: Str::from(*name),
            value: Some(Str::from(*value)),
            ..CreatableTopicConfig::default()
        };
        let topic = CreatableTopic {
            name: Str::from(new.name),
            num_partitions: new.partitions,
            replication_factor: new.replicas,
            configs: new.settings.iter().map(config).collect(),
            ..CreatableTopic::default()
        };
        let request =
            CreateTopicsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, ..CreateTopicsRequest::default() };
        let answer = self.call(node, &request, 7).await?;
        let topic = answer.topics.first().ok_or("no answer for the topic")?;
        match topic.error_code {
            0 => Ok(()),
            code if code == ErrorCode::TopicAlreadyExists.code() => Ok(()),
            code => Err(refused(code, topic.error_message.as_ref())),
        }
    }

    /// Deletes a topic, or finds it deleted.
    pub(crate) async fn delete_topic(&mut self, node: i32, topic: TopicId) -> Result<(), String> {
        let topic = DeleteTopicState { name: None, topic_id: topic.0, ..DeleteTopicState::default() };
        let request =
            DeleteTopicsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, ..DeleteTopicsRequest::default() };
        let answer = self.call(node, &request, 6).await?;
        let topic = answer.responses.first().ok_or("no answer for the topic")?;
        match topic.error_code {
            0 => Ok(()),
            code if code == ErrorCode::UnknownTopicId.code() => Ok(()),
            code => Err(refused(code, topic.error_message.as_ref())),
        }
    }

    /// Deletes the records below an offset; the first offset that is left.
    pub(crate) async fn delete_records(
        &mut self,
        node: i32,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> Result<i64, String> {
        let part = DeleteRecordsPartition { partition_index: partition, offset, ..DeleteRecordsPartition::default() };
        let topic =
            DeleteRecordsTopic { name: Str::from(topic), partitions: vec![part], ..DeleteRecordsTopic::default() };
        let request =
            DeleteRecordsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, ..DeleteRecordsRequest::default() };
        let answer = self.call(node, &request, 2).await?;
        let part = only(answer.topics.into_iter().flat_map(|topic| topic.partitions))?;
        checked(part.error_code).map(|()| part.low_watermark)
    }

    /// Sets a setting of a topic.
    pub(crate) async fn set(&mut self, node: i32, topic: &str, name: &str, value: &str) -> Result<(), String> {
        let config =
            AlterableConfig { name: Str::from(name), value: Some(Str::from(value)), ..AlterableConfig::default() };
        let resource = AlterConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: Str::from(topic),
            configs: vec![config],
            ..AlterConfigsResource::default()
        };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource], ..IncrementalAlterConfigsRequest::default() };
        let answer = self.call(node, &request, 1).await?;
        let answer = answer.responses.first().ok_or("no answer for the topic")?;
        if answer.error_code == 0 { Ok(()) } else { Err(refused(answer.error_code, answer.error_message.as_ref())) }
    }

    /// A setting of a topic, as a node reports it.
    pub(crate) async fn setting(&mut self, node: i32, topic: &str, name: &str) -> Result<String, String> {
        let resource = DescribeConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: Str::from(topic),
            configuration_keys: Some(vec![Str::from(name)]),
            ..DescribeConfigsResource::default()
        };
        let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
        let answer = self.call(node, &request, 4).await?;
        let found = answer.results.into_iter().flat_map(|result| result.configs).next();
        found.and_then(|config| config.value).map(|value| value.to_string()).ok_or_else(|| "no value".to_owned())
    }

    /// Moves a partition to other nodes; `None` cancels a move.
    pub(crate) async fn reassign(
        &mut self,
        node: i32,
        topic: &str,
        partition: i32,
        replicas: Option<Vec<i32>>,
    ) -> Result<(), String> {
        let part = ReassignablePartition { partition_index: partition, replicas, ..ReassignablePartition::default() };
        let topic =
            ReassignableTopic { name: Str::from(topic), partitions: vec![part], ..ReassignableTopic::default() };
        let request = AlterPartitionReassignmentsRequest {
            timeout_ms: TIMEOUT_MS,
            topics: vec![topic],
            ..AlterPartitionReassignmentsRequest::default()
        };
        let answer = self.call(node, &request, 0).await?;
        let part = answer.responses.into_iter().flat_map(|topic| topic.partitions).next();
        checked(part.map_or(answer.error_code, |part| part.error_code))
    }
}
