//! Every broker-wide setting that has a meaning in Firn, apart from the topic defaults (see [`model::settings::table`]).
//!
//! Names that start with `firn.` are ours, the others are Kafka's and mean what they mean there.

use model::settings::{Kind, SettingSpec};

/// The value of `replica.selector.class` that lets consumers read from the replica of their rack (KIP-392).
pub const RACK_AWARE: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

const fn setting(name: &'static str, kind: Kind, default: &'static str, documentation: &'static str) -> SettingSpec {
    SettingSpec { name, kind, default, synonyms: &[], documentation }
}

/// The settings, by name.
pub const BROKER_SETTINGS: &[SettingSpec] = &[
    setting(
        "auto.create.topics.enable",
        Kind::Bool,
        "true",
        "Create a topic when a client asks for one that does not exist.",
    ),
    setting(
        "auto.leader.rebalance.enable",
        Kind::Bool,
        "true",
        "Return leaderships to the preferred leaders, once those are in sync again.",
    ),
    setting(
        "broker.session.timeout.ms",
        Kind::int(1_000),
        "9000",
        "Milliseconds after which a broker of which nothing is heard is fenced. One whose process has ended is fenced at once.",
    ),
    setting(
        "connections.max.idle.ms",
        Kind::long(1),
        "600000",
        "Milliseconds after which a silent connection is closed.",
    ),
    setting(
        "default.replication.factor",
        Kind::int(1),
        "1",
        "Replicas of a topic whose creator does not say how many.",
    ),
    setting("delete.topic.enable", Kind::Bool, "true", "Allow topics to be deleted."),
    setting(
        "fetch.max.bytes",
        Kind::int(1024),
        "57671680",
        "Largest fetch reply in bytes, whatever a client asks for.",
    ),
    setting(
        "firn.archive.concurrency",
        Kind::int(1),
        "2",
        "Segments that the archiver turns into Parquet at the same time.",
    ),
    setting(
        "firn.archive.interval.ms",
        Kind::long(10),
        "1000",
        "Milliseconds between two checks for closed segments to archive.",
    ),
    setting(
        "firn.archive.part.bytes",
        Kind::long(5 << 20),
        "150994944",
        "Largest archived object that goes out from memory by one request; larger ones go in parts of this size.",
    ),
    setting(
        "firn.archive.retry.max.ms",
        Kind::long(1),
        "60000",
        "Longest pause, in milliseconds, between two attempts to archive a partition while they fail; the first is half a second.",
    ),
    setting(
        "firn.cold.cache.bytes",
        Kind::long(16 << 20),
        "268435456",
        "Memory for reads from the archive: decoded chunks, read-ahead and footers together.",
    ),
    setting(
        "firn.cold.fetch.timeout.ms",
        Kind::long(1),
        "5000",
        "Milliseconds that a fetch waits for the archive before it answers empty; the read continues and fills the cache.",
    ),
    setting("firn.cold.threads", Kind::int(1), "2", "Threads that decode archived chunks."),
    setting(
        "firn.connection.stall.ms",
        Kind::long(100),
        "60000",
        "Milliseconds in which a client must take 64 KiB of a reply, or the rest of it, before its connection is closed. A client whose machine is gone is noticed within twice that time.",
    ),
    setting(
        "firn.disk.stall.ms",
        Kind::long(100),
        "10000",
        "Milliseconds after which a flush of the local log or of the metadata that has not returned makes the broker hand over what others can lead.",
    ),
    setting(
        "firn.group.memory.bytes",
        Kind::long(0),
        "0",
        "Memory for what consumer groups keep: members with their metadata and assignments, member ids that were handed out, committed offsets. 0: a quarter of firn.request.memory.bytes. When it is used up, a request that makes a group larger is refused with COORDINATOR_NOT_AVAILABLE, upon which clients try again; all else goes on.",
    ),
    setting(
        "firn.iceberg.commit.interval.ms",
        Kind::long(10),
        "60000",
        "Milliseconds between two commits to a topic's Iceberg table. What a table says of retention should be read within firn.sweep.grace.ms, so that should be much longer.",
    ),
    setting(
        "firn.iceberg.snapshot.max.age.ms",
        Kind::long(0),
        "3600000",
        "Milliseconds after which a snapshot of an Iceberg table expires. Never later than firn.sweep.grace.ms less the interval of commits, because its objects may be gone then; the newest stays.",
    ),
    setting(
        "firn.journal.bytes",
        Kind::long(4 << 20),
        "268435456",
        "Size of the journal that makes acknowledged batches durable with one flush for all partitions.",
    ),
    setting(
        "firn.object.store.timeout.ms",
        Kind::long(100),
        "30000",
        "Milliseconds after which a call to the object store is given up.",
    ),
    setting(
        "firn.reply.memory.bytes",
        Kind::long(1 << 20),
        "268435456",
        "Memory for fetch replies from the read until they are sent, over all connections. When it runs short, replies become smaller, then wait. A quarter as much in addition is for replies to followers, and for other replies that grow with the cluster.",
    ),
    setting(
        "firn.request.memory.bytes",
        Kind::long(1 << 20),
        "536870912",
        "Memory for requests that are being received or handled, and for what they decode into, over all connections. One request at a time may exceed it, and each connection has 16 KiB of its own. Parts of it in addition are for requests that wait and for fetch sessions.",
    ),
    setting(
        "firn.sql.concurrency",
        Kind::int(1),
        "4",
        "SQL queries that run at the same time; a further one waits up to 10 seconds for its turn and is then refused.",
    ),
    setting(
        "firn.sql.memory.bytes",
        Kind::long(16 << 20),
        "268435456",
        "Memory for all SQL queries together. What does not fit is spilled to files in the data folder, or fails that query alone. The SQL process as a whole may have 1 GiB and twice this.",
    ),
    setting(
        "firn.sql.threads",
        Kind::int(1),
        "2",
        "Threads of each SQL query, in a process of their own and at a lower priority than the broker.",
    ),
    setting(
        "firn.sql.timeout.ms",
        Kind::long(1),
        "300000",
        "Longest time in milliseconds that a SQL query may take, the reading of its answer included. A query that computes on for five seconds more ends the SQL process.",
    ),
    setting(
        "firn.sweep.grace.ms",
        Kind::long(0),
        "3600000",
        "Milliseconds for which an object that no manifest names is left alone.",
    ),
    setting(
        "firn.sweep.interval.ms",
        Kind::long(10),
        "600000",
        "Milliseconds between two sweeps for orphaned objects.",
    ),
    setting(
        "group.initial.rebalance.delay.ms",
        Kind::int(0),
        "3000",
        "Milliseconds that an empty group waits for more members before its first rebalance.",
    ),
    setting("group.max.session.timeout.ms", Kind::int(1), "1800000", "Largest session timeout of a group member."),
    setting("group.max.size", Kind::int(1), "2147483647", "Most members of a group."),
    setting("group.min.session.timeout.ms", Kind::int(1), "6000", "Smallest session timeout of a group member."),
    setting(
        "leader.imbalance.check.interval.seconds",
        Kind::long(1),
        "300",
        "Seconds between two checks for partitions that another broker leads than the preferred one.",
    ),
    setting(
        "log.retention.check.interval.ms",
        Kind::long(1),
        "300000",
        "Milliseconds between two checks for records and local segments whose time is over.",
    ),
    setting(
        "max.connections",
        Kind::int(1),
        "20000",
        "Most client connections at a time; further ones are accepted when others end.",
    ),
    setting(
        "max.incremental.fetch.session.cache.slots",
        Kind::int(0),
        "1000",
        "Most incremental fetch sessions that are kept.",
    ),
    setting("num.partitions", Kind::int(1), "1", "Partitions of a topic whose creator does not say how many."),
    setting(
        "offset.metadata.max.bytes",
        Kind::int(0),
        "4096",
        "Longest metadata text of a committed offset, in UTF-16 units: letters, with few exceptions.",
    ),
    setting(
        "offsets.retention.minutes",
        Kind::int(1),
        "10080",
        "Minutes for which offsets of an empty group are kept.",
    ),
    setting(
        "offsets.topic.num.partitions",
        Kind::int(1),
        "50",
        "Partitions of __consumer_offsets, when it is created.",
    ),
    setting(
        "offsets.topic.replication.factor",
        Kind::int(1),
        "3",
        "Replicas of __consumer_offsets, when it is created; as many as there are brokers when these are fewer.",
    ),
    setting(
        "producer.id.expiration.ms",
        Kind::int(1),
        "86400000",
        "Milliseconds after which an idle idempotent producer is forgotten.",
    ),
    setting(
        "replica.fetch.max.bytes",
        Kind::int(0),
        "1048576",
        "Bytes that a follower asks for per partition; a larger batch comes all the same.",
    ),
    setting(
        "replica.fetch.min.bytes",
        Kind::int(1),
        "1",
        "Bytes for which a leader waits before it answers a follower.",
    ),
    setting(
        "replica.fetch.response.max.bytes",
        Kind::int(0),
        "10485760",
        "Bytes that a follower asks for in one reply, all partitions together; a larger batch comes all the same.",
    ),
    setting(
        "replica.fetch.wait.max.ms",
        Kind::int(1),
        "500",
        "Milliseconds that a leader waits for records before it answers a follower.",
    ),
    setting(
        "replica.lag.time.max.ms",
        Kind::long(1),
        "30000",
        "Milliseconds for which a follower may be behind its leader before it leaves the in-sync replicas.",
    ),
    setting(
        "replica.selector.class",
        Kind::Choice(&["", RACK_AWARE]),
        "",
        "Who serves a consumer that names its rack: the leader, or with Kafka's RackAwareReplicaSelector an in-sync replica of that rack.",
    ),
    setting(
        "replica.socket.timeout.ms",
        Kind::int(1),
        "30000",
        "Milliseconds after which a follower gives up a request to a leader, in addition to what the leader waits.",
    ),
    setting("socket.request.max.bytes", Kind::int(1024), "104857600", "Largest request in bytes."),
];
