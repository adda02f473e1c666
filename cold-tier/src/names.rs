//! Names of objects: unique to cluster, topic id, partition, offset range, leader epoch and attempt.
//!
//! ```text
//! firn-cluster-<cluster id>.json                                                            the cluster's marker
//! <cluster id>/store-identity.json                                                          the store's identity
//! <cluster id>/topics/<topic name>-<topic id>/<partition>/data/<base>-<next>-<epoch>-<attempt>.parquet
//! <cluster id>/topics/<topic name>-<topic id>/<partition>/manifest/<version>-<base>-<next>-<epoch>-<attempt>.manifest
//! <cluster id>/topics/<topic name>-<topic id>/<partition>/manifest/<version>-<base>-<next>-<epoch>-<attempt>-<n>.node
//! ```
//!
//! Numbers are decimal, padded so that names sort as numbers do (20 digits for offsets and versions, 10 for epochs); the
//! attempt is a UUID. Objects lie only in the folders `data` and `manifest`, so no name is a folder of another.
//!
//! File systems limit a part of a path to 255 bytes: a topic's name is cut to [`TOPIC_NAME_MAX`] there, and its id still tells it
//! from others. Before, object stores got longer names as they are; such folders are read and swept as well
//! ([`Names::whole_topic`]). All of a name is at most [`NAME_MAX`] bytes.
//!
//! Beside the partitions lies the topic's Iceberg table, in `iceberg/`, and in `table-state/` what its commits show of the ledger;
//! the names are those of `docs/formats/iceberg.md`.

use std::cmp::Reverse;

use model::{LeaderEpoch, Offset, TopicId, TopicName, TopicPartition};
use uuid::Uuid;

/// Names of one cluster's objects.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    cluster_id: String,
}

/// What tells one write from every other: the range it covers, who makes it, and which try it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Span {
    pub(crate) base: Offset,
    pub(crate) next: Offset,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) attempt: Uuid,
}

impl Names {
    /// `None` when `cluster_id` cannot be a folder.
    pub(crate) fn new(cluster_id: &str) -> Option<Self> {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let valid = (1..=64).contains(&cluster_id.len()) && cluster_id.chars().all(legal);
        valid.then(|| Names { cluster_id: cluster_id.to_owned() })
    }

    pub(crate) fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    pub(crate) fn marker(&self) -> String {
        format!("{MARKER_PREFIX}{}.json", self.cluster_id)
    }

    pub(crate) fn store_identity(&self) -> String {
        format!("{}/store-identity.json", self.cluster_id)
    }

    pub(crate) fn topic(&self, topic: &TopicName, topic_id: TopicId) -> String {
        // Topic names are ASCII: any cut is a character boundary.
        let name = &topic.as_str()[..topic.len().min(TOPIC_NAME_MAX)];
        format!("{}/topics/{name}-{topic_id}", self.cluster_id)
    }

    /// The folder that a topic of a long name had before its name was cut; `None` when the name is short enough.
    pub(crate) fn whole_topic(&self, topic: &TopicName, topic_id: TopicId) -> Option<String> {
        (topic.len() > TOPIC_NAME_MAX).then(|| format!("{}/topics/{topic}-{topic_id}", self.cluster_id))
    }

    pub(crate) fn partition(&self, topic: &TopicName, partition: TopicPartition) -> String {
        format!("{}/{}", self.topic(topic, partition.topic_id), partition.partition)
    }

    pub(crate) fn data(&self, topic: &TopicName, partition: TopicPartition, span: Span) -> String {
        let Span { base, next, leader_epoch, attempt } = span;
        let folder = self.partition(topic, partition);
        format!("{folder}/data/{base:020}-{next:020}-{leader_epoch:010}-{attempt}.parquet")
    }

    pub(crate) fn manifest(&self, topic: &TopicName, partition: TopicPartition, version: u64, span: Span) -> String {
        let Span { base, next, leader_epoch, attempt } = span;
        let folder = self.partition(topic, partition);
        format!("{folder}/manifest/{version:020}-{base:020}-{next:020}-{leader_epoch:010}-{attempt}.manifest")
    }

    /// The `n`th child manifest written with the commit that `manifest` belongs to.
    pub(crate) fn node(manifest: &str, n: usize) -> String {
        format!("{}-{n}.node", manifest.strip_suffix(".manifest").unwrap_or(manifest))
    }
}

