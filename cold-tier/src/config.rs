//! The archive's settings, each with its unit and its default.

use std::collections::BTreeMap;
use std::time::Duration;

/// How the archive reaches its store, and what it may use of memory, threads and time.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the objects lie: `file:///path`, a bare path, `s3://bucket/prefix`, `gs://bucket/prefix`,
    /// `az://container/prefix` or `memory://`. Query parameters are options of the store, for example
    /// `s3://bucket/firn?endpoint=http://127.0.0.1:9000&region=us-east-1`.
    pub url: String,
    /// Options of the store by name (`endpoint`, `region`, `virtual_hosted_style_request`, …); a query parameter of the
    /// same name wins, the environment loses.
    pub options: BTreeMap<String, String>,
    /// Identity of the cluster: the first folder of every object name. 1 to 64 of `[A-Za-z0-9_-]`.
    pub cluster_id: String,
    /// The one memory budget of cold reads, in bytes: five eighths for decoded chunks, a quarter for chunks that are being
    /// fetched or decoded, an eighth for footers and manifests.
    pub cache_bytes: u64,
    /// Largest read-ahead of one sequential reader, in bytes of record batches; 0 turns read-ahead off.
    pub read_ahead_max_bytes: u64,
    /// Threads that turn Parquet chunks into record batches. With none, whoever asks does it.
    pub decode_threads: usize,
    /// Threads that turn segments into Parquet objects: as many segments are archived at a time. With none, whoever asks
    /// does it.
    pub archive_threads: usize,
    /// Time that one call to the store may take before its bytes are counted; every 2 MiB add a second.
    pub call_timeout: Duration,
    /// How often a call that failed is tried again.
    pub call_retries: u32,
    /// Objects up to this size, in bytes, are held in memory and uploaded by one conditional PUT; larger ones in parts
    /// of this size. One PUT per default segment keeps the requests below 20 per GiB.
    pub upload_part_bytes: u64,
    /// Age below which an object that no manifest names is left alone by the sweep.
    pub sweep_grace: Duration,
    /// Record bytes that make one chunk: the unit of cold reads.
    pub chunk_bytes: usize,
    /// Record bytes that make one Parquet row group.
    pub row_group_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            url: "memory://".into(),
            options: BTreeMap::new(),
            cluster_id: "firn".into(),
            cache_bytes: 256 << 20,
            read_ahead_max_bytes: 32 << 20,
            decode_threads: 2,
            archive_threads: 1,
            call_timeout: Duration::from_secs(30),
            call_retries: 2,
            upload_part_bytes: 144 << 20,
            sweep_grace: Duration::from_secs(60 * 60),
            chunk_bytes: 1 << 20,
            row_group_bytes: 16 << 20,
        }
    }
}

/// Smallest multipart part that every store takes, in bytes.
pub(crate) const MIN_PART_BYTES: u64 = 5 << 20;

impl Config {
    /// Bytes for decoded chunks.
    pub(crate) fn chunk_cache_bytes(&self) -> u64 {
        self.cache_bytes / 8 * 5
    }

    /// Bytes for chunks in the making.
    pub(crate) fn in_flight_bytes(&self) -> u64 {
        self.cache_bytes / 4
    }

    /// Bytes for footers and for manifests, each.
    pub(crate) fn metadata_cache_bytes(&self) -> u64 {
        self.cache_bytes / 16
    }
}
