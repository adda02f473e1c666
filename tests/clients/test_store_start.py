"""A start that fails for its object store says first what is wrong, then what to do; one that waits says so."""

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from harness import wrong_stores
from harness.paths import firn_binary, free_port
from harness.process import Process, wait_until
from harness.proxy import Fault, FaultProxy
from harness.store_faults import Chosen
from harness.stores import ACCESS_KEY, BUCKET, SECRET_KEY, VersityGw
from harness.wrong_stores import answering, s3_error

pytestmark = pytest.mark.firn
# A start gives its store up soon enough for a test.
SETTINGS = ("--set", "firn.object.store.timeout.ms=1500")
KEYS = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
FIRST_CHARACTERS = 260


@dataclass
class WrongStart:
    """A store that a start must refuse, and the words by which it does."""

    what: str
    url: str
    words: str
    env: dict[str, str] = field(default_factory=lambda: KEYS)
    # 2 for what can never be a store.
    status: int = 1


def s3(endpoint: str, options: str = "", bucket: str = BUCKET) -> str:
    """A bucket behind an endpoint."""
    return f"s3://{bucket}/firn?endpoint={endpoint}&region=us-east-1{options}"


def meaningless(tmp_path: Path) -> Iterator[WrongStart]:
    """URLs and options that mean nothing, wherever the broker runs."""
    yield WrongStart(
        "no scheme", "s3://b?endpoint=127.0.0.1:9000", r'"127.0.0.1:9000" has no scheme: write http://127.0.0.1:9000'
    )
    env = {**KEYS, "AWS_ENDPOINT_URL": "localhost:9000"}
    yield WrongStart("no scheme, environment", "s3://b", r'"localhost:9000" has no scheme: write http://localhost:9000', env)
    yield WrongStart(
        "endpoint of another kind", "s3://b?endpoint=ftp://h", r'"ftp://h" is not a URL such as https://host:9000'
    )
    yield WrongStart("no bucket", "s3://", "it names no bucket")
    yield WrongStart("one slash", "s3:/bucket/firn", "s3: is followed by two slashes")
    yield WrongStart("a space", "s3://my bucket/firn", "it is not a URL")
    yield WrongStart("an endpoint alone", "http://127.0.0.1:9000/b", r"s3://BUCKET/PREFIX\?endpoint=http://127.0.0.1:9000")
    yield WrongStart("unknown scheme", "ftp://host/x", 'the scheme "ftp" is not known: write a path, or file://')
    yield WrongStart("unknown option", "s3://b?regoin=x", 'the option "regoin" is not known: did you mean "region"')
    yield WrongStart("half a key", "s3://b?access_key_id=x", "the access key comes without its secret", {})
    missing = {"GOOGLE_SERVICE_ACCOUNT": str(tmp_path / "missing.json")}
    yield WrongStart("no service account", "gs://b", "missing.json", missing)
    yield WrongStart("no account", "az://c", "the account is missing: set AZURE_STORAGE_ACCOUNT_NAME", {})
    yield WrongStart(
        "an option of a folder", f"file://{tmp_path}/store?foo=bar", 'the option "foo" is not known: a folder has no options'
    )
    yield WrongStart("nothing", "", "it is empty: write a path, or file://")


def of_urls(tmp_path: Path) -> Iterator[WrongStart]:
    """URLs and options that mean nothing, and folders that cannot be used."""
    for fault in meaningless(tmp_path):
        yield replace(fault, status=2)
    file = tmp_path / "file"
    file.write_text("x")
    yield WrongStart("a file", str(file), "is a file: name a folder")
    yield WrongStart("below a file", str(file / "archive"), "is a file: name a folder")
    yield WrongStart("not writable", "file:///sys/firn-archive", "the folder cannot be written: give it to the user")


