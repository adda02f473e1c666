//! Every topic setting: Kafka's, and Firn's own. A setting of Kafka's that means nothing here is taken and says so in its
//! description; a setting that is not here is refused.

use super::kind::{Kind, SettingSpec, Synonym};

const fn ms(name: &'static str) -> Synonym {
    Synonym { name, factor: 1 }
}

const fn minutes(name: &'static str) -> Synonym {
    Synonym { name, factor: 60_000 }
}

const fn hours(name: &'static str) -> Synonym {
    Synonym { name, factor: 3_600_000 }
}

/// Smallest segment: one that still holds a batch header and a record or two.
pub const MIN_SEGMENT_BYTES: i64 = 1024;

const fn dynamic(name: &'static str, documentation: &'static str) -> SettingSpec {
    SettingSpec { name, kind: Kind::long(0), default: "9223372036854775807", synonyms: &[], documentation }
}

/// A codec's level, whose name is the same for topics and for brokers.
const fn level(synonyms: &'static [Synonym; 1], min: i64, max: i64, default: &'static str) -> SettingSpec {
    let kind = Kind::Number { min, max, is_int: true };
    let documentation = "Has no effect: the broker recompresses batches at the codec's default level.";
    SettingSpec { name: synonyms[0].name, kind, default, synonyms, documentation }
}

/// The settings that a running broker takes, apart from the topics' defaults. No configuration file has them.
pub const DYNAMIC_BROKER_SETTINGS: &[SettingSpec] = &[
    dynamic(
        "follower.replication.throttled.rate",
        "Bytes per second that a broker takes for throttled replicas that are not in sync.",
    ),
    dynamic(
        "leader.replication.throttled.rate",
        "Bytes per second that a broker sends to throttled replicas that are not in sync.",
    ),
];

