"""Stand-in for kafka-python's `test/service.py`, which its sdist leaves out.

scripts/setup-tests.sh copies this file into the unpacked sdist. The tests run against a broker that is already
up (`KAFKA_URI`), so the only service that has to work is the external one.
"""


class ExternalService:
    """A broker that somebody else started and will stop."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    def open(self) -> None:
        """Nothing to start."""

    def close(self) -> None:
        """Nothing to stop."""

    def dump_logs(self) -> None:
        """The log belongs to whoever started the broker."""

    def wait_for(self, _pattern: str, timeout: int = 30) -> bool:
        """The broker is up before the tests begin."""
        return True


class SpawnedService:
    """Named by the fixtures, never used: starting a broker is not their business here."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        raise RuntimeError("set KAFKA_URI: these tests run against a broker that is already up")
