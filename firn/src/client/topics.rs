//! Creating, changing and deleting topics.

use protocol::messages::create_partitions_request::CreatePartitionsTopic;
use protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use protocol::messages::delete_topics_request::DeleteTopicState;
use protocol::messages::describe_configs_request::DescribeConfigsResource;
use protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use protocol::messages::{CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest};
use protocol::{ErrorCode, Str};

use super::overview::BROKER_RESOURCE;
use super::{Client, ClientError};

/// How long the cluster may take for a change, in ms.
const CHANGE_TIMEOUT_MS: i32 = 20_000;
/// A topic among the kinds of resources that have settings.
pub(crate) const TOPIC_RESOURCE: i8 = 2;

/// A change of one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConfigChange {
    /// Set it to a value.
    Set(String, String),
    /// Back to the default.
    Delete(String),
}

/// A topic to be created.
#[derive(Debug, Clone)]
pub(crate) struct NewTopic {
    /// Its name.
    pub(crate) name: String,
    /// How many partitions, or the cluster's default.
    pub(crate) partitions: Option<i32>,
    /// How many replicas, or the cluster's default.
    pub(crate) replication_factor: Option<i16>,
    /// Its own settings.
    pub(crate) configs: Vec<(String, String)>,
}

/// What the cluster made of it; −1 and `None` where an old broker does not say.
#[derive(Debug, Clone)]
pub(crate) struct CreatedTopic {
    /// Its id.
    pub(crate) id: model::TopicId,
    /// How many partitions.
    pub(crate) partitions: i32,
    /// How many replicas.
    pub(crate) replication_factor: i16,
}

impl Client {
    /// Creates a topic.
    pub(crate) async fn create_topic(&mut self, topic: &NewTopic) -> Result<CreatedTopic, ClientError> {
        let config = |(name, value): &(String, String)| CreatableTopicConfig {
            name: Str::from(name),
            value: Some(Str::from(value)),
            ..CreatableTopicConfig::default()
        };
        let creatable = CreatableTopic {
            name: Str::from(&topic.name),
            num_partitions: topic.partitions.unwrap_or(-1),
            replication_factor: topic.replication_factor.unwrap_or(-1),
            configs: topic.configs.iter().map(config).collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![creatable],
            timeout_ms: CHANGE_TIMEOUT_MS,
            ..CreateTopicsRequest::default()
        };
        let answer = self.call_any(&request, self.deadline()).await?;
        let result = answer.topics.into_iter().next().ok_or_else(|| silent("creating", &topic.name))?;
        ClientError::check(result.error_code, result.error_message.as_deref(), || {
            format!("creating topic {:?}", topic.name)
        })?;
        Ok(CreatedTopic {
            id: model::TopicId(result.topic_id),
            partitions: result.num_partitions,
            replication_factor: result.replication_factor,
        })
    }

    /// Deletes a topic.
    pub(crate) async fn delete_topic(&mut self, name: &str) -> Result<(), ClientError> {
        let state = DeleteTopicState { name: Some(Str::from(name)), ..DeleteTopicState::default() };
        let request = DeleteTopicsRequest {
            topics: vec![state],
            timeout_ms: CHANGE_TIMEOUT_MS,
            ..DeleteTopicsRequest::default()
        };
        let answer = self.call_any(&request, self.deadline()).await?;
        let result = answer.responses.into_iter().next().ok_or_else(|| silent("deleting", name))?;
        ClientError::check(result.error_code, result.error_message.as_deref(), || format!("deleting topic {name:?}"))
    }

    /// Raises a topic's number of partitions to `count`.
    pub(crate) async fn create_partitions(&mut self, name: &str, count: i32) -> Result<(), ClientError> {
        let topic = CreatePartitionsTopic {
            name: Str::from(name),
            count,
            assignments: None,
            ..CreatePartitionsTopic::default()
        };
        let request = CreatePartitionsRequest {
            topics: vec![topic],
            timeout_ms: CHANGE_TIMEOUT_MS,
            ..CreatePartitionsRequest::default()
        };
        let answer = self.call_any(&request, self.deadline()).await?;
        let result = answer.results.into_iter().next().ok_or_else(|| silent("altering", name))?;
        let doing = || format!("adding partitions to topic {name:?}");
        ClientError::check(result.error_code, result.error_message.as_deref(), doing)
    }

    /// All settings of a topic, with where their values come from.
    pub(crate) async fn topic_configs(
        &mut self,
        name: &str,
    ) -> Result<Vec<DescribeConfigsResourceResult>, ClientError> {
        let resource = DescribeConfigsResource {
            resource_type: TOPIC_RESOURCE,
            resource_name: Str::from(name),
            configuration_keys: None,
            ..DescribeConfigsResource::default()
        };
        let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
        let answer = self.call_any(&request, self.deadline()).await?;
        let result = answer.results.into_iter().next().ok_or_else(|| silent("describing", name))?;
        ClientError::check(result.error_code, result.error_message.as_deref(), || {
            format!("settings of topic {name:?}")
        })?;
        Ok(result.configs)
    }

    /// A setting of the first broker that tells.
    pub(crate) async fn broker_setting(&mut self, name: &'static str) -> Option<String> {
        let view = self.all_topics().await.ok()?;
        for (id, endpoint) in &view.brokers {
            let resource = DescribeConfigsResource {
                resource_type: BROKER_RESOURCE,
                resource_name: Str::from(id.to_string()),
                configuration_keys: Some(vec![Str::from_static(name)]),
                ..DescribeConfigsResource::default()
            };
            let request = DescribeConfigsRequest { resources: vec![resource], ..DescribeConfigsRequest::default() };
            let Ok(answer) = self.call_at(endpoint, &request, self.deadline()).await else { continue };
            let config = answer.results.into_iter().flat_map(|result| result.configs).find(|c| c.name == name);
            if let Some(value) = config.and_then(|config| config.value) {
                return Some(value.into());
            }
        }
        None
    }

    /// Changes a topic's own settings, all or none.
    pub(crate) async fn alter_topic(&mut self, name: &str, changes: &[ConfigChange]) -> Result<(), ClientError> {
        self.alter_settings(TOPIC_RESOURCE, name, changes).await
    }
}

fn silent(doing: &str, name: &str) -> ClientError {
    ClientError::Refused {
        doing: format!("{doing} topic {name:?}"),
        code: ErrorCode::UnknownServerError.code(),
        message: Some("the answer does not mention it".to_owned()),
    }
}
