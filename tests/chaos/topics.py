"""The topics of a run: one that keeps everything, one that DeleteRecords trims, one that time deletes from.

And those that come and go.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class TopicPlan:
    """A topic and what happens to its old records."""

    name: str
    partitions: int
    retention_ms: int = 0
    trimmed: bool = False

    @property
    def config(self) -> dict[str, str]:
        """Its settings: segments so small and so soon gone from the local disk that most reads are cold."""
        config = {"segment.bytes": "16384", "segment.ms": "400", "local.retention.bytes": "1", "local.retention.ms": "100"}
        return {**config, "retention.ms": str(self.retention_ms)} if self.retention_ms else config


KEPT = TopicPlan("kept", 4)
TRIMMED = TopicPlan("trimmed", 2, trimmed=True)
BRIEF = TopicPlan("brief", 2, retention_ms=12_000)
PASSING = TopicPlan("passing", 2)
"""Not one topic but one after the other: each is deleted and made again."""
TOPICS = (KEPT, TRIMMED, BRIEF)
GROUPS = {"eager": "range", "cooperative": "cooperative-sticky"}
"""The groups that read `kept`, and how they share it."""
