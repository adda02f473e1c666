"""Credentials end and are renewed while the server runs: the archive pauses, says why, and resumes without a restart."""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from harness.bucket import await_health, await_trouble, expect_no_orphan, status_sentences
from harness.firn import FirnServer
from harness.proxy import Fault, FaultProxy, Request
from harness.records import Row, consume, expect_same, generated, produce
from harness.stores import ACCESS_KEY, SECRET_KEY, VersityGw

pytestmark = pytest.mark.firn
SMALL = {"batch.num.messages": 25}
SETTINGS = {
    "firn.object.store.timeout.ms": "3000",
    "firn.archive.retry.max.ms": "500",
    "firn.sweep.interval.ms": "300",
    "firn.sweep.grace.ms": "1000",
}


# VersityGW knows no session tokens: each session has keys of its own.
KEYS = {name: f"secret-of-{name}" for name in ("first", "second", "third", *(f"brief-{n}" for n in range(5)))}


@dataclass
class Issuer:
    """A `credential_process` whose answers the test decides, and the store's opinion of them."""

    folder: Path

    def __post_init__(self) -> None:
        program = self.folder / "issue.py"
        program.write_text(
            "import pathlib, sys\n"
            f"folder = pathlib.Path({str(self.folder)!r})\n"
            "(folder / 'asked').open('a').write('x')\n"
            "answer = folder / 'answer.json'\n"
            "sys.exit('the vault is sealed') if not answer.exists() else print(answer.read_text())\n",
            encoding="utf-8",
        )
        config = self.folder / "config"
        config.write_text(f"[profile vault]\ncredential_process = {sys.executable} {program}\n", encoding="utf-8")
        self.env = {"AWS_PROFILE": "vault", "AWS_CONFIG_FILE": str(config)}
        self.accepted = ""

    def issue(self, name: str, life_s: float) -> None:
        """From now on the process answers with the keys of this name."""
        expiry = datetime.now(timezone.utc) + timedelta(seconds=life_s)
        answer = {
            "Version": 1, "AccessKeyId": name, "SecretAccessKey": KEYS[name],
            "Expiration": expiry.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }  # fmt: skip
        partial = self.folder / "partial.json"
        partial.write_text(json.dumps(answer), encoding="utf-8")
        partial.rename(self.folder / "answer.json")

    def seal(self) -> None:
        """The process fails from now on."""
        (self.folder / "answer.json").unlink()

    def asked(self) -> int:
        """How often the process has run."""
        return (self.folder / "asked").stat().st_size

    def rule(self, request: Request) -> Fault:
        """The store takes the accepted keys only, and says of others what S3 says of a session that is over."""
        is_accepted = f"Credential={self.accepted}/" in request.headers.get("authorization", "")
        return Fault.NONE if is_accepted else Fault.EXPIRED


@pytest.fixture(scope="module")
def versitygw(work_dir: Path) -> Iterator[VersityGw]:
    """An S3 server that knows all these keys."""
    gateway = VersityGw(work_dir / "versitygw")
    gateway.stop()
    gateway.add_users(KEYS)
    gateway.start()
    yield gateway
    gateway.remove()


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    """Where the server's credentials come from."""
    return Issuer(tmp_path)


@pytest.fixture
def vaulted(tmp_path: Path, versitygw: VersityGw, proxy: FaultProxy, issuer: Issuer) -> Iterator[FirnServer]:
    """A server with credentials of the issuer, the first of which live long."""
    issuer.issue("first", 3600)
    issuer.accepted = "first"
    server = FirnServer(tmp_path / "server", versitygw.store(proxy.endpoint, credentials=issuer.env), SETTINGS)
    server.folder.mkdir()
    with proxy.failing(issuer.rule):
        server.start()
        yield server
    server.close()


