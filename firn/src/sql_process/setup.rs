//! What the broker passes to the process of SQL when it starts it.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cold_tier::{ColdTier, OpenError};
use serde::{Deserialize, Serialize};

use crate::server::logs::LogFormat;

/// Longest path of a socket that every system takes, in bytes.
const MAX_PATH_BYTES: usize = 100;

/// All that the process must know. It may hold secrets (the URL of the store): it is passed by a pipe alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// Where it answers.
    pub(crate) socket: Socket,
    /// Folder for what does not fit into memory.
    pub(crate) spill_dir: PathBuf,
    /// Memory of all queries that is counted, in bytes.
    pub(crate) memory_bytes: usize,
    /// Memory of the process, in bytes: an allocation beyond it ends the process.
    pub(crate) process_bytes: u64,
    /// Threads of each query.
    pub(crate) threads: usize,
    /// Queries at a time.
    pub(crate) concurrency: usize,
    /// The most that a query may take.
    pub(crate) timeout_ms: u64,
    /// The archive.
    pub(crate) store: Store,
    /// Form of the log.
    pub(crate) log_format: LogFormat,
}

/// How to reach the archive.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Store {
    /// See [`cold_tier::Config::url`].
    pub(crate) url: String,
    /// See [`cold_tier::Config::cluster_id`].
    pub(crate) cluster_id: String,
    /// Time that a call may take.
    pub(crate) timeout_ms: u64,
    /// Memory for manifests and chunks, in bytes.
    pub(crate) cache_bytes: u64,
}

impl Store {
    /// The archive, not asked anything yet.
    pub(crate) async fn connect(&self) -> Result<ColdTier, OpenError> {
        ColdTier::connect(cold_tier::Config {
            url: self.url.clone(),
            cluster_id: self.cluster_id.clone(),
            call_timeout: Duration::from_millis(self.timeout_ms),
            cache_bytes: self.cache_bytes,
            decode_threads: 1,
            archive_threads: 0,
            ..cold_tier::Config::default()
        })
        .await
    }
}

/// A socket in the file system, in a folder that is its own and closed to other users.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Socket {
    folder: PathBuf,
}

impl Socket {
    /// A socket in `folder`, which is made when it is missing.
    pub(crate) fn in_folder(folder: PathBuf) -> io::Result<Self> {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        match std::fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700))?,
        }
        Ok(Socket { folder })
    }

    /// Listens; a socket that an earlier process has left is replaced.
    pub(crate) fn listen(&self) -> io::Result<UnixListener> {
        let short = Short::of(&self.folder)?;
        match std::fs::remove_file(short.path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(short.path())?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> io::Result<tokio::net::UnixStream> {
        let short = Short::of(&self.folder)?;
        tokio::net::UnixStream::connect(short.path()).await
    }
}

/// A path to the socket that is short enough for the system: where the folder's is not, by a descriptor of the folder.
struct Short {
    folder: PathBuf,
    _open: Option<File>,
}

impl Short {
    fn of(folder: &Path) -> io::Result<Self> {
        if folder.as_os_str().len() + NAME.len() < MAX_PATH_BYTES {
            return Ok(Short { folder: folder.to_owned(), _open: None });
        }
        let open = File::open(folder)?;
        Ok(Short { folder: PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd())), _open: Some(open) })
    }

    fn path(&self) -> PathBuf {
        self.folder.join(OsStr::new(NAME))
    }
}

/// Name of the socket in its folder.
const NAME: &str = "socket";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_socket_is_reachable_by_a_path_of_any_length_and_by_its_owner_alone() {
        for depth in [1, 8] {
            let place = tempfile::tempdir().unwrap();
            let folder = place.path().join(vec!["a-folder-with-a-long-name"; depth].join("/"));
            std::fs::create_dir_all(&folder).unwrap();
            let folder = folder.join("sql-process");
            let socket = Socket::in_folder(folder.clone()).unwrap();
            for _ in 0..2 {
                let listener = socket.listen().unwrap();
                let _client = socket.connect().await.unwrap();
                listener.accept().unwrap();
            }
            assert_eq!(std::fs::metadata(folder).unwrap().permissions().mode() & 0o777, 0o700);
        }
    }
}
