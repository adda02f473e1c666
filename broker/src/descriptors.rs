//! The limit of open files: raised as far as the system allows, and the local log's share of it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::admin::connections::MAX_CONNECTIONS;

/// What a person can do when there are too few.
pub(crate) const ADVICE: &str = "raise the limit of open files (LimitNOFILE= of the service, ulimit -n)";

/// Files besides connections and the local log's: the metadata, the journal, calls to the object store.
const OTHERS: u64 = 256;

/// Raises the soft limit of open files to the hard one, and says so when `connections` may need more.
pub(crate) fn raise_limit(connections: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
            Ok(()) => info!(before = told(current), limit = told(maximum), "raised the limit of open files"),
            Err(error) => warn!(limit = told(current), %error, "cannot raise the limit of open files"),
        }
    }
    let limit = getrlimit(Resource::Nofile).current;
    let needed = (connections + MAX_CONNECTIONS) as u64 + log_files_of(limit) as u64 + OTHERS;
    if limit.is_some_and(|limit| limit < needed) {
        info!(
            limit = told(limit),
            needed,
            "with as many connections as max.connections allows, files would run short: {ADVICE}, or lower max.connections"
        );
    }
}

/// How many files the local log keeps open.
pub(crate) fn log_files_max() -> usize {
    log_files_of(getrlimit(Resource::Nofile).current)
}

/// A quarter of the limit, for connections need descriptors too.
fn log_files_of(limit: Option<u64>) -> usize {
    let most = hot_tier::Config::default().max_open_files;
    limit.map_or(most, |limit| usize::try_from(limit / 4).unwrap_or(usize::MAX).clamp(8, most))
}

fn told(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_leaves_most_descriptors_to_connections() {
        assert_eq!(log_files_of(None), 4096);
        assert_eq!(log_files_of(Some(1 << 20)), 4096);
        assert_eq!(log_files_of(Some(1024)), 256);
        assert_eq!(log_files_of(Some(16)), 8);
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise_limit(1);
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        assert_eq!(current, maximum);
    }
}
