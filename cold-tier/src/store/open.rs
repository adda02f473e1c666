//! From a URL to a store.
//!
//! | URL | store |
//! |---|---|
//! | `file:///path`, `/path`, `./path` | a folder, made durable ([`super::durable`]) |
//! | `s3://bucket/prefix` | S3 and everything that speaks it; path style unless `virtual_hosted_style_request=true` |
//! | `gs://bucket/prefix` | Google Cloud Storage |
//! | `az://container/prefix` | Azure Blob Storage |
//! | `memory://` | this process's memory, for tests |
//!
//! Options come from the environment (`AWS_ENDPOINT_URL`, `AWS_REGION`, `GOOGLE_…`, `AZURE_…`), then [`Config::options`],
//! then the URL's query; each wins over the one before. Unknown options are refused. S3 takes its credentials from the
//! SDK's default chain unless `skip_signature=true` or a key is given as an option, and every upload carries a SHA-256
//! that the store verifies.

use std::collections::BTreeMap;
use std::path::{Path as FsPath, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use aws_config::BehaviorVersion;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::credentials::ChainCredentials;
use super::durable::DurableLocal;
use super::{MIN_RATE_BYTES_PER_SECOND, Store};
use crate::config::Config;
use crate::error::OpenError;
use crate::names::NAME_MAX;

/// Bytes of the longest key that S3, Google Cloud Storage and Azure take.
const KEY_MAX: usize = 1024;
/// Bytes of the longest path that file systems take.
const PATH_MAX: usize = 4095;
/// Retries inside `object_store`, per call.
const CLIENT_RETRIES: usize = 3;
const DEFAULT_REGION: &str = "us-east-1";

/// A store, and the credentials that it asks for, where those are ours to renew.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) credentials: Option<Arc<ChainCredentials>>,
    /// See [`crate::ColdTier::access`].
    pub(crate) access: BTreeMap<String, String>,
    /// Where the objects lie when the store is a folder.
    pub(crate) folder: Option<PathBuf>,
}

impl From<Arc<dyn ObjectStore>> for Opened {
    fn from(store: Arc<dyn ObjectStore>) -> Self {
        Opened { store, credentials: None, access: BTreeMap::new(), folder: None }
    }
}

impl From<DurableLocal> for Opened {
    fn from(store: DurableLocal) -> Self {
        let folder = Some(store.root().to_owned());
        Opened { store: Arc::new(store), credentials: None, access: BTreeMap::new(), folder }
    }
}

impl Opened {
    /// The store with deadlines and retries.
    pub(crate) fn into_store(self, config: &Config) -> Store {
        let store = Store::new(self.store, config.call_timeout, config.call_retries).with_credentials(self.credentials);
        if self.folder.is_some() { store.of_folder() } else { store }
    }
}

/// The store that `config` names, with its prefix applied: keys are relative to the URL.
///
/// # Errors
/// [`OpenError::Url`] for an unknown scheme, a bad option or a store that cannot be built.
pub(crate) async fn open_store(config: &Config) -> Result<Opened, OpenError> {
    let refuse = |reason: String| OpenError::Url { url: redacted(&config.url), reason };
    let Some(url) = parse_url(&config.url) else {
        return folder(FsPath::new(&config.url)).map_err(refuse);
    };
    let mut options = config.options.clone();
    options.extend(url.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())));
    let built = match url.scheme() {
        "file" => {
            let path = file_path(&url).ok_or_else(|| refuse("it is not a local path".into()))?;
            return folder(&path).map_err(refuse);
        }
        _ if url.path().len() + NAME_MAX > KEY_MAX => {
            let longest = KEY_MAX - NAME_MAX;
            return Err(refuse(format!("its path is longer than {longest} bytes: names in it would not fit")));
        }
        "memory" => Ok(Arc::new(InMemory::new()) as Arc<dyn ObjectStore>),
        "s3" | "s3a" => return s3(&url, &options, config).await.map_err(refuse),
        "gs" => gcs(&url, &options, config),
        "az" | "azure" | "abfs" | "abfss" => azure(&url, &options, config),
        other => Err(format!("unknown scheme {other:?}: file, s3, gs, az and memory are known")),
    };
    built.map(Opened::from).map_err(refuse)
}

/// The folder of a store that is one.
pub(crate) fn local_root(url: &str) -> Option<PathBuf> {
    match parse_url(url) {
        None => Some(PathBuf::from(url)),
        Some(url) => file_path(&url).filter(|_| url.scheme() == "file"),
    }
}

/// `None` for a bare path.
fn parse_url(text: &str) -> Option<Url> {
    if text.contains("://") { Url::parse(text).ok() } else { None }
}

/// The URL without its query, which may hold keys.
pub(crate) fn redacted(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_owned()
}

fn file_path(url: &Url) -> Option<PathBuf> {
    url.to_file_path().ok()
}

fn folder(path: &FsPath) -> Result<Opened, String> {
    let opened = DurableLocal::new(path).map_err(|e| e.to_string())?;
    if opened.root().as_os_str().len() + NAME_MAX > PATH_MAX {
        return Err(format!("its path is longer than {} bytes: names in it would not fit", PATH_MAX - NAME_MAX));
    }
    // Tables name the folder as it was given, not as links lead to it.
    Ok(Opened { folder: Some(path.to_owned()), ..Opened::from(opened) })
}