def of_connections(stack: ExitStack, plain_port: int) -> Iterator[WrongStart]:
    """Endpoints that are none."""
    yield WrongStart(
        "nothing listens", s3(f"http://127.0.0.1:{free_port()}"), "nothing listens at the endpoint: start the store"
    )
    yield WrongStart("unknown host", s3("http://store.invalid:9000"), "the host of the endpoint is not known")
    yield WrongStart("plain HTTP", s3(f"https://127.0.0.1:{plain_port}"), "the endpoint speaks plain HTTP: write http://")
    port = stack.enter_context(wrong_stores.over_tls())
    yield WrongStart("untrusted", s3(f"https://127.0.0.1:{port}"), "the endpoint's certificate is not trusted")
    https = stack.enter_context(answering(400, "Client sent an HTTP request to an HTTPS server."))
    yield WrongStart("HTTPS", s3(https), "the endpoint speaks HTTPS: write https://")
    for what, serve, words in [
        ("silent", wrong_stores.silent, "the endpoint does not answer: see whether the store works"),
        ("hangs up", wrong_stores.hang_up, "the endpoint does not speak HTTP as an object store does"),
        ("redis", wrong_stores.redis, "the endpoint does not speak HTTP as an object store does"),
    ]:
        port = stack.enter_context(wrong_stores.listening(serve))
        yield WrongStart(what, s3(f"http://127.0.0.1:{port}"), words)
    page = stack.enter_context(answering(404, "<html><head><title>404</title></head><body>nginx</body></html>"))
    yield WrongStart("a web server", s3(page), "the endpoint is not one of an object store")
    none = {"AWS_EC2_METADATA_DISABLED": "true"}
    yield WrongStart(
        "no credentials", s3(f"http://127.0.0.1:{plain_port}"), "there are no credentials: set AWS_ACCESS_KEY_ID", none
    )
    profile = {**none, "AWS_PROFILE": "nobody"}
    yield WrongStart(
        "no such profile", s3(f"http://127.0.0.1:{plain_port}"), "there are no credentials: set AWS_ACCESS_KEY_ID", profile
    )


ANSWERS = {
    "another region": (
        400,
        "AuthorizationHeaderMalformed",
        "the region 'us-east-1' is wrong; expecting 'eu-west-1'",
        "region eu-west-1: set AWS_REGION=eu-west-1",
    ),
    "moved": (
        301,
        "PermanentRedirect",
        "The bucket must be addressed using the specified endpoint.",
        "in another region: set AWS_REGION",
    ),
    "clock": (403, "RequestTimeTooSkewed", "The difference is too large.", "the clock of this machine differs"),
    "expired": (400, "ExpiredToken", "The provided token has expired.", "the credentials have expired: renew them"),
    "may not write": (403, "AccessDenied", "Access Denied", "the key may not write: allow it s3:PutObject"),
    "no conditional PUT": (501, "NotImplemented", "A header is not implemented", "use another store, or another version"),
    "full": (507, "InsufficientStorage", "The disk is full", "the store is full: make room"),
    "overloaded": (503, "SlowDown", "Reduce your request rate", "the store answers with errors of its own"),
    "wrong method": (405, "MethodNotAllowed", "The method is not allowed", "use another store, or another version"),
}


def of_answers(stack: ExitStack) -> Iterator[WrongStart]:
    """Stores that refuse."""
    for what, (status, code, message, words) in ANSWERS.items():
        endpoint = stack.enter_context(answering(status, s3_error(code, message)))
        yield WrongStart(what, s3(endpoint), words)


def of_a_real_store(stack: ExitStack, gateway: VersityGw) -> Iterator[WrongStart]:
    """A store that works, and what is wrong on this side."""
    yield WrongStart("no such bucket", s3(gateway.endpoint, bucket="nobody"), "the bucket does not exist: create it")
    wrong = {**KEYS, "AWS_SECRET_ACCESS_KEY": "wrong"}
    yield WrongStart("wrong secret", s3(gateway.endpoint), "the secret does not belong to the key: correct it", wrong)
    unknown = {**KEYS, "AWS_ACCESS_KEY_ID": "unknown"}
    yield WrongStart(
        "unknown key", s3(gateway.endpoint), "the store does not know the access key: correct AWS_ACCESS_KEY_ID", unknown
    )
    for verb, name, chosen in [
        ("read", "GetObject", lambda r: r.is_read),
        ("list", "ListBucket", lambda r: r.is_list),
        ("delete", "DeleteObject", lambda r: r.is_delete),
    ]:
        proxy = FaultProxy(gateway.port, rule=Chosen(chosen, Fault.FORBIDDEN))
        stack.callback(proxy.close)
        yield WrongStart(f"may not {verb}", s3(proxy.endpoint), f"the key may not {verb}: allow it s3:{name}")