/// The settings, by name.
pub const TOPIC_SETTINGS: &[SettingSpec] = &[
    SettingSpec {
        name: "cleanup.policy",
        kind: Kind::List(&["delete"]),
        default: "delete",
        synonyms: &[ms("log.cleanup.policy")],
        documentation: "Treatment of old records: 'delete' lets them go by the retention settings, an empty list keeps them. \
                        Compaction is not supported yet.",
    },
    level(&[ms("compression.gzip.level")], -1, 9, "-1"),
    level(&[ms("compression.lz4.level")], 1, 17, "9"),
    SettingSpec {
        name: "compression.type",
        kind: Kind::Choice(&["producer", "uncompressed", "none", "gzip", "snappy", "lz4", "zstd"]),
        default: "producer",
        synonyms: &[ms("compression.type")],
        documentation: "Codec of stored batches. 'producer' keeps what the producer chose and costs nothing; \
                        with any other value the broker recompresses batches that come in another codec.",
    },
    level(&[ms("compression.zstd.level")], -131_072, 22, "3"),
    SettingSpec {
        name: "delete.retention.ms",
        kind: Kind::long(0),
        default: "86400000",
        synonyms: &[ms("log.cleaner.delete.retention.ms")],
        documentation: "Has no effect without compaction.",
    },
    SettingSpec {
        name: "file.delete.delay.ms",
        kind: Kind::long(0),
        default: "60000",
        synonyms: &[ms("log.segment.delete.delay.ms")],
        documentation: "Has no effect: files of deleted segments go at once, objects of the archive after firn.sweep.grace.ms.",
    },
    SettingSpec {
        name: "firn.archive.compression.type",
        kind: Kind::Choice(&["zstd", "lz4", "none"]),
        default: "zstd",
        synonyms: &[ms("firn.archive.compression.type")],
        documentation: "Codec of the topic's Parquet objects. lz4 replays about twice as fast and takes about 1.6 times \
                        the space; none suits values that are compressed already.",
    },
    SettingSpec {
        name: "firn.flush",
        kind: Kind::Choice(&["durable", "replicated"]),
        default: "durable",
        synonyms: &[ms("firn.flush")],
        documentation: "When an acknowledgement counts: 'durable' once the batch is on stable storage of the in-sync \
                        replicas, 'replicated' once it is in their memory, as in Apache Kafka.",
    },
    SettingSpec {
        name: "firn.iceberg.enable",
        kind: Kind::Bool,
        default: "true",
        synonyms: &[ms("firn.iceberg.enable")],
        documentation: "Keep Apache Iceberg metadata of the topic's archive in the object store, so that other engines read \
                        it as a table. Without remote.storage.enable there is no archive, and no table.",
    },
    SettingSpec {
        name: "flush.messages",
        kind: Kind::long(1),
        default: "9223372036854775807",
        synonyms: &[ms("log.flush.interval.messages")],
        documentation: "Has no effect: firn.flush says when records are on stable storage.",
    },
    SettingSpec {
        name: "flush.ms",
        kind: Kind::long(0),
        default: "9223372036854775807",
        synonyms: &[ms("log.flush.interval.ms")],
        documentation: "Has no effect: firn.flush says when records are on stable storage.",
    },
    SettingSpec {
        name: "follower.replication.throttled.replicas",
        kind: Kind::Replicas,
        default: "",
        synonyms: &[],
        documentation: "Replicas that are filled no faster than the brokers' follower.replication.throttled.rate while \
                        they are not in sync: PARTITION:NODE,PARTITION:NODE,… or * for all.",
    },
    SettingSpec {
        name: "index.interval.bytes",
        kind: Kind::int(0),
        default: "4096",
        synonyms: &[ms("log.index.interval.bytes")],
        documentation: "Bytes of log between two entries of a segment's offset index.",
    },
    SettingSpec {
        name: "leader.replication.throttled.replicas",
        kind: Kind::Replicas,
        default: "",
        synonyms: &[],
        documentation: "Replicas that are read from no faster than the brokers' leader.replication.throttled.rate while \
                        they are not in sync: PARTITION:NODE,PARTITION:NODE,… or * for all.",
    },
    SettingSpec {
        name: "local.retention.bytes",
        kind: Kind::long(-2),
        default: "-2",
        synonyms: &[ms("log.local.retention.bytes")],
        documentation: "Bytes of a partition that stay on the broker's disk once archived. \
                        -2 means as retention.bytes, -1 means no limit.",
    },
    SettingSpec {
        name: "local.retention.ms",
        kind: Kind::long(-2),
        default: "86400000",
        synonyms: &[ms("log.local.retention.ms")],
        documentation: "Milliseconds for which archived records stay on the broker's disk. \
                        -2 means as retention.ms, -1 means no limit.",
    },
    SettingSpec {
        name: "max.compaction.lag.ms",
        kind: Kind::long(1),
        default: "9223372036854775807",
        synonyms: &[ms("log.cleaner.max.compaction.lag.ms")],
        documentation: "Has no effect without compaction.",
    },
    SettingSpec {
        name: "max.message.bytes",
        kind: Kind::int(0),
        default: "1048588",
        synonyms: &[ms("message.max.bytes")],
        documentation: "Largest record batch, in bytes as the producer sends it.",
    },
    SettingSpec {
        name: "message.timestamp.after.max.ms",
        kind: Kind::long(0),
        default: "3600000",
        synonyms: &[ms("log.message.timestamp.after.max.ms")],
        documentation: "How many milliseconds a record's timestamp may lie after the broker's time.",
    },
    SettingSpec {
        name: "message.timestamp.before.max.ms",
        kind: Kind::long(0),
        default: "9223372036854775807",
        synonyms: &[ms("log.message.timestamp.before.max.ms")],
        documentation: "How many milliseconds a record's timestamp may lie before the broker's time.",
    },
    SettingSpec {
        name: "message.timestamp.type",
        kind: Kind::Choice(&["CreateTime", "LogAppendTime"]),
        default: "CreateTime",
        synonyms: &[ms("log.message.timestamp.type")],
        documentation: "Whose time a record carries: the producer's or the broker's at append.",
    },
    SettingSpec {
        name: "min.cleanable.dirty.ratio",
        kind: Kind::Ratio,
        default: "0.5",
        synonyms: &[ms("log.cleaner.min.cleanable.ratio")],
        documentation: "Has no effect without compaction.",
    },
    SettingSpec {
        name: "min.compaction.lag.ms",
        kind: Kind::long(0),
        default: "0",
        synonyms: &[ms("log.cleaner.min.compaction.lag.ms")],
        documentation: "Has no effect without compaction.",
    },
    SettingSpec {
        name: "min.insync.replicas",
        kind: Kind::int(1),
        default: "1",
        synonyms: &[ms("min.insync.replicas")],
        documentation: "Replicas that must have a batch before acks=all is acknowledged.",
    },
    SettingSpec {
        name: "preallocate",
        kind: Kind::Bool,
        default: "false",
        synonyms: &[ms("log.preallocate")],
        documentation: "Has no effect: files of segments grow as they are written.",
    },
    SettingSpec {
        name: "remote.log.copy.disable",
        kind: Kind::Bool,
        default: "false",
        synonyms: &[],
        documentation: "Stop archiving the topic, as without remote.storage.enable; archived records stay readable.",
    },
    SettingSpec {
        name: "remote.log.delete.on.disable",
        kind: Kind::Bool,
        default: "false",
        synonyms: &[],
        documentation: "Has no effect: the archive goes with the topic or by its retention, never because a setting changed.",
    },
    SettingSpec {
        name: "remote.storage.enable",
        kind: Kind::Bool,
        default: "true",
        synonyms: &[ms("firn.remote.storage.enable")],
        documentation: "Archive the topic to the object store. Without it, only retention.ms and retention.bytes count \
                        and all history stays on the broker's disk.",
    },
    SettingSpec {
        name: "retention.bytes",
        kind: Kind::long(-1),
        default: "-1",
        synonyms: &[ms("log.retention.bytes")],
        documentation: "Bytes of record batches that a partition keeps over both tiers; -1 means no limit.",
    },
    SettingSpec {
        name: "retention.ms",
        kind: Kind::long(-1),
        default: "-1",
        synonyms: &[ms("log.retention.ms"), minutes("log.retention.minutes"), hours("log.retention.hours")],
        documentation: "Milliseconds for which records are kept over both tiers; -1 means for ever.",
    },
    SettingSpec {
        name: "segment.bytes",
        kind: Kind::int(MIN_SEGMENT_BYTES),
        default: "134217728",
        synonyms: &[ms("log.segment.bytes")],
        documentation: "Bytes at which a segment closes and becomes ready for the archive.",
    },
    SettingSpec {
        name: "segment.index.bytes",
        kind: Kind::int(4),
        default: "10485760",
        synonyms: &[ms("log.index.size.max.bytes")],
        documentation: "Has no effect: indexes grow with their segments.",
    },
    SettingSpec {
        name: "segment.jitter.ms",
        kind: Kind::long(0),
        default: "0",
        synonyms: &[ms("log.roll.jitter.ms"), hours("log.roll.jitter.hours")],
        documentation: "Largest random time taken off segment.ms, so that segments do not all close at once.",
    },
    SettingSpec {
        name: "segment.ms",
        kind: Kind::long(1),
        default: "3600000",
        synonyms: &[ms("log.roll.ms"), hours("log.roll.hours")],
        documentation: "Milliseconds after which a segment closes even when it is not full, so that quiet topics reach \
                        the archive too.",
    },
    SettingSpec {
        name: "unclean.leader.election.enable",
        kind: Kind::Bool,
        default: "false",
        synonyms: &[ms("unclean.leader.election.enable")],
        documentation: "Let a replica that may lack acknowledged records lead when no other can. The records that it lacks are lost; \
                        without this setting the partition waits.",
    },
];
