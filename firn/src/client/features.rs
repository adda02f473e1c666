//! The cluster's metadata version, and which versions each broker knows (KIP-584).

use broker::metadata::METADATA_FEATURE;
use protocol::Str;
use protocol::messages::update_features_request::FeatureUpdateKey;
use protocol::messages::{ApiVersionsRequest, ApiVersionsResponse, UpdateFeaturesRequest};

use super::{Client, ClientError, Endpoint};

/// How the version shall change, by Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpgradeType {
    /// To newer rules.
    Upgrade = 1,
    /// To older rules, if nothing is lost by it.
    SafeDowngrade = 2,
    /// To older rules, whatever is lost by it.
    UnsafeDowngrade = 3,
}

/// What one broker says of metadata versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    /// The first and the last that its build knows; none where it does not say.
    pub(crate) known: Option<(i16, i16)>,
    /// Where the cluster is, as far as the broker knows.
    pub(crate) current: Option<i16>,
}

impl Client {
    /// Asks one broker.
    pub(crate) async fn metadata_versions(&mut self, endpoint: &Endpoint) -> Result<Versions, ClientError> {
        let request = ApiVersionsRequest {
            client_software_name: Str::from_static("firn"),
            client_software_version: Str::from_static(env!("CARGO_PKG_VERSION")),
            ..ApiVersionsRequest::default()
        };
        let answer = self.call_at(endpoint, &request, self.deadline()).await?;
        ClientError::check(answer.error_code, None, || format!("{endpoint} refuses to talk"))?;
        Ok(versions(&answer))
    }

    /// Changes the metadata version of the cluster.
    pub(crate) async fn change_metadata_version(
        &mut self,
        level: i16,
        upgrade_type: UpgradeType,
        validate_only: bool,
    ) -> Result<(), ClientError> {
        let update = FeatureUpdateKey {
            feature: Str::from_static(METADATA_FEATURE),
            max_version_level: level,
            upgrade_type: upgrade_type as i8,
            ..FeatureUpdateKey::default()
        };
        let request =
            UpdateFeaturesRequest { feature_updates: vec![update], validate_only, ..UpdateFeaturesRequest::default() };
        let answer = self.call_any(&request, self.deadline()).await?;
        let doing = || "changing the metadata version".to_owned();
        ClientError::check(answer.error_code, answer.error_message.as_deref(), doing)
    }
}

fn versions(answer: &ApiVersionsResponse) -> Versions {
    let supported = answer.supported_features.iter().find(|feature| feature.name.as_str() == METADATA_FEATURE);
    let finalized = answer.finalized_features.iter().find(|feature| feature.name.as_str() == METADATA_FEATURE);
    Versions {
        known: supported.map(|feature| (feature.min_version, feature.max_version)),
        current: finalized.map(|feature| feature.max_version_level),
    }
}
