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

use aws_config::{BehaviorVersion, Region, SdkConfig};
use model::settings::nearest;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};
use url::Url;

use super::credentials::ChainCredentials;
use super::durable::DurableLocal;
use super::{MIN_RATE_BYTES_PER_SECOND, Store, words};
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
/// Schemes of stores.
const SCHEMES: [&str; 8] = ["file", "s3", "s3a", "gs", "az", "azure", "abfs", "abfss"];
/// Options that people give, for the suggestion where one is not known.
const OPTION_NAMES: [&str; 15] = [
    "endpoint",
    "region",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "path_style",
    "skip_signature",
    "allow_http",
    "allow_invalid_certificates",
    "proxy_url",
    "service_account",
    "base_url",
    "account_name",
    "account_key",
    "use_emulator",
];

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
/// [`OpenError::Url`] for an unknown scheme, a bad option or a store that cannot be built, [`OpenError::Folder`] for a folder
/// that cannot be used.
pub(crate) async fn open_store(config: &Config) -> Result<Opened, OpenError> {
    let refuse = |reason: String| OpenError::Url { url: redacted(&config.url).to_owned(), reason };
    if config.url.trim().is_empty() {
        return Err(refuse("it is empty: write a path, or file://, s3://, gs:// or az://".into()));
    }
    let Some(url) = parse_url(&config.url).map_err(refuse)? else {
        return folder(FsPath::new(&config.url), &config.url);
    };
    let mut options = config.options.clone();
    options.extend(url.query_pairs().map(|(k, v)| (k.into_owned(), v.into_owned())));
    let built = match url.scheme() {
        "file" => {
            let path = file_path(&url).ok_or_else(|| refuse("it is not a local path".into()))?;
            return match options.keys().next() {
                Some(name) => Err(refuse(format!("the option {name:?} is not known: a folder has no options"))),
                None => folder(&path, redacted(&config.url)),
            };
        }
        _ if url.path().len() + NAME_MAX > KEY_MAX => {
            let longest = KEY_MAX - NAME_MAX;
            return Err(refuse(format!("its path is longer than {longest} bytes: names in it would not fit")));
        }
        "memory" => Ok(Arc::new(InMemory::new()) as Arc<dyn ObjectStore>),
        "s3" | "s3a" => return s3(&url, &options, config).await.map_err(refuse),
        "gs" => gcs(&url, &options, config),
        "az" | "azure" | "abfs" | "abfss" => azure(&url, &options, config),
        "http" | "https" => {
            let endpoint = url.origin().ascii_serialization();
            Err(format!("it is an endpoint; write the bucket first: s3://BUCKET/PREFIX?endpoint={endpoint}"))
        }
        other => Err(format!("the scheme {other:?} is not known: write a path, or file://, s3://, gs:// or az://")),
    };
    built.map(Opened::from).map_err(refuse)
}

/// The folder of a store that is one.
pub(crate) fn local_root(url: &str) -> Option<PathBuf> {
    match parse_url(url) {
        Ok(None) => Some(PathBuf::from(url)),
        Ok(Some(url)) => file_path(&url).filter(|_| url.scheme() == "file"),
        Err(_) => None,
    }
}

/// `None` for a bare path.
fn parse_url(text: &str) -> Result<Option<Url>, String> {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme);
    match scheme.filter(|scheme| SCHEMES.contains(scheme)) {
        Some(scheme) if !text.contains("://") => Err(format!("{scheme}: is followed by two slashes in a URL")),
        _ if text.contains("://") => Url::parse(text).map(Some).map_err(|e| format!("it is not a URL: {e}")),
        _ => Ok(None),
    }
}

/// The reason why a store cannot be used, without the library's name for it.
fn unusable(error: &object_store::Error) -> String {
    let words = words::of(error).short;
    words::of_folder(&words).map_or_else(|| words.clone(), |advice| format!("{advice}: {words}"))
}

