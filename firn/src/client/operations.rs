//! What changes a cluster: settings, brokers that are forgotten.

use protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use protocol::messages::{IncrementalAlterConfigsRequest, UnregisterBrokerRequest};
use protocol::{ErrorCode, Str};

use super::topics::{ConfigChange, TOPIC_RESOURCE};
use super::{Client, ClientError};

impl Client {
    /// Changes settings of one broker or topic (`kind` is Kafka's number of the kind of resource).
    pub(crate) async fn alter_settings(
        &mut self,
        kind: i8,
        name: &str,
        changes: &[ConfigChange],
    ) -> Result<(), ClientError> {
        let alterable = |change: &ConfigChange| {
            let (name, config_operation, value) = match change {
                ConfigChange::Set(name, value) => (name, 0, Some(Str::from(value))),
                ConfigChange::Delete(name) => (name, 1, None),
            };
            AlterableConfig { name: Str::from(name), config_operation, value, ..AlterableConfig::default() }
        };
        let resource = AlterConfigsResource {
            resource_type: kind,
            resource_name: Str::from(name),
            configs: changes.iter().map(alterable).collect(),
            ..AlterConfigsResource::default()
        };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource], ..IncrementalAlterConfigsRequest::default() };
        let answer = self.call_any(&request, self.deadline()).await?;
        let doing = || match kind {
            TOPIC_RESOURCE => format!("altering topic {name:?}"),
            _ => format!("settings of broker {name}"),
        };
        match answer.responses.into_iter().next() {
            Some(result) => ClientError::check(result.error_code, result.error_message.as_deref(), doing),
            None => Err(ClientError::Refused {
                doing: doing(),
                code: ErrorCode::UnknownServerError.code(),
                message: Some("the answer does not mention them".to_owned()),
            }),
        }
    }

    /// Forgets a broker that will not come back.
    pub(crate) async fn unregister_broker(&mut self, broker_id: i32) -> Result<(), ClientError> {
        let request = UnregisterBrokerRequest { broker_id, ..UnregisterBrokerRequest::default() };
        let answer = self.call_any(&request, self.deadline()).await?;
        let doing = || format!("unregistering broker {broker_id}");
        ClientError::check(answer.error_code, answer.error_message.as_deref(), doing)
    }
}
