//! SQL over the topics of the cluster: the engine over this node's view of it, and the route that asks it.

use std::sync::Arc;
use std::time::Duration;

use analytics::sql::{Engine, Limits, SqlError};
use broker::{Extras, View};
use tokio::sync::OnceCell;

mod route;
mod source;

use source::ClusterSource;

/// What does not fit into memory is spilled into this folder of the data folder.
const SPILL_FOLDER: &str = "sql-spill";

/// Adds the route.
pub(super) fn add(extras: &mut Extras) {
    let queries = Queries { view: extras.view.clone(), engine: Arc::default() };
    extras.routes = std::mem::take(&mut extras.routes).merge(route::router(queries));
}

/// The engine, which is made for the first query: a node that is asked nothing has no threads for it.
#[derive(Debug, Clone)]
struct Queries {
    view: View,
    engine: Arc<OnceCell<Running>>,
}

/// The engine, and how long it lets a query take.
#[derive(Debug)]
struct Running {
    engine: Engine,
    timeout: Duration,
}

impl Queries {
    async fn running(&self) -> Result<&Running, SqlError> {
        self.engine.get_or_try_init(|| async { self.start() }).await
    }

    fn start(&self) -> Result<Running, SqlError> {
        let (Some(settings), Some(data_dir)) = (self.view.settings(), self.view.data_dir()) else {
            return Err(SqlError::Ended { message: "the broker is not open yet".into() });
        };
        let limits = Limits {
            memory_bytes: settings.sql_memory_bytes,
            threads: settings.sql_threads,
            concurrency: settings.sql_concurrency,
            timeout: settings.sql_timeout,
            ..Limits::new(data_dir.join(SPILL_FOLDER))
        };
        let timeout = limits.timeout;
        let source = Arc::new(ClusterSource::new(self.view.clone()));
        Ok(Running { engine: Engine::new(source, limits)?, timeout })
    }
}
