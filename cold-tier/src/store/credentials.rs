//! AWS credentials by the SDK's default chain: environment, profile, SSO, web identity, container and instance role.
//!
//! An answer of the chain is kept until shortly before it expires. When the store refuses it all the same, or when it never
//! expires, as those of a file do, the chain is rebuilt, because it remembers the files that it has read: keys that
//! an operator renews are found without a restart.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use object_store::CredentialProvider;
use object_store::aws::AwsCredential;
use tokio::sync::Mutex;

/// Credentials are renewed this long before they expire, or when half of a shorter life is over.
const RENEW_BEFORE: Duration = Duration::from_secs(5 * 60);
/// Credentials that were refused are looked for again at most once in this time.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);
/// Longest text of the chain that is passed on, in characters.
const MAX_CHARS: usize = 120;

/// The SDK's chain behind `object_store`'s trait. A chain that asks a metadata service does so once in a while and not per
/// request.
#[derive(Debug)]
pub(crate) struct ChainCredentials {
    region: Option<Region>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    chain: SharedCredentialsProvider,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    credential: Arc<AwsCredential>,
    expiry: Option<SystemTime>,
    renew_at: Option<SystemTime>,
    since: Instant,
}

impl Held {
    fn is_fresh(&self) -> bool {
        self.renew_at.is_none_or(|at| SystemTime::now() < at)
    }

    fn is_valid(&self) -> bool {
        self.expiry.is_none_or(|at| SystemTime::now() < at)
    }
}

impl ChainCredentials {
    /// `None` when the SDK offers no chain.
    pub(crate) fn new(loaded: &SdkConfig) -> Option<Self> {
        let chain = loaded.credentials_provider()?;
        Some(ChainCredentials { region: loaded.region().cloned(), state: Mutex::new(State { chain, held: None }) })
    }

    /// The store did not accept what it was shown: the next request asks a new chain.
    pub(crate) async fn refused(&self) {
        let mut state = self.state.lock().await;
        if state.held.as_ref().is_some_and(|held| held.since.elapsed() < RENEWAL_PAUSE) {
            return;
        }
        let loaded = aws_config::defaults(BehaviorVersion::latest()).region(self.region.clone()).load().await;
        if let Some(chain) = loaded.credentials_provider() {
            *state = State { chain, held: None };
        }
    }
}

#[async_trait]
impl CredentialProvider for ChainCredentials {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        // An async lock: a call that comes while the chain is being asked waits for the same answer.
        let mut state = self.state.lock().await;
        if let Some(held) = state.held.as_ref().filter(|held| held.is_fresh()) {
            return Ok(Arc::clone(&held.credential));
        }
        let found = match state.chain.provide_credentials().await {
            Ok(found) => found,
            Err(error) => {
                if let Some(held) = state.held.as_ref().filter(|held| held.is_valid()) {
                    tracing::warn!(
                        error = chain_text(&error),
                        "AWS credentials cannot be renewed yet, the present ones serve on"
                    );
                    return Ok(Arc::clone(&held.credential));
                }
                tracing::debug!(error = chain_text(&error), "no link of the AWS credential chain has credentials");
                return Err(object_store::Error::Unauthenticated {
                    path: "the request".to_owned(),
                    source: format!("no AWS credentials: {}", first_words(&error)).into(),
                });
            }
        };
        let credential = Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        });
        let renew_at = found.expiry().map(renewal);
        let since = Instant::now();
        state.held = Some(Held { credential: Arc::clone(&credential), expiry: found.expiry(), renew_at, since });
        Ok(credential)
    }
}

/// When credentials that expire at `expiry` are asked for again.
fn renewal(expiry: SystemTime) -> SystemTime {
    let life = expiry.duration_since(SystemTime::now()).unwrap_or_default();
    expiry - RENEW_BEFORE.min(life / 2)
}

/// What the chain says for itself; what its links say is as long as they are many.
fn first_words(error: &dyn std::error::Error) -> String {
    let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    cause.chars().take(MAX_CHARS).collect()
}

fn chain_text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
