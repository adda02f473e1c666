"""An S3 server on this machine for the demo: VersityGW over a folder."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from process import await_start, end, free_port, launch, listens

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
        end(self.process, 10)


def start(versitygw: Path, folder: Path) -> Bucket:
    """Starts the server and waits until it listens."""
    (folder / "buckets" / BUCKET).mkdir(parents=True)
    (folder / "users").mkdir()
    port = free_port(PORT)
    args = [
        str(versitygw), "--port", f"127.0.0.1:{port}", "--access", _ACCESS, "--secret", _SECRET,
        "--iam-dir", str(folder / "users"), "--keep-alive", "posix", str(folder / "buckets"),
    ]  # fmt: skip
    process = launch(args, folder, "versitygw")
    log = folder / "versitygw.log"
    await_start(process, lambda: listens(port), READY_S, lambda: f"the S3 server did not start, see {log}")
    return Bucket(folder, port, process)