/// The URL without its query, which may hold keys.
#[must_use]
pub fn redacted(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

fn file_path(url: &Url) -> Option<PathBuf> {
    url.to_file_path().ok()
}

fn folder(path: &FsPath, url: &str) -> Result<Opened, OpenError> {
    let opened = DurableLocal::new(path).map_err(|error| {
        let reason = unusable(&error);
        OpenError::Folder { url: url.to_owned(), reason }
    })?;
    if opened.root().as_os_str().len() + NAME_MAX > PATH_MAX {
        let reason = format!("its path is longer than {} bytes: names in it would not fit", PATH_MAX - NAME_MAX);
        return Err(OpenError::Url { url: url.to_owned(), reason });
    }
    // Tables name the folder as it was given, not as links lead to it.
    Ok(Opened { folder: Some(path.to_owned()), ..Opened::from(opened) })
}

fn client_options(config: &Config) -> ClientOptions {
    let longest = Duration::from_secs(config.upload_part_bytes / MIN_RATE_BYTES_PER_SECOND);
    ClientOptions::new()
        .with_timeout(config.call_timeout + longest)
        .with_connect_timeout(config.call_timeout.min(Duration::from_secs(5)))
}

fn retry(config: &Config) -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: CLIENT_RETRIES, retry_timeout: config.call_timeout }
}

/// An endpoint as the libraries need it: they take it for a part of each request's URL.
fn check_endpoint(endpoint: &str) -> Result<(), String> {
    let url = Url::parse(endpoint).ok().filter(|url| url.has_host() && matches!(url.scheme(), "http" | "https"));
    match url {
        Some(_) => Ok(()),
        None if endpoint.contains("://") => {
            Err(format!("the endpoint {endpoint:?} is not a URL such as https://host:9000"))
        }
        None => Err(format!("the endpoint {endpoint:?} has no scheme: write http://{endpoint} or https://{endpoint}")),
    }
}

fn is_plain_http(endpoint: Option<&str>) -> bool {
    endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"))
}

/// Client options of the environment that ours do not replace.
const CLIENT_KEYS: [ClientConfigKey; 6] = [
    ClientConfigKey::AllowHttp,
    ClientConfigKey::AllowInvalidCertificates,
    ClientConfigKey::ProxyUrl,
    ClientConfigKey::ProxyCaCertificate,
    ClientConfigKey::ProxyExcludes,
    ClientConfigKey::UserAgent,
];

/// Our client options with those that the environment gave, by `value_of`.
fn with_environment(ours: ClientOptions, value_of: impl Fn(ClientConfigKey) -> Option<String>) -> ClientOptions {
    CLIENT_KEYS.into_iter().fold(ours, |options, key| match value_of(key) {
        Some(value) if value != "false" => options.with_config(key, value),
        _ => options,
    })
}