fn client_options(config: &Config, allow_http: bool) -> ClientOptions {
    let longest = Duration::from_secs(config.upload_part_bytes / MIN_RATE_BYTES_PER_SECOND);
    ClientOptions::new()
        .with_timeout(config.call_timeout + longest)
        .with_connect_timeout(config.call_timeout.min(Duration::from_secs(5)))
        .with_allow_http(allow_http)
}

fn retry(config: &Config) -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: CLIENT_RETRIES, retry_timeout: config.call_timeout }
}

/// Applies `options` one by one; an unknown name is an error.
fn apply<B, K: FromStr>(
    builder: B,
    options: &BTreeMap<String, String>,
    set: impl Fn(B, K, &str) -> B,
) -> Result<B, String> {
    options.iter().try_fold(builder, |builder, (name, value)| match K::from_str(&name.to_ascii_lowercase()) {
        Ok(key) => Ok(set(builder, key, value)),
        Err(_) => Err(format!("unknown option {name:?}")),
    })
}

fn prefixed(store: impl ObjectStore, url: &Url) -> Arc<dyn ObjectStore> {
    let prefix = url.path().trim_matches('/');
    if prefix.is_empty() { Arc::new(store) } else { Arc::new(PrefixStore::new(store, prefix)) }
}

fn bucket(url: &Url) -> Result<&str, String> {
    url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| "it names no bucket".into())
}

async fn s3(url: &Url, options: &BTreeMap<String, String>, config: &Config) -> Result<Opened, String> {
    let mut options = options.clone();
    // `path_style` is what most people call it.
    if let Some(path_style) = options.remove("path_style") {
        let hosted = path_style.eq_ignore_ascii_case("false").to_string();
        options.insert("virtual_hosted_style_request".into(), hosted);
    }
    let builder = AmazonS3Builder::from_env().with_bucket_name(bucket(url)?);
    let mut builder = apply(builder, &options, |b, key: AmazonS3ConfigKey, value| b.with_config(key, value))?;
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    let plain_http = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let has = |key| AmazonS3ConfigKey::from_str(key).ok().and_then(|key| builder.get_config_value(&key)).is_some();
    let anonymous = builder.get_config_value(&AmazonS3ConfigKey::SkipSignature).is_some_and(|v| v == "true");
    let explicit_key = options.keys().any(|name| name.to_ascii_lowercase().ends_with("access_key_id"));
    let has_region = has("aws_region");
    let mut credentials = None;
    if !anonymous && !explicit_key {
        let chain = aws_config::defaults(BehaviorVersion::latest()).load().await;
        if let (false, Some(region)) = (has_region, chain.region()) {
            builder = builder.with_region(region.as_ref());
        } else if !has_region {
            builder = builder.with_region(DEFAULT_REGION);
        }
        let provider = Arc::new(ChainCredentials::new(&chain).ok_or("the AWS SDK offers no credential chain")?);
        credentials = Some(Arc::clone(&provider));
        builder = builder.with_credentials(provider);
    } else if !has_region {
        builder = builder.with_region(DEFAULT_REGION);
    }
    let access = s3_access(&builder);
    let store = builder
        .with_checksum_algorithm(Checksum::SHA256)
        .with_client_options(client_options(config, plain_http))
        .with_retry(retry(config))
        .build()
        .map_err(|e| e.to_string())?;
    Ok(Opened { store: prefixed(store, url), credentials, access, folder: None })
}

/// What others need to reach the same bucket, by the names that Iceberg's clients know.
fn s3_access(builder: &AmazonS3Builder) -> BTreeMap<String, String> {
    let mut access = BTreeMap::new();
    let named = [(AmazonS3ConfigKey::Endpoint, "s3.endpoint"), (AmazonS3ConfigKey::Region, "s3.region")];
    for (key, name) in named {
        if let Some(value) = builder.get_config_value(&key) {
            access.insert(name.to_owned(), value);
        }
    }
    let hosted = builder.get_config_value(&AmazonS3ConfigKey::VirtualHostedStyleRequest);
    let is_hosted = hosted.is_some_and(|hosted| hosted.eq_ignore_ascii_case("true"));
    access.insert("s3.path-style-access".to_owned(), (!is_hosted).to_string());
    access
}

fn gcs(url: &Url, options: &BTreeMap<String, String>, config: &Config) -> Result<Arc<dyn ObjectStore>, String> {
    let builder = GoogleCloudStorageBuilder::from_env().with_bucket_name(bucket(url)?);
    let store = apply(builder, options, |b, key: GoogleConfigKey, value| b.with_config(key, value))?
        .with_client_options(client_options(config, false))
        .with_retry(retry(config))
        .build()
        .map_err(|e| e.to_string())?;
    Ok(prefixed(store, url))
}

fn azure(url: &Url, options: &BTreeMap<String, String>, config: &Config) -> Result<Arc<dyn ObjectStore>, String> {
    let builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket(url)?);
    let emulated = options.get("use_emulator").is_some_and(|v| v == "true");
    let store = apply(builder, options, |b, key: AzureConfigKey, value| b.with_config(key, value))?
        .with_client_options(client_options(config, emulated))
        .with_retry(retry(config))
        .build()
        .map_err(|e| e.to_string())?;
    Ok(prefixed(store, url))
}
