"""Server-Sent Events as a browser takes them: a real ASGI server, and listeners that note what
comes."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple, Self

from django.test import Client

from .processes import Fleet, Process, wait_until
from .servers import free_port


class Heard(NamedTuple):
    """One event; ``data`` is decoded. A comment has the name ''."""

    name: str
    data: Any
    id: str = ""


class Server:
    """uvicorn with the test project."""

    def __init__(self, fleet: Fleet) -> None:
        self.port = free_port()
        self._fleet = fleet
        self.process = self.start()

    def start(self) -> Process:
        """Start it, again on the same port."""
        options = ("--port", str(self.port), "--no-access-log", "--timeout-graceful-shutdown", "1")
        self.process = self._fleet.start(
            "-m", "uvicorn", "tests.support.asgi:application", *options
        )
        self._fleet.wait_until(self._answers, 30, "uvicorn to answer")
        return self.process

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def listen(self, job_id: object, user: Any = None, *, last_id: str = "") -> Listener:
        return Listener(self.port, f"/jobs/{job_id}/events", user, last_id)

    def connections(self) -> int:
        """Return how many TCP connections with clients it holds."""
        table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[1].endswith(f":{self.port:04X}") and row[3] == "01" for row in table)

    def threads(self) -> int:
        """Return how many threads it has."""
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/jobs/x/status", timeout=5):
                return False
        except urllib.error.HTTPError as error:
            return error.code == 404
        except OSError:
            return False


class Listener:
    """One open page. It listens in a thread until the server ends the stream or ``close``."""

    def __init__(self, port: int, path: str, user: Any, last_id: str) -> None:
        self.events: list[Heard] = []
        self.has_ended = threading.Event()
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        headers = {"Accept": "text/event-stream", "Last-Event-ID": last_id} if last_id else {}
        if user is not None:
            client = Client()
            client.force_login(user)
            headers["Cookie"] = f"sessionid={client.cookies['sessionid'].value}"
        self._connection.request("GET", path, headers=headers)
        self._socket: socket.socket = self._connection.sock
        self.response = self._connection.getresponse()
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """The statuses that came, in order."""
        return [event.data for event in self.events if event.name == "job"]

    @property
    def states(self) -> list[str]:
        """The states that came, in order, each once while it lasted."""
        found: list[str] = []
        for job in self.jobs:
            if [job["state"]] != found[-1:]:
                found.append(job["state"])
        return found

    def wait_for(self, what: str, **fields: Any) -> dict[str, Any]:
        """Wait for a status with these fields; return it."""

        def look() -> dict[str, Any] | None:
            assert self.jobs, "nothing has come"
            found = [job for job in self.jobs if {name: job[name] for name in fields} == fields]
            assert found, self.jobs[-1]
            return found[0]

        return wait_until(look, 30, what)  # type: ignore[return-value]

    def wait_for_end(self) -> Heard:
        """Wait until the server has ended the stream; return the last event."""
        assert self.has_ended.wait(30), self.events
        return self.events[-1]

    def close(self) -> None:
        """Go away, as a closed page does."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _listen(self) -> None:
        fields: dict[str, str] = {}
        try:
            for raw in self.response:
                line = raw.decode().rstrip("\n")
                if line.startswith(":"):
                    self.events.append(Heard("", line[1:].strip()))
                elif line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                elif "event" in fields:
                    self.events.append(
                        Heard(fields["event"], json.loads(fields["data"]), fields.get("id", ""))
                    )
                    fields = {}
        except (
            OSError,
            http.client.HTTPException,
            ValueError,
            AttributeError,
        ):  # close(), or the server was killed
            pass
        finally:
            self.has_ended.set()
