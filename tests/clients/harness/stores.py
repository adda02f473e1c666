"""Object stores for the archive: a local folder, and VersityGW as an S3 server on loopback."""

import json
import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.paths import VERSITYGW, free_port
from harness.process import Process, wait_until

ACCESS_KEY = "firn-test-access"
SECRET_KEY = "firn-test-secret"
BUCKET = "firn-archive"


@dataclass
class Store:
    """The server's configuration of its object store."""

    url: str
    env: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    """Where the objects lie as plain files, for readers from outside."""

    def objects(self, suffix: str = "") -> list[Path]:
        """The store's objects as files whose names end like this; folders may go meanwhile."""
        assert self.folder is not None, "this store has no folder"
        files = (Path(folder, name) for folder, _, names in os.walk(self.folder) for name in names)
        return sorted(path for path in files if path.name.endswith(suffix))


def folder_store(folder: Path) -> Store:
    """A `file://` store."""
    folder.mkdir(parents=True, exist_ok=True)
    return Store(url=f"file://{folder}", folder=folder)


class VersityGw:
    """An S3 server over a folder: checks signatures, checksums and conditional PUTs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.access_key, self.secret_key = ACCESS_KEY, SECRET_KEY
        """The only user's keys, from the next start on."""
        self.process: Process | None = None
        (folder / "buckets" / BUCKET).mkdir(parents=True, exist_ok=True)
        (folder / "users").mkdir(exist_ok=True)
        self.start()

    @property
    def endpoint(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it, again on the same folder and port after a stop."""
        args = [
            VERSITYGW, "--port", f"127.0.0.1:{self.port}", "--access", self.access_key, "--secret",
            self.secret_key, "--iam-dir", self.folder / "users", "--keep-alive", "posix", self.folder / "buckets",
        ]  # fmt: skip
        self.process = Process(args, self.folder / "versitygw.log")
        wait_until("VersityGW to listen", self._listens, 15)

    def add_users(self, keys: Mapping[str, str]) -> None:
        """Adds administrators with these access and secret keys; for the next start."""
        accounts = {access: {"access": access, "secret": secret, "role": "admin"} for access, secret in keys.items()}
        (self.folder / "users" / "users.json").write_text(json.dumps({"accessAccounts": accounts}), encoding="utf-8")

    def _listens(self) -> bool:
        assert self.process is not None
        if self.process.exit_status is not None:
            raise RuntimeError(f"VersityGW ended: {self.process.output()}")
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """Ends it; connections are refused from now on."""
        if self.process is not None:
            self.process.kill()
            self.process = None

    def store(self, endpoint: str | None = None, *, credentials: dict[str, str] | None = None) -> Store:
        """As a store for the server; `endpoint` puts a proxy between."""
        return s3_store(endpoint or self.endpoint, self.folder / "buckets" / BUCKET, credentials)

    def remove(self) -> None:
        """Ends it and deletes its folder."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def s3_store(endpoint: str, folder: Path | None = None, credentials: dict[str, str] | None = None) -> Store:
    """An `s3://` store at this endpoint.

    Credentials, region and endpoint reach the server as they reach every AWS tool: through its environment, or
    through a profile that the environment names.
    """
    env = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }
    env.update(credentials if credentials is not None else environment_credentials())
    return Store(url=f"s3://{BUCKET}/firn", env=env, folder=folder)


def environment_credentials() -> dict[str, str]:
    """The first link of the chain: the environment."""
    return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}


def profile_credentials(folder: Path) -> dict[str, str]:
    """A later link of the chain: a named profile in a credentials file."""
    file = folder / "credentials"
    file.write_text(f"[archive]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n", encoding="utf-8")
    return {"AWS_PROFILE": "archive", "AWS_SHARED_CREDENTIALS_FILE": str(file)}
