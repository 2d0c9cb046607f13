"""A PostgreSQL server of our own for tests: made in a temporary folder, killed and started at will.

Nothing is mocked: the binaries are the system's (Debian: /usr/lib/postgresql/*/bin, `apt-get install postgresql`). The
server listens on a Unix socket only. It refuses to run as root, so root hands it to the user `postgres`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psutil

USER = "aml"
_FOLDERS = ("/usr/lib/postgresql", "/opt/homebrew/opt", "/usr/local/opt", "/usr/pgsql")


def find_binaries() -> Path | None:
    """The folder of `initdb` and `postgres`; None where there is none, or root has nobody to hand it to."""
    on_path = shutil.which("initdb")
    found = [Path(on_path).resolve().parent] if on_path else []
    for folder in _FOLDERS:
        found += sorted((path.parent for path in Path(folder).glob("*/bin/initdb")), reverse=True)
    usable = next((path for path in found if (path / "postgres").exists()), None)
    if usable is not None and os.geteuid() == 0 and not (shutil.which("setpriv") and _postgres_user()):
        return None
    return usable


def _postgres_user() -> bool:
    return subprocess.run(["id", "-u", "postgres"], capture_output=True, check=False).returncode == 0


class Server:
    """One cluster; `url(schema)` names a place in its database."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self.folder = Path(tempfile.mkdtemp(prefix="amlpg"))
        self._process: subprocess.Popen[bytes] | None = None
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        command = ["initdb", "-D", str(self.folder / "data"), "-U", USER, "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(self._as_its_user(command), check=True, capture_output=True, cwd=self.folder)

    def _as_its_user(self, command: list[str]) -> list[str]:
        whole = [str(self._binaries / command[0]), *command[1:]]
        if os.geteuid() == 0:
            return ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups", *whole]
        return whole

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://{USER}@/postgres?host={self.folder}&port=5432"

    def start(self) -> None:
        """Returns once it answers."""
        settings = {"listen_addresses": "", "unix_socket_directories": str(self.folder), "fsync": "off"}
        settings |= {"max_connections": "60", "shared_buffers": "32MB"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._as_its_user(["postgres", "-D", str(self.folder / "data"), *options]),
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        ready = [str(self._binaries / "pg_isready"), "-q", "-h", str(self.folder), "-U", USER]
        for _ in range(300):
            if subprocess.run(ready, check=False).returncode == 0:
                return
            assert self._process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.1)
        raise AssertionError("the server does not answer")

    def kill(self) -> None:
        """As a power cut that spares the disk: SIGKILL to the server and each of its processes."""
        assert self._process is not None
        whole = psutil.Process(self._process.pid)
        for process in [whole, *whole.children(recursive=True)]:
            process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None
        time.sleep(0.2)

    def close(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # "fast": sessions are ended
            self._process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)
