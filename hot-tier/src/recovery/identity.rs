//! The identity file of a partition's folder, for people and for when everything else is lost.
//!
//! Four lines of text: `firn partition 1`, `topic <name>`, `id <topic id>`, `partition <number>`.

use std::path::Path;

use model::{TopicName, TopicPartition};

use crate::disk::{Disk, Durability, read_file, replace_file};
use crate::error::StorageError;
use crate::layout::{self, IDENTITY};

const FIRST_LINE: &str = "firn partition 1";
const BYTES_MAX: u64 = 4096;

/// Writes the file. Not synced: checkpoint and journal know the same.
///
/// # Errors
/// Those of the disk.
pub(crate) fn write_identity(
    disk: &dyn Disk,
    dir: &Path,
    id: TopicPartition,
    topic: &TopicName,
) -> Result<(), StorageError> {
    let path = dir.join(IDENTITY);
    let text = format!("{FIRST_LINE}\ntopic {topic}\nid {}\npartition {}\n", id.topic_id, id.partition);
    replace_file(disk, &path, text.as_bytes(), Durability::Rebuildable).map_err(|e| StorageError::io("write", &path, e))
}

/// The topic's name: from the file when it is this partition's, else from the folder's name unless that may be cut.
pub(super) fn read(disk: &dyn Disk, dir: &Path, id: TopicPartition) -> Option<TopicName> {
    let path = dir.join(IDENTITY);
    let bytes = read_file(disk, &path, BYTES_MAX).ok();
    let stored = bytes.as_deref().and_then(|bytes| parse(bytes, id));
    if bytes.is_some() && stored.is_none() {
        tracing::error!(file = %path.display(), "the identity of a partition is damaged: its folder's name counts");
    }
    stored.or_else(|| {
        let (name, _) = layout::parse_partition_dir(dir.file_name()?.to_str()?)?;
        if layout::may_be_cut(name) { None } else { TopicName::new(name).ok() }
    })
}

fn parse(bytes: &[u8], id: TopicPartition) -> Option<TopicName> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    if lines.next()? != FIRST_LINE {
        return None;
    }
    let topic = TopicName::new(lines.next()?.strip_prefix("topic ")?).ok()?;
    let topic_id = lines.next()?.strip_prefix("id ")?.parse().ok()?;
    let partition = lines.next()?.strip_prefix("partition ")?.parse().ok()?;
    (TopicPartition { topic_id, partition } == id).then_some(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_only_taken_by_its_partition() {
        let id = TopicPartition { topic_id: "ASNFZ4mrze8BI0VniavN7w".parse().unwrap(), partition: 3 };
        let text = b"firn partition 1\ntopic orders\nid ASNFZ4mrze8BI0VniavN7w\npartition 3\n";
        assert_eq!(parse(text, id).as_deref(), Some("orders"));
        assert_eq!(parse(text, TopicPartition { partition: 4, ..id }), None);
        for cut in 0..text.len() - 2 {
            assert!(parse(&text[..cut], id).is_none(), "cut at {cut}");
        }
    }
}
