//! Where everything lies in the data folder.
//!
//! ```text
//! lock                                       held (flock) while a process has the folder
//! checkpoint                                 what is known of every partition, see [`crate::checkpoint`]
//! journal/slot-0000                          see [`crate::journal`]
//! topics/<topic>-<partition>.<topic id>/     one partition; topic names over 180 bytes are cut there
//!     partition                              identity: whose folder this is
//!     history                                log start and leader epochs, for when the checkpoint is lost
//!     <base offset, 20 digits>.log           record batches back to back
//!     <base offset, 20 digits>.index         Kafka's sparse offset index
//!     <base offset, 20 digits>.timeindex     Kafka's sparse time index
//!     <offset, 20 digits>.snapshot           producer state at that offset
//! ```
//!
//! What is to go is renamed to `<name>.deleted` first, a folder to `<name>.<number>.deleted`, then removed in the background;
//! such names are never read.

use std::path::{Path, PathBuf};

use model::{Offset, TopicId, TopicName, TopicPartition};

/// Suffix of what is about to be removed.
pub(crate) const DELETED: &str = ".deleted";
/// Suffix of a folder that neither checkpoint nor journal know.
pub(crate) const STRAY: &str = ".stray";
/// Name of a partition's identity file.
pub(crate) const IDENTITY: &str = "partition";
/// Name of a partition's history file.
pub(crate) const HISTORY: &str = "history";

/// Bytes of a topic's name that its folders' names carry: with the rest they stay below the usual limit of 255.
const NAME_LEN_MAX: usize = 180;

/// The files that belong to an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FileKind {
    Log,
    OffsetIndex,
    TimeIndex,
    Snapshot,
}

impl FileKind {
    fn extension(self) -> &'static str {
        match self {
            FileKind::Log => "log",
            FileKind::OffsetIndex => "index",
            FileKind::TimeIndex => "timeindex",
            FileKind::Snapshot => "snapshot",
        }
    }
}

/// `00000000000000000042.log` and the like.
pub(crate) fn file_name(offset: Offset, kind: FileKind) -> String {
    format!("{offset:020}.{}", kind.extension())
}

/// The offset and kind that [`file_name`] gives back this very name for.
pub(crate) fn parse_file_name(name: &str) -> Option<(Offset, FileKind)> {
    let (digits, extension) = name.split_once('.')?;
    let kind = match extension {
        "log" => FileKind::Log,
        "index" => FileKind::OffsetIndex,
        "timeindex" => FileKind::TimeIndex,
        "snapshot" => FileKind::Snapshot,
        _ => return None,
    };
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((digits.parse().ok()?, kind))
}

/// A path with [`DELETED`] behind it.
pub(crate) fn deleted(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(DELETED);
    PathBuf::from(name)
}

/// A folder's path with a number and a suffix behind it, for [`crate::disk::rename_aside`].
pub(crate) fn aside(path: &Path, number: u32, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}{suffix}"));
    PathBuf::from(name)
}

/// Name of a partition's folder.
pub(crate) fn partition_dir(topic: &TopicName, partition: TopicPartition) -> String {
    // Topic names are ASCII: any cut is a character boundary.
    let name = &topic.as_str()[..topic.len().min(NAME_LEN_MAX)];
    format!("{name}-{}.{}", partition.partition, partition.topic_id)
}

/// What a partition folder's name says; the topic's name may be cut.
pub(crate) fn parse_partition_dir(name: &str) -> Option<(&str, TopicPartition)> {
    let dot = name.len().checked_sub(TopicId::TEXT_LEN + 1)?;
    let (front, id) = name.split_at_checked(dot)?;
    let topic_id = id.strip_prefix('.')?.parse().ok()?;
    let (topic, partition) = front.rsplit_once('-')?;
    let index: i32 = partition.parse().ok().filter(|index| *index >= 0)?;
    Some((topic, TopicPartition { topic_id, partition: index }))
}

/// True when the name in a folder's name may have been cut.
pub(crate) fn may_be_cut(topic: &str) -> bool {
    topic.len() >= NAME_LEN_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_and_folders_are_pinned() {
        assert_eq!(file_name(42, FileKind::Log), "00000000000000000042.log");
        assert_eq!(file_name(Offset::MAX, FileKind::TimeIndex), "09223372036854775807.timeindex");
        let id: TopicId = "ASNFZ4mrze8BI0VniavN7w".parse().unwrap();
        let topic = TopicName::new("or-ders.eu").unwrap();
        let partition = TopicPartition { topic_id: id, partition: 7 };
        assert_eq!(partition_dir(&topic, partition), "or-ders.eu-7.ASNFZ4mrze8BI0VniavN7w");
        assert_eq!(parse_partition_dir("or-ders.eu-7.ASNFZ4mrze8BI0VniavN7w"), Some(("or-ders.eu", partition)));
    }

    #[test]
    fn foreign_names_are_not_ours() {
        for name in [
            "1.log",
            "0000000000000000004x.log",
            "00000000000000000042.log.deleted",
            "partition",
            "+0000000000000000042.log",
        ] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
        for name in ["", "x", "orders-0.short", "orders.ASNFZ4mrze8BI0VniavN7w", "orders--1.ASNFZ4mrze8BI0VniavN7w"] {
            assert!(parse_partition_dir(name).is_none_or(|(topic, _)| topic == "orders-"), "{name}");
        }
    }

    #[test]
    fn the_longest_topic_name_fits_a_file_name() {
        let topic = TopicName::new(&"x".repeat(249)).unwrap();
        let partition = TopicPartition { topic_id: TopicId::ZERO, partition: i32::MAX };
        let folder = partition_dir(&topic, partition);
        assert!(aside(Path::new(&folder), u32::MAX, DELETED).as_os_str().len() <= 255);
    }
}
