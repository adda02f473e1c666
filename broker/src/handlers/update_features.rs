//! UpdateFeatures (KIP-584): raises and lowers the cluster's metadata version.
//!
//! There is one feature, [`METADATA_FEATURE`].

use coordinator::cluster::{Command, VersionChange};
use protocol::ErrorCode;
use protocol::messages::update_features_request::FeatureUpdateKey;
use protocol::messages::update_features_response::UpdatableFeatureResult;
use protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};

use super::RequestContext;
use super::errors::{Refusal, code_and_message};
use crate::metadata::METADATA_FEATURE;

pub(super) async fn handle(context: &RequestContext<'_>, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    if request.feature_updates.is_empty() {
        return UpdateFeaturesResponse::default();
    }
    let wanted = wanted(context.version, &request.feature_updates);
    let outcome = match wanted {
        Ok((version, change)) => {
            let command = Command::SetMetadataVersion { version, change, validate_only: request.validate_only };
            context.broker.metadata.submit(command).await.map(|_done| ()).map_err(Refusal::from)
        }
        Err(refusal) => Err(refusal),
    };
    let (error_code, error_message) = code_and_message(outcome);
    // Before version 2 each feature has its outcome, where all went well.
    let result = |update: FeatureUpdateKey| UpdatableFeatureResult {
        feature: update.feature,
        ..UpdatableFeatureResult::default()
    };
    if context.version < 2 && error_code == ErrorCode::None.code() {
        let results = request.feature_updates.into_iter().map(result).collect();
        return UpdateFeaturesResponse { results, ..UpdateFeaturesResponse::default() };
    }
    UpdateFeaturesResponse { error_code, error_message, ..UpdateFeaturesResponse::default() }
}

/// The wanted metadata version. All updates are done, or none: a request that names another feature is refused.
fn wanted(version: i16, updates: &[FeatureUpdateKey]) -> Result<(u16, VersionChange), Refusal> {
    let invalid = |reason: String| Err(Refusal::new(ErrorCode::InvalidRequest, reason));
    if let Some(other) = updates.iter().find(|update| update.feature.as_str() != METADATA_FEATURE) {
        let reason = format!("there is no feature {:?}: Firn has {METADATA_FEATURE:?} only", other.feature.as_str());
        return Err(Refusal::new(ErrorCode::InvalidUpdateVersion, reason));
    }
    let [update] = updates else {
        return invalid(format!("{} updates of {METADATA_FEATURE:?}: one is needed", updates.len()));
    };
    let change = match (version, update.upgrade_type) {
        (0, _) if update.allow_downgrade => VersionChange::SafeDowngrade,
        (0, _) | (_, 1) => VersionChange::Upgrade,
        (_, 2) => VersionChange::SafeDowngrade,
        (_, 3) => VersionChange::UnsafeDowngrade,
        (_, other) => return invalid(format!("there is no upgrade type {other}")),
    };
    match u16::try_from(update.max_version_level) {
        Ok(level) => Ok((level, change)),
        Err(_) => invalid(format!("there is no metadata version {}", update.max_version_level)),
    }
}