/// Applies `options` one by one; an unknown name is an error.
fn apply<B, K: FromStr>(
    builder: B,
    options: &BTreeMap<String, String>,
    set: impl Fn(B, K, &str) -> B,
) -> Result<B, String> {
    options.iter().try_fold(builder, |builder, (name, value)| match K::from_str(&name.to_ascii_lowercase()) {
        Ok(key) => Ok(set(builder, key, value)),
        Err(_) => Err(match nearest(&name.to_ascii_lowercase(), OPTION_NAMES.into_iter()) {
            Some(known) => format!("the option {name:?} is not known: did you mean {known:?}?"),
            None => format!("the option {name:?} is not known"),
        }),
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
    let of_environment = |key| builder.get_config_value(&AmazonS3ConfigKey::Client(key));
    let client = with_environment(client_options(config), of_environment);
    let builder = builder.with_client_options(client);
    let mut builder = apply(builder, &options, |b, key: AmazonS3ConfigKey, value| b.with_config(key, value))?;
    let endpoint = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint]
        .iter()
        .find_map(|key| builder.get_config_value(key));
    endpoint.as_deref().map_or(Ok(()), check_endpoint)?;
    if is_plain_http(endpoint.as_deref()) {
        builder = builder.with_allow_http(true);
    }
    let has = |key| AmazonS3ConfigKey::from_str(key).ok().and_then(|key| builder.get_config_value(&key)).is_some();
    let anonymous = builder.get_config_value(&AmazonS3ConfigKey::SkipSignature).is_some_and(|v| v == "true");
    let explicit_key = options.keys().any(|name| name.to_ascii_lowercase().ends_with("access_key_id"));
    if explicit_key && !has("secret_access_key") {
        return Err("the access key comes without its secret: give secret_access_key, too".into());
    }
    let has_region = has("aws_region");
    let mut credentials = None;
    if !anonymous && !explicit_key {
        let chain = credential_chain(&builder, has_region || endpoint.is_some()).await;
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
        .with_retry(retry(config))
        .build()
        .map_err(|e| incomplete(&e))?;
    Ok(Opened { store: prefixed(store, url), credentials, access, folder: None })
}

/// The SDK's chain. It asks the instance metadata service for a region only where nothing else says which.
async fn credential_chain(builder: &AmazonS3Builder, region_is_known: bool) -> SdkConfig {
    let loader = aws_config::defaults(BehaviorVersion::latest());
    if !region_is_known {
        return loader.load().await;
    }
    let region = builder.get_config_value(&AmazonS3ConfigKey::Region).unwrap_or_else(|| DEFAULT_REGION.to_owned());
    loader.region(Region::new(region)).load().await
}

/// What a store lacks to be built.
fn incomplete(error: &object_store::Error) -> String {
    let words = words::of(error).short;
    let missing = [
        ("Missing AccessKeyId", "the secret comes without its access key: give access_key_id, too"),
        ("Account must be specified", "the account is missing: set AZURE_STORAGE_ACCOUNT_NAME"),
    ];
    let advice = missing.iter().find(|(text, _)| words.contains(text)).map(|(_, advice)| (*advice).to_owned());
    advice.unwrap_or(words)
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
    let of_environment = |key| builder.get_config_value(&GoogleConfigKey::Client(key));
    let client = with_environment(client_options(config), of_environment);
    let builder = builder.with_client_options(client);
    let mut builder = apply(builder, options, |b, key: GoogleConfigKey, value| b.with_config(key, value))?;
    let endpoint = builder.get_config_value(&GoogleConfigKey::BaseUrl).or_else(|| base_url_of_account(&builder));
    endpoint.as_deref().map_or(Ok(()), check_endpoint)?;
    if is_plain_http(endpoint.as_deref()) {
        builder = builder.with_config(GoogleConfigKey::Client(ClientConfigKey::AllowHttp), "true");
    }
    let store = builder.with_retry(retry(config)).build().map_err(|e| incomplete(&e))?;
    Ok(prefixed(store, url))
}

/// The endpoint that a service account names, as those of emulators do.
fn base_url_of_account(builder: &GoogleCloudStorageBuilder) -> Option<String> {
    let key = builder.get_config_value(&GoogleConfigKey::ServiceAccountKey);
    let path = builder.get_config_value(&GoogleConfigKey::ServiceAccount);
    let account = key.or_else(|| std::fs::read_to_string(path?).ok())?;
    let account: serde_json::Value = serde_json::from_str(&account).ok()?;
    account.get("gcs_base_url")?.as_str().map(str::to_owned)
}

fn azure(url: &Url, options: &BTreeMap<String, String>, config: &Config) -> Result<Arc<dyn ObjectStore>, String> {
    let builder = MicrosoftAzureBuilder::from_env().with_container_name(bucket(url)?);
    let of_environment = |key| builder.get_config_value(&AzureConfigKey::Client(key));
    let client = with_environment(client_options(config), of_environment);
    let builder = builder.with_client_options(client);
    let mut builder = apply(builder, options, |b, key: AzureConfigKey, value| b.with_config(key, value))?;
    let endpoint = builder.get_config_value(&AzureConfigKey::Endpoint);
    endpoint.as_deref().map_or(Ok(()), check_endpoint)?;
    let is_emulated = builder.get_config_value(&AzureConfigKey::UseEmulator).is_some_and(|value| value == "true");
    if is_emulated || is_plain_http(endpoint.as_deref()) {
        builder = builder.with_allow_http(true);
    }
    let store = builder.with_retry(retry(config)).build().map_err(|e| incomplete(&e))?;
    Ok(prefixed(store, url))
}
