//! What the process of SQL asks the broker: topics with their entries in the archive's ledger, the broker's address; and what it
//! reports to it.
//!
//! One request at a time: each is a frame, and so is its answer. A frame is its length as a big-endian `u32`, then JSON.

use std::io;
use std::sync::Arc;

use analytics::sql::SourceError;
use model::archive::ManifestPointer;
use model::{Offset, TopicId};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::meters::Changes;

/// Largest frame, in bytes: a topic with a million archived partitions.
const MAX_FRAME_BYTES: usize = 512 << 20;
/// Requests that wait for their turn.
const WAITING: usize = 256;

/// A request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// The process answers queries from now on. Answered by `true`.
    Ready,
    /// The names of all topics: `Option<Vec<String>>`, none while the broker is not open.
    Topics,
    /// A topic by its name: `Option<Option<Topic>>`, none while the broker is not open.
    Topic(String),
    /// Where the broker serves Kafka clients: `Option<(String, u16)>`, none while it is not registered.
    Address,
    /// Changes of metrics. Answered by `true` once they count.
    Metrics(Changes),
}

/// A topic as the broker sees it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) id: TopicId,
    /// In the order of their indexes.
    pub(crate) partitions: Vec<Partition>,
}

/// A partition's entry in the archive's ledger.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Partition {
    pub(crate) log_start: Offset,
    pub(crate) pointer: Option<Arc<ManifestPointer>>,
}

/// Writes a frame.
pub(crate) async fn write<T: Serialize>(to: &mut (impl AsyncWrite + Unpin), value: &T) -> io::Result<()> {
    let json = serde_json::to_vec(value)?;
    let len = u32::try_from(json.len()).map_err(|_| io::Error::other("a frame is too large"))?;
    let mut frame = len.to_be_bytes().to_vec();
    frame.extend_from_slice(&json);
    to.write_all(&frame).await
}

/// Reads the JSON of a frame.
pub(crate) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let len = from.read_u32().await? as usize;
    if len > MAX_FRAME_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too large"));
    }
    // Grows with what comes, not with what was announced.
    let mut json = Vec::new();
    from.take(len as u64).read_to_end(&mut json).await?;
    if json.len() < len { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(json) }
}

type Waiting = (Ask, oneshot::Sender<Vec<u8>>);

/// Asks the broker. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Catalogue(mpsc::Sender<Waiting>);

impl Catalogue {
    /// Asks over `socket`.
    pub(crate) fn over(socket: UnixStream) -> Self {
        let (sender, waiting) = mpsc::channel(WAITING);
        tokio::spawn(exchange(socket, waiting));
        Catalogue(sender)
    }

    /// The answer to a request.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, ask: Ask) -> Result<T, SourceError> {
        let gone = |_| SourceError("the broker does not answer the SQL process".to_owned());
        let (sender, answer) = oneshot::channel();
        self.0.send((ask, sender)).await.map_err(|_| gone(()))?;
        let json = answer.await.map_err(|_| gone(()))?;
        serde_json::from_slice(&json).map_err(SourceError::new)
    }
}

/// Without the broker this ends, and the process soon after.
async fn exchange(mut socket: UnixStream, mut waiting: mpsc::Receiver<Waiting>) {
    while let Some((ask, sender)) = waiting.recv().await {
        let answered = async {
            write(&mut socket, &ask).await?;
            read(&mut socket).await
        };
        match answered.await {
            // Whoever asked may have been cancelled.
            Ok(json) => drop(sender.send(json)),
            Err(error) => {
                tracing::error!(%error, "the broker does not answer");
                return;
            }
        }
    }
}
