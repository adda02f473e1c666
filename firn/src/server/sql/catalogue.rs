//! Answers the process of SQL: topics, the ledger's entries, the broker's address. Nothing can be changed from there but metrics.

use std::io;

use broker::View;
use model::archive::TopicArchive;
use tokio::net::UnixStream;
use tokio::sync::oneshot;

use crate::sql_process::catalogue::{Ask, Partition, Topic, read, write};

/// Answers until the process ends. `ready` is told when the process takes queries.
pub(super) async fn answer(mut socket: UnixStream, view: View, ready: oneshot::Sender<()>) -> io::Result<()> {
    let mut ready = Some(ready);
    loop {
        let ask: Ask = serde_json::from_slice(&read(&mut socket).await?)?;
        match ask {
            Ask::Ready => {
                // Without anybody who waits, the start was given up.
                ready.take().map(|ready| ready.send(()));
                write(&mut socket, &true).await?;
            }
            Ask::Topics => write(&mut socket, &view.topic_names()).await?,
            Ask::Topic(name) => write(&mut socket, &view.topic(&name).map(|found| found.map(topic))).await?,
            Ask::Address => {
                let address = view.advertised().map(|address| (address.host, address.port));
                write(&mut socket, &address).await?;
            }
            Ask::Metrics(changes) => {
                changes.count();
                write(&mut socket, &true).await?;
            }
        }
    }
}

fn topic(archive: TopicArchive) -> Topic {
    let partition =
        |one: model::archive::PartitionArchive| Partition { log_start: one.log_start, pointer: one.pointer };
    Topic {
        name: archive.name.to_string(),
        id: archive.id,
        partitions: archive.partitions.into_iter().map(partition).collect(),
    }
}