/// Bytes of a topic's name that its folder's name carries: with a dash and the id, they are a path's part of 255 bytes.
pub(crate) const TOPIC_NAME_MAX: usize = 255 - 1 - TopicId::TEXT_LEN;

/// Bytes of the longest name of an object, relative to the store's root.
pub(crate) const NAME_MAX: usize = 512;

pub(crate) const MARKER_PREFIX: &str = "firn-cluster-";

/// What a name in a partition's folder says, as far as the sweep needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Named {
    /// What it is.
    pub(crate) kind: Kind,
    /// First offset covered.
    pub(crate) base: Offset,
    /// First offset after the range covered.
    pub(crate) next: Offset,
    /// Leader epoch of the broker that wrote it.
    pub(crate) leader_epoch: LeaderEpoch,
}

/// See [`Named`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A data object.
    Data,
    /// A manifest, or a child of one, written with the commit of this version.
    Manifest(u64),
}

/// Reads a name of an object below `folder`, a topic's or a partition's; `None` for a name that is not exactly one of ours.
///
/// Every deletion asks this first: what others put into our folders stays, and so does whatever a store lists that was
/// not asked for.
pub(crate) fn parse(folder: &str, name: &str) -> Option<Named> {
    let below = name.strip_prefix(folder)?.strip_prefix('/')?;
    let parts: Vec<_> = below.split('/').collect();
    let (kind, file) = match parts[..] {
        [kind, file] => (kind, file),
        [partition, kind, file] if is_number(partition) => (kind, file),
        _ => return None,
    };
    match kind {
        "data" => parse_span(Kind::Data, file.strip_suffix(".parquet")?),
        "manifest" => {
            let (version, rest) = file.split_once('-')?;
            let span = match rest.strip_suffix(".node") {
                Some(child) => child.rsplit_once('-').filter(|(_, n)| is_number(n))?.0,
                None => rest.strip_suffix(".manifest")?,
            };
            let version = Some(version).filter(|version| version.len() == 20 && is_number(version))?.parse().ok()?;
            parse_span(Kind::Manifest(version), span)
        }
        _ => None,
    }
}

/// Reads `<base>-<next>-<epoch>-<attempt>`.
fn parse_span(kind: Kind, span: &str) -> Option<Named> {
    let mut parts = span.splitn(4, '-');
    let (base, next, epoch, attempt) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let fits =
        base.len() == 20 && next.len() == 20 && epoch.len() == 10 && [base, next, epoch].map(is_number) == [true; 3];
    let (base, next, leader_epoch) = (base.parse().ok()?, next.parse().ok()?, epoch.parse().ok()?);
    (fits && is_attempt(attempt)).then_some(Named { kind, base, next, leader_epoch })
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_attempt(text: &str) -> bool {
    text.len() == 36 && Uuid::try_parse(text).is_ok()
}

/// What a name below a topic's folders `iceberg` and `table-state` says. Their order is the one in which a table is taken away: who finds it
/// by the hint or by its newest metadata sees no table before anything is missing from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableFile {
    /// `metadata/version-hint.text`.
    Hint,
    /// `metadata/v<N>.metadata.json`, which commit N has created.
    Metadata(Reverse<u64>),
    /// What metadata lead to: manifest lists, manifests, states, position deletes.
    Part,
    /// Anything else in the table's own folder: an engine that wrote before its commit was refused has left it.
    Foreign,
}

/// The folders below a topic's in which the files of its table lie: the table's location, and what must lie outside of it,
/// because engines remove what the table does not name.
pub const TABLE_FOLDERS: [&str; 2] = ["iceberg", "table-state"];

/// Reads a name of a file of the table that belongs to the topic in `topic_folder`; `None` for a name outside of the table's
/// folders. Every deletion asks this first.
#[must_use]
pub fn table_file(topic_folder: &str, name: &str) -> Option<TableFile> {
    let (folder, below) = name.strip_prefix(topic_folder)?.strip_prefix('/')?.split_once('/')?;
    match folder {
        "iceberg" => Some(own_file(below).unwrap_or(TableFile::Foreign)),
        "table-state" => is_attempt(below.strip_suffix("-state.json")?).then_some(TableFile::Part),
        _ => None,
    }
}

