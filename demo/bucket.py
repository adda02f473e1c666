"""An S3 server on this machine for the demo: VersityGW over a folder."""

import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from broker import free_port

PORT = 7070
BUCKET = "firn"
_ACCESS, _SECRET = "demo-access", "demo-secret"
READY_S = 20


@dataclass
class Bucket:
    """The running S3 server, with one bucket."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The bucket as brokers name it."""
        return f"s3://{BUCKET}"

    @property
    def env(self) -> dict[str, str]:
        """How S3 clients find it and sign."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": _ACCESS,
            "AWS_SECRET_ACCESS_KEY": _SECRET, "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip

    def stop(self) -> None:
        """Ends it."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(versitygw: Path, folder: Path) -> Bucket:
    """Starts the server and waits until it listens."""
    (folder / "buckets" / BUCKET).mkdir(parents=True)
    (folder / "users").mkdir()
    port = free_port(PORT)
    args = [
        str(versitygw), "--port", f"127.0.0.1:{port}", "--access", _ACCESS, "--secret", _SECRET,
        "--iam-dir", str(folder / "users"), "--keep-alive", "posix", str(folder / "buckets"),
    ]  # fmt: skip
    with (folder / "versitygw.log").open("ab") as log:
        process = subprocess.Popen(
            args, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    (folder / "versitygw.pid").write_text(str(process.pid))
    bucket = Bucket(folder, port, process)
    deadline = time.monotonic() + READY_S
    while not _listens(port):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise SystemExit(f"the S3 server did not start, see {folder / 'versitygw.log'}")
        time.sleep(0.05)
    return bucket


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
