//! What a node stands on: its disk, its object store, its sockets, and threads for what blocks. A simulation puts others in
//! their place (feature `simulation`); nothing outside of this room knows.

pub(crate) mod blocking;
pub(crate) mod runtimes;
pub(crate) mod sockets;

#[cfg(feature = "simulation")]
pub mod simulated;

#[cfg(not(feature = "simulation"))]
mod system {
    use cold_tier::ColdTier;
    use hot_tier::{FlushListener, HotTier};
    use model::TimestampMs;
    use redb::StorageBackend;
    use redb::backends::FileBackend;

    use crate::config::Config;
    use crate::machine::blocking;

    /// Opens the local log.
    pub(crate) async fn open_hot(
        _: &Config,
        hot: hot_tier::Config,
        now: TimestampMs,
        on_flush: FlushListener,
    ) -> Result<HotTier, hot_tier::OpenError> {
        blocking::run(move || HotTier::open(hot, now, on_flush)).await
    }

    /// The archive, not asked anything yet.
    pub(crate) async fn connect_cold(_: &Config, cold: cold_tier::Config) -> Result<ColdTier, cold_tier::OpenError> {
        ColdTier::connect(cold).await
    }

    /// What the metadata's file is kept in.
    pub(crate) fn raft_file(file: FileBackend, _: &std::path::Path) -> impl StorageBackend {
        file
    }
}

#[cfg(feature = "simulation")]
pub(crate) use simulated::{connect_cold, open_hot, raft_file};
#[cfg(not(feature = "simulation"))]
pub(crate) use system::{connect_cold, open_hot, raft_file};