/// Reads a name below the table's location; `None` for a name that is not exactly one of ours.
fn own_file(below: &str) -> Option<TableFile> {
    let part = |is_ours: bool| is_ours.then_some(TableFile::Part);
    match below.split_once('/')? {
        ("metadata", "version-hint.text") => Some(TableFile::Hint),
        ("metadata", file) => {
            if let Some(version) = file.strip_prefix('v').and_then(|rest| rest.strip_suffix(".metadata.json")) {
                let is_canonical = is_number(version) && !version.starts_with('0');
                return is_canonical.then(|| version.parse().ok().map(|n| TableFile::Metadata(Reverse(n))))?;
            }
            if let Some(attempt) = file.strip_suffix("-state.json") {
                return part(is_attempt(attempt));
            }
            let stem = file.strip_suffix(".avro")?;
            if let Some(snapshot) = stem.strip_prefix("snap-") {
                return part(snapshot.split_once('-').is_some_and(|(id, rest)| is_number(id) && is_attempt(rest)));
            }
            let (attempt, kind) = (stem.get(..36)?, stem.get(36..)?);
            let kinds = ["-added", "-kept", "-cuts"].iter().find_map(|known| kind.strip_prefix(known))?;
            part(is_attempt(attempt) && (kinds.is_empty() || kinds.strip_prefix('-').is_some_and(is_number)))
        }
        ("data", file) => {
            let (partition, attempt) = file.strip_suffix("-cut.parquet")?.split_once('-')?;
            part(is_number(partition) && is_attempt(attempt))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span() -> Span {
        Span { base: 5, next: 17, leader_epoch: 3, attempt: Uuid::from_u128(7) }
    }

    #[test]
    fn names_are_as_documented() {
        let names = Names::new("c1").unwrap();
        let topic = TopicName::new("orders.eu").unwrap();
        let partition = TopicPartition { topic_id: TopicId(Uuid::from_u128(1)), partition: 4 };
        let data = names.data(&topic, partition, span());
        assert_eq!(
            data,
            "c1/topics/orders.eu-AAAAAAAAAAAAAAAAAAAAAQ/4/data/\
             00000000000000000005-00000000000000000017-0000000003-00000000-0000-0000-0000-000000000007.parquet"
        );
        let (of_topic, of_partition) = (names.topic(&topic, partition.topic_id), names.partition(&topic, partition));
        let parse_both = |name: &str| (parse(&of_topic, name), parse(&of_partition, name));
        let named = |kind| Some(Named { kind, base: 5, next: 17, leader_epoch: 3 });
        assert_eq!(parse_both(&data), (named(Kind::Data), named(Kind::Data)));
        let manifest = names.manifest(&topic, partition, 9, span());
        assert_eq!(parse_both(&manifest), (named(Kind::Manifest(9)), named(Kind::Manifest(9))));
        let node = Names::node(&manifest, 0);
        assert_eq!(parse_both(&node), (named(Kind::Manifest(9)), named(Kind::Manifest(9))));
    }

    #[test]
    fn the_longest_names_fit_file_systems_and_stores() {
        let names = Names::new(&"c".repeat(64)).unwrap();
        let partition = TopicPartition { topic_id: TopicId::ZERO, partition: i32::MAX };
        let span = Span { base: i64::MAX, next: i64::MAX, leader_epoch: i32::MAX, attempt: Uuid::max() };
        for len in [1, 232, 233, 249] {
            let topic = TopicName::new(&"x".repeat(len)).unwrap();
            let manifest = names.manifest(&topic, partition, u64::MAX, span);
            let node = Names::node(&manifest, usize::MAX);
            let table = format!(
                "{}/iceberg/metadata/snap-{}-{}-added-9.avro",
                names.topic(&topic, TopicId::ZERO),
                u64::MAX,
                Uuid::max()
            );
            for name in [names.data(&topic, partition, span), manifest, node, table] {
                assert!(name.len() <= NAME_MAX && name.split('/').all(|part| part.len() <= 255), "{name}");
            }
            assert_eq!(names.whole_topic(&topic, TopicId::ZERO).is_some(), len > 232);
        }
    }

    #[test]
    fn names_of_others_are_not_taken_for_ours() {
        let folder = "c1/topics/orders-AAAAAAAAAAAAAAAAAAAAAQ";
        let ours = "00000000000000000005-00000000000000000017-0000000003-00000000-0000-0000-0000-000000000007";
        let named = Named { kind: Kind::Data, base: 5, next: 17, leader_epoch: 3 };
        assert_eq!(parse(folder, &format!("{folder}/4/data/{ours}.parquet")), Some(named));
        let foreign = [
            "4/data/readme.txt".to_owned(),
            "4/data/5.parquet".to_owned(),
            "4/data/00000000000000000005-mine.parquet".to_owned(),
            format!("4/data/{ours}.parquet.bak"),
            format!("4/data/copy-of-{ours}.parquet"),
            format!("4/backup/{ours}.parquet"),
            format!("x/data/{ours}.parquet"),
            format!("4/data/2024/{ours}.parquet"),
            format!("4/manifest/{ours}.manifest"),
            format!("4/manifest/00000000000000000009-{ours}.node"),
            "4/manifest/00000000000000000009-ü.manifest".to_owned(),
            "4/manifest/ü.manifest".to_owned(),
        ];
        for name in foreign {
            assert_eq!(parse(folder, &format!("{folder}/{name}")), None, "{name}");
        }
        let elsewhere = format!("c1/topics/orders-AAAAAAAAAAAAAAAAAAAAAg/4/data/{ours}.parquet");
        assert_eq!(parse(folder, &elsewhere), None);
    }

    #[test]
    fn files_of_a_table_are_known_by_their_exact_names() {
        let folder = "c1/topics/orders-AAAAAAAAAAAAAAAAAAAAAQ";
        let attempt = Uuid::from_u128(7);
        let known = |file: &str| table_file(folder, &format!("{folder}/iceberg/{file}"));
        assert_eq!(known("metadata/version-hint.text"), Some(TableFile::Hint));
        assert_eq!(known("metadata/v12.metadata.json"), Some(TableFile::Metadata(Reverse(12))));
        let parts = [
            format!("metadata/snap-123-{attempt}.avro"),
            format!("metadata/{attempt}-added.avro"),
            format!("metadata/{attempt}-added-3.avro"),
            format!("metadata/{attempt}-kept.avro"),
            format!("metadata/{attempt}-cuts.avro"),
            format!("metadata/{attempt}-state.json"),
            format!("data/17-{attempt}-cut.parquet"),
        ];
        for part in &parts {
            assert_eq!(known(part), Some(TableFile::Part), "{part}");
            assert_eq!(known(&format!("{part}.bak")), Some(TableFile::Foreign), "{part}");
            assert_eq!(parse(folder, &format!("{folder}/iceberg/{part}")), None, "{part}");
        }
        for foreign in [
            "metadata/v012.metadata.json",
            "metadata/v.metadata.json",
            "metadata/mine.avro",
            "metadata/snap-1.avro",
            "metadata/ü-added.avro",
            "data/x-cut.parquet",
            "other/version-hint.text",
            "metadata/deeper/version-hint.text",
            "notes.txt",
        ] {
            assert_eq!(known(foreign), Some(TableFile::Foreign), "{foreign}");
        }
        let state = format!("{folder}/table-state/{attempt}-state.json");
        assert_eq!(table_file(folder, &state), Some(TableFile::Part));
        for outside in [
            format!("{state}.bak"),
            format!("{folder}/icebergs/x"),
            format!("{folder}/iceberg"),
            format!("{folder}/0/x"),
        ] {
            assert_eq!(table_file(folder, &outside), None, "{outside}");
        }
        assert_eq!(
            table_file(folder, "c1/topics/orders-AAAAAAAAAAAAAAAAAAAAAg/iceberg/metadata/version-hint.text"),
            None
        );
        let mut order =
            [TableFile::Part, TableFile::Metadata(Reverse(1)), TableFile::Metadata(Reverse(2)), TableFile::Hint];
        order.sort();
        let newest_first = [TableFile::Metadata(Reverse(2)), TableFile::Metadata(Reverse(1))];
        assert_eq!(order, [TableFile::Hint, newest_first[0], newest_first[1], TableFile::Part]);
    }

    #[test]
    fn cluster_ids_that_are_no_folder_are_refused() {
        for bad in ["", "a/b", "a b", "..", &"x".repeat(65)] {
            assert!(Names::new(bad).is_none(), "{bad:?} was taken");
        }
    }
}
