//! Opening the archive: a store that this node has used before need not answer now.
//!
//! A new store is probed, and one that does not answer is refused: better at once than when the first segment is due. The file
//! `archive-store` in the data folder then holds its URL, without credentials. A restart that finds it there goes on without
//! an answer: what is on local disks is served during an outage of the store, whoever restarts.

use std::path::Path;
use std::time::Duration;

use cold_tier::{ColdTier, OpenError};
use tracing::warn;

use crate::disk_id::write_line;

const FILE: &str = "archive-store";
/// How long a known store has to answer.
const KNOWN_STORE_WITHIN: Duration = Duration::from_secs(3);

/// Probes the archive, unless this node knows it.
///
/// # Errors
/// [`OpenError`] for a store that breaks a promise, and for a new one that does not answer.
pub(crate) async fn open(cold: ColdTier, data_dir: &Path) -> Result<ColdTier, OpenError> {
    let (path, url) = (data_dir.join(FILE), cold.url());
    if !is_known(&path, &url) {
        cold.welcome().await?;
        note(data_dir, &path, &url);
        return Ok(cold);
    }
    match tokio::time::timeout(KNOWN_STORE_WITHIN, cold.welcome()).await {
        Ok(Ok(())) => {}
        Ok(Err(error @ OpenError::Unfit { .. })) => return Err(error),
        Ok(Err(error)) => going_on(&error.to_string()),
        Err(_) => going_on(&format!("object store {url} does not answer")),
    }
    Ok(cold)
}

fn going_on(reason: &str) {
    warn!(
        reason,
        "the object store is known but fails now: going on, what is only there cannot be read until it is back"
    );
}

fn is_known(path: &Path, url: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|known| known.trim_end() == url)
}

/// A store that could not be noted is probed again at the next start.
fn note(data_dir: &Path, path: &Path, url: &str) {
    if let Err(error) = write_line(data_dir, path, url) {
        warn!(path = %path.display(), %error, "cannot note which object store is in use: the next start needs it to answer");
    }
}
