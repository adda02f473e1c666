//! Who answers: a broker, by its admin port; or an engine in this process, over a bucket alone.

use std::path::PathBuf;
use std::time::Duration;

use analytics::sql::offline::Offline;
use analytics::sql::output::Format;
use analytics::sql::{Engine, Limits, Parameters, SqlError, Text, Written};
use anyhow::{Context, anyhow};
use bytes::Bytes;
use cold_tier::ColdTier;
use futures::stream::{BoxStream, StreamExt};
use serde_json::{Value, json};

use crate::archive::{CONNECT_TIMEOUT, unreachable};
use crate::client::Endpoint;

/// The broker or the engine that answers.
#[derive(Debug)]
pub(super) enum Asked {
    /// A running broker.
    Broker(Broker),
    /// The archive alone.
    Bucket(Box<Bucket>),
}

impl Asked {
    /// The rows of a query; they begin with the first, not before.
    pub(super) async fn query(&self, query: Text, format: Format) -> anyhow::Result<Rows> {
        match self {
            Asked::Broker(broker) => broker.query(query, format).await,
            Asked::Bucket(bucket) => bucket.query(query, format).await,
        }
    }

    /// The rows of a small answer as JSON objects.
    pub(super) async fn objects(&self, query: &str) -> anyhow::Result<Vec<Value>> {
        let mut rows = self.query(Text::from(query), Format::Json).await?;
        let mut text = Vec::new();
        while let Some(piece) = rows.pieces.next().await {
            text.extend_from_slice(&piece?);
        }
        let values = serde_json::Deserializer::from_slice(&text).into_iter();
        values.collect::<Result<_, _>>().context("the answer is not JSON")
    }
}

/// The rows of a query in some format. Dropping it cancels the query.
pub(super) struct Rows {
    /// What the reader must know of what is not seen.
    pub(super) notice: Option<String>,
    /// The bytes; an error is the last item, without one they are complete.
    pub(super) pieces: BoxStream<'static, anyhow::Result<Bytes>>,
}

/// A broker that is asked.
#[derive(Debug)]
pub(super) struct Broker {
    client: reqwest::Client,
    address: Endpoint,
    timeout: Option<Duration>,
}

impl Broker {
    /// The broker with this admin port.
    pub(super) fn new(address: Endpoint, timeout: Option<Duration>) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .no_proxy()
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Broker { client, address, timeout })
    }

    async fn query(&self, query: Text, format: Format) -> anyhow::Result<Rows> {
        let timeout_ms = self.timeout.map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
        let parameters = match query.parameters {
            Parameters::None => Value::Null,
            Parameters::List(values) => Value::Array(values),
            Parameters::Named(values) => Value::Object(values.into_iter().collect()),
        };
        let views: Vec<_> = query.views.iter().map(|view| json!({ "name": view.name, "query": view.sql })).collect();
        let body = json!({
            "query": query.sql,
            "format": format.to_string(),
            "timeout_ms": timeout_ms,
            "parameters": parameters,
            "views": views,
        });
        let address = &self.address;
        let sent = self.client.post(format!("http://{address}/v1/sql")).json(&body).send().await;
        let response = sent.with_context(|| unreachable(address))?;
        let status = response.status();
        if !status.is_success() {
            let text = response.text().await.unwrap_or_default();
            let answer: Value = serde_json::from_str(&text).unwrap_or_default();
            let reason = answer.get("error").and_then(Value::as_str);
            return Err(match reason {
                Some(reason) => anyhow!("{reason}"),
                None => anyhow!("{address} answered {status}; is it an admin port of firn that offers SQL?"),
            });
        }
        let notice = response.headers().get("firn-notice").and_then(|text| text.to_str().ok()).map(str::to_owned);
        let pieces = response.bytes_stream().map(|piece| {
            piece.map_err(|_| {
                anyhow!("the answer broke off, what was printed is not all of it; the broker's log says why")
            })
        });
        Ok(Rows { notice, pieces: pieces.boxed() })
    }
}

/// An engine over a bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    engine: Engine,
    timeout: Option<Duration>,
    spill_dir: PathBuf,
}

impl Bucket {
    /// The archive at `url`; of that cluster, when there are several.
    pub(super) async fn open(url: String, cluster: Option<String>, timeout: Option<Duration>) -> anyhow::Result<Self> {
        let config = cold_tier::Config { url, ..cold_tier::Config::default() };
        if let Some(cluster) = &cluster {
            known_cluster(&config, cluster).await?;
        }
        let source = Offline::open(config, cluster).await?;
        let spill_dir = std::env::temp_dir().join(format!("firn-sql-{}", std::process::id()));
        let engine = Engine::new(source, Limits::new(spill_dir.clone()))?;
        Ok(Bucket { engine, timeout, spill_dir })
    }

    async fn query(&self, query: Text, format: Format) -> anyhow::Result<Rows> {
        let Written { notice, pieces } = self.engine.query_as(query, self.timeout, format).await?;
        let pieces = pieces.map(|piece| piece.map_err(|error: SqlError| error.into()));
        Ok(Rows { notice, pieces: pieces.boxed() })
    }
}

/// Refuses a cluster of which the store holds nothing. An archive whose marker is lost is one nevertheless.
async fn known_cluster(config: &cold_tier::Config, cluster: &str) -> anyhow::Result<()> {
    let known = cold_tier::survey::clusters(config).await?;
    if known.iter().any(|known| known == cluster) {
        return Ok(());
    }
    let config = cold_tier::Config { cluster_id: cluster.to_owned(), ..config.clone() };
    if ColdTier::open(config).await?.archived_topics().await?.is_empty() {
        let others = if known.is_empty() { "of none".to_owned() } else { format!("of {}", known.join(", ")) };
        anyhow::bail!("the object store holds no archive of the cluster {cluster:?}, but {others}");
    }
    Ok(())
}

impl Drop for Bucket {
    fn drop(&mut self) {
        // Queries have removed their files; the folder of an engine that was given up is a temporary one all the same.
        let _ = std::fs::remove_dir_all(&self.spill_dir);
    }
}
