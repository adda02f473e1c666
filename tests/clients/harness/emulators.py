"""Azure Blob Storage, by Azurite, and Google Cloud Storage, by a stand-in, on loopback over plain HTTP."""

import base64
import hashlib
import hmac
import json
import urllib.request
from datetime import datetime, timezone
from pathlib import Path

from harness.paths import AZURITE, free_port
from harness.process import Process, wait_until
from harness.stores import BUCKET, Store
from harness.weak_store import Flaw, WeakStore

# The account that every Azurite has.
AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


class Emulator:
    """A process that is an object store."""

    def __init__(self, args: list[str | Path], port: int, folder: Path) -> None:
        self.port = port
        self.process = Process(args, folder / "log")
        wait_until("the store to answer", self._answers, 30)

    def _answers(self) -> bool:
        if self.process.exit_status is not None:
            raise RuntimeError(f"the store ended: {self.process.output()}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=2):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def close(self) -> None:
        """Ends it."""
        self.process.kill()


def azurite(folder: Path) -> tuple[Emulator, Store]:
    """Azurite with a container, and the settings of a broker for it."""
    port = free_port()
    args = ["node", AZURITE, "--blobPort", str(port), "--location", folder / "blobs", "--silent", "--skipApiVersionCheck"]
    emulator = Emulator(args, port, folder)
    _create_container(port)
    endpoint = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}"
    env = {"AZURE_STORAGE_ACCOUNT_NAME": AZURE_ACCOUNT, "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY}
    return emulator, Store(url=f"az://{BUCKET}/firn?endpoint={endpoint}", env=env)


def _create_container(port: int) -> None:
    date = datetime.now(timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    headers = {"x-ms-date": date, "x-ms-version": "2021-12-02"}
    named = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
    resource = f"/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{BUCKET}\nrestype:container"
    # Verb, eleven headers that are empty, those of Azure, the resource.
    signed = "PUT" + "\n" * 12 + named + resource
    digest = hmac.new(base64.b64decode(AZURE_KEY), signed.encode(), hashlib.sha256).digest()
    headers["Authorization"] = f"SharedKey {AZURE_ACCOUNT}:{base64.b64encode(digest).decode()}"
    url = f"http://127.0.0.1:{port}/{AZURE_ACCOUNT}/{BUCKET}?restype=container"
    request = urllib.request.Request(url, method="PUT", headers=headers)
    urllib.request.urlopen(request, timeout=10).close()


def google(folder: Path) -> tuple[WeakStore, Store]:
    """A stand-in for Google's store, and the settings of a broker for it: a service account that names the endpoint.

    fake-gcs-server 1.56 does not know the XML API, by which objects are written and listed.
    """
    stand_in = WeakStore(Flaw.NONE)
    account = folder / "account.json"
    unused = {"client_email": "", "private_key": "", "private_key_id": ""}
    account.write_text(json.dumps({"gcs_base_url": stand_in.endpoint, "disable_oauth": True, **unused}))
    return stand_in, Store(url=f"gs://{BUCKET}/firn", env={"GOOGLE_SERVICE_ACCOUNT": str(account)})