def start(fault: WrongStart, folder: Path) -> subprocess.CompletedProcess[str]:
    """A start with this store, to its end."""
    ports = [f"127.0.0.1:{free_port()}" for _ in range(3)]
    args = [
        "--data-dir",
        str(folder),
        "--listen",
        ports[0],
        "--admin",
        ports[1],
        "--internal",
        ports[2],
        "--object-store",
        fault.url,
    ]
    inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LD_LIBRARY_PATH")}
    nothing = {"AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"}
    env = {**inherited, **nothing, **fault.env}
    command = [firn_binary(), "server", *args, *SETTINGS]
    try:
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired as late:
        return subprocess.CompletedProcess(command, -1, "", f"it does not end; {late.stderr!r}")


def complaint(ended: subprocess.CompletedProcess[str]) -> str:
    """What the start said at its end."""
    said = [line for line in ended.stderr.splitlines() if line.startswith("firn: ")]
    return said[-1] if said else ended.stderr[-FIRST_CHARACTERS:]


def wrong_with(fault: WrongStart, ended: subprocess.CompletedProcess[str]) -> str:
    """What is wrong with the words of a start that failed; nothing where they are right."""
    line = complaint(ended)
    found = re.search(fault.words, line[:FIRST_CHARACTERS])
    wrongs = [
        ("it does not say so first", found is None),
        ("it is no single line", not ended.stderr.rstrip().endswith(line.rstrip())),
        ("it is long", len(line) > 700),
        ("it prints structures", re.search(r"[A-Z]\w+ \{ |Some\(|<\w+>|\\n", line) is not None),
        ("it warns of instance metadata", "imds" in ended.stderr.lower()),
        (f"its status is {ended.returncode}", ended.returncode != fault.status),
    ]
    return "; ".join(wrong for wrong, is_so in wrongs if is_so)


def test_a_start_that_fails_says_first_what_is_wrong_and_then_what_to_do(tmp_path: Path, versitygw: VersityGw) -> None:
    with ExitStack() as stack:
        faults = [
            *of_urls(tmp_path),
            *of_connections(stack, versitygw.port),
            *of_answers(stack),
            *of_a_real_store(stack, versitygw),
        ]
        with ThreadPoolExecutor(6) as pool:
            ends = list(pool.map(lambda i: start(faults[i], tmp_path / f"data{i}"), range(len(faults))))
    table = [
        {"fault": fault.what, "said": complaint(ended), "wrong": wrong_with(fault, ended)}
        for fault, ended in zip(faults, ends, strict=True)
    ]
    if path := os.environ.get("FIRN_TEST_TABLE"):
        Path(path).write_text(json.dumps(table, indent=1))
    assert not [row for row in table if row["wrong"]]
    assert len(faults) >= 35


def test_a_start_says_within_seconds_what_it_waits_for(tmp_path: Path) -> None:
    with wrong_stores.listening(wrong_stores.silent) as port:
        url = s3(f"http://127.0.0.1:{port}")
        ports = [f"127.0.0.1:{free_port()}" for _ in range(3)]
        args = [firn_binary(), "server", "--data-dir", tmp_path / "data", "--object-store", url]
        args += ["--listen", ports[0], "--admin", ports[1], "--internal", ports[2]]
        process = Process(args, tmp_path / "log", env=KEYS)
        began = time.monotonic()
        try:
            wait_until("the log to say so", lambda: "waiting for an answer of the object store" in process.output(), 20)
            assert f"s3://{BUCKET}/firn" in process.output()
            assert time.monotonic() - began < 15
        finally:
            process.kill()
