//! Reading archived objects without a cluster: for `firn inspect` and for tests.

use bytes::Bytes;
use model::batch::Batches;
use model::{Offset, TimestampMs};

use crate::checksum::crc32c;
use crate::columns::Columns;
use crate::config::Config;
use crate::error::OpenError;
use crate::footer::{Chunk, Footer};
use crate::manifest::{Manifest, Node};
use crate::replay::replay;
use crate::schema::keys;
use crate::store::Store;
use crate::store::open::{open_store, redacted};

/// Largest object that is inspected, in bytes.
const MAX_OBJECT_BYTES: u64 = 4 << 30;

/// What an object turns out to be.
#[derive(Debug)]
pub enum Inspected {
    /// A manifest.
    Manifest(Box<Manifest>),
    /// A child manifest.
    Node(Box<Node>),
    /// A data object.
    Object(Box<ObjectFile>),
}

/// Says what `bytes`, a whole object, is.
///
/// # Errors
/// What is wrong with it, for a person. Never panics on any bytes that a store may hold.
pub fn inspect(bytes: Bytes) -> Result<Inspected, String> {
    if bytes.starts_with(b"PAR1") {
        return ObjectFile::open(bytes).map(|file| Inspected::Object(Box::new(file)));
    }
    if bytes.starts_with(b"firn-manifest-node ") {
        return Node::decode(&bytes).map(|node| Inspected::Node(Box::new(node)));
    }
    Manifest::decode(&bytes).map(|manifest| Inspected::Manifest(Box::new(manifest)))
}

/// Fetches the object `key` from the store at `config.url`.
///
/// # Errors
/// When the store cannot be opened or the object not be read.
pub async fn fetch(config: &Config, key: &str) -> Result<Bytes, OpenError> {
    let store = Store::new(open_store(config).await?.store, config.call_timeout, config.call_retries);
    let unreachable = |call| OpenError::Unreachable { url: redacted(&config.url).to_owned(), call };
    store.get(key, MAX_OBJECT_BYTES).await.map_err(unreachable)
}

/// A data object in memory.
#[derive(Debug)]
pub struct ObjectFile {
    bytes: Bytes,
    footer: Footer,
}

/// One chunk of a data object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of docs/formats/archive.md")]
pub struct ChunkSummary {
    pub row_group: usize,
    pub records: u32,
    pub first_offset: Offset,
    pub last_offset: Offset,
    pub min_timestamp: TimestampMs,
    pub max_timestamp: TimestampMs,
    pub record_bytes: u64,
    pub stored_bytes: u64,
}

impl From<&Chunk> for ChunkSummary {
    fn from(chunk: &Chunk) -> Self {
        ChunkSummary {
            row_group: chunk.facts.row_group,
            records: chunk.facts.rows,
            first_offset: chunk.facts.first_offset,
            last_offset: chunk.facts.last_offset,
            min_timestamp: chunk.facts.min_timestamp,
            max_timestamp: chunk.facts.max_timestamp,
            record_bytes: chunk.facts.record_bytes,
            stored_bytes: chunk.stored_bytes(),
        }
    }
}

impl ObjectFile {
    /// Reads the footer of a whole object.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(bytes: Bytes) -> Result<Self, String> {
        let size = bytes.len() as u64;
        // The whole file serves as the tail; pages may then end anywhere in it.
        let footer = Footer::parse_whole(size, bytes.clone())?;
        Ok(ObjectFile { bytes, footer })
    }

    /// The `firn.*` entries of the footer.
    #[must_use]
    pub fn entries(&self) -> &[(String, String)] {
        &self.footer.entries
    }

    /// The chunks, in order.
    #[must_use]
    pub fn chunks(&self) -> Vec<ChunkSummary> {
        self.footer.chunks.iter().map(ChunkSummary::from).collect()
    }

    /// The records of one chunk, as the batches that a consumer gets: walk them with [`Batches`].
    ///
    /// # Errors
    /// When there is no such chunk, or its bytes are damaged.
    pub fn batches(&self, chunk: usize) -> Result<Bytes, String> {
        let chunk = self.footer.chunks.get(chunk).ok_or("there is no such chunk")?;
        let slice = |range: &std::ops::Range<u64>| {
            let index = |at: u64| usize::try_from(at).ok().filter(|&at| at <= self.bytes.len());
            Some(self.bytes.slice(index(range.start)?..index(range.end)?))
        };
        let pages: Option<Vec<_>> = chunk.pages.iter().map(slice).collect();
        let mut columns = Columns::default();
        columns.decode(&self.footer, chunk, &pages.ok_or("the object is cut off")?)?;
        let replayed = replay(&columns, chunk.facts.record_bytes)?;
        debug_assert!(Batches::new(&replayed.bytes).all(|batch| batch.is_ok()));
        Ok(replayed.bytes)
    }

    /// The producer state that the object carries, in the hot tier's format.
    ///
    /// # Errors
    /// When the entry is missing or the bytes do not match their checksum.
    pub fn producers(&self) -> Result<Bytes, String> {
        let entry = self.footer.entry(keys::PRODUCERS).ok_or("it has no firn.producers entry")?;
        let (offset, length, crc): (u64, u64, u32) = serde_json::from_str(entry).map_err(|e| e.to_string())?;
        let range =
            usize::try_from(offset).ok().zip(offset.checked_add(length).and_then(|end| usize::try_from(end).ok()));
        let (from, to) = range.filter(|(_, to)| *to <= self.bytes.len()).ok_or("its producer state lies outside it")?;
        let bytes = self.bytes.slice(from..to);
        if crc32c(&bytes) == crc { Ok(bytes) } else { Err("its producer state has another checksum".into()) }
    }
}