def paused_and_writing(server: FirnServer, topic: str, words: tuple[str, ...], seed: int) -> list[Row]:
    """Writes while the archive must pause with these words."""
    written = produce(server.bootstrap, topic, generated(200, seed=seed), **SMALL)
    await_trouble(server, topic, words)
    (said, *_) = status_sentences(server, topic)
    assert all(word in said for word in words), said
    (row,) = server.archive_status([topic])
    assert row["archived_end"] < row["log_end"] and row["backlog_bytes"] > 0, row
    return written


def resumed(server: FirnServer, topic: str, written: list[Row]) -> None:
    """The archive goes on in the same process and has everything."""
    server.settle(topic)
    expect_same(written, consume(server.bootstrap, topic))
    await_health(server, topic)
    expect_no_orphan(server, topic)


def test_a_revoked_key_pauses_the_archive_until_the_next_one(vaulted: FirnServer, issuer: Issuer) -> None:
    topic = vaulted.create_topic("revoked", tier="cold")
    written = produce(vaulted.bootstrap, topic, generated(200, seed=1), **SMALL)
    vaulted.settle(topic)
    assert vaulted.process is not None
    pid = vaulted.process.pid
    issuer.accepted = "second"  # the first has an hour to live, the store thinks otherwise
    written += paused_and_writing(vaulted, topic, ("does not accept our credentials", "ExpiredToken"), 2)
    issuer.issue("second", 3600)
    resumed(vaulted, topic, written)
    issuer.accepted = "third"
    issuer.seal()
    written += paused_and_writing(vaulted, topic, ("credentials",), 3)
    issuer.issue("third", 3600)
    resumed(vaulted, topic, written)
    assert vaulted.process is not None and vaulted.process.pid == pid


def test_keys_of_seconds_are_renewed_before_they_end_and_not_for_every_request(
    vaulted: FirnServer, issuer: Issuer, proxy: FaultProxy
) -> None:
    topic = vaulted.create_topic("short-lived", tier="cold")
    issuer.issue("brief-0", 4)
    issuer.accepted = "brief-0"
    written: list[Row] = []
    asked, seen, begun = issuer.asked(), proxy.seen, time.monotonic()
    for generation in range(1, 5):
        written += produce(vaulted.bootstrap, topic, generated(200, seed=generation), **SMALL)
        vaulted.settle(topic)
        issuer.issue(f"brief-{generation}", 4)
        issuer.accepted = f"brief-{generation}"
    elapsed = time.monotonic() - begun
    resumed(vaulted, topic, written)
    runs, calls = issuer.asked() - asked, proxy.seen - seen
    assert runs < 10 + 2 * elapsed and runs < calls / 2, f"the process ran {runs} times for {calls} requests"


def test_keys_that_are_replaced_in_a_file_are_found_without_a_restart(tmp_path: Path, work_dir: Path) -> None:
    """The store's user is removed and another added; its keys arrive in the credentials file a while later."""
    gateway = VersityGw(tmp_path / "gateway")
    file = tmp_path / "credentials"

    def write_keys(access: str, secret: str) -> None:
        file.write_text(f"[archive]\naws_access_key_id = {access}\naws_secret_access_key = {secret}\n", encoding="utf-8")

    write_keys(ACCESS_KEY, SECRET_KEY)
    credentials = {"AWS_PROFILE": "archive", "AWS_SHARED_CREDENTIALS_FILE": str(file)}
    server = FirnServer(tmp_path / "server", gateway.store(credentials=credentials), SETTINGS)
    server.folder.mkdir()
    try:
        server.start()
        topic = server.create_topic("replaced", tier="cold")
        written = produce(server.bootstrap, topic, generated(200, seed=4), **SMALL)
        server.settle(topic)
        gateway.stop()
        gateway.access_key, gateway.secret_key = "another-access", "another-secret"
        gateway.start()
        written += paused_and_writing(server, topic, ("does not accept our credentials",), 5)
        write_keys("another-access", "another-secret")
        resumed(server, topic, written)
        assert "panicked" not in server.log_text()
    finally:
        server.close()
        gateway.remove()
