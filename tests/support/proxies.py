"""TCP proxies on loopback that fail as networks do.

``Proxy`` forwards to any server, and can refuse and break connections. ``CuttingProxy`` reads
Redis' protocol and can cut a connection after the server has carried out a command, so that its
reply is lost.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from .resp import Scanner

CHUNK = 65_536


class Proxy:
    """Forwards each connection to ``target``, a (host, port); used as a context manager."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.target = target
        self.port = 0
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._links: set[Link] = set()

    def __enter__(self) -> Self:
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()

    def url_for(self, url: str) -> str:
        """Return ``url`` with this proxy in the server's place."""
        parts = urlsplit(url)
        credentials = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        return parts._replace(netloc=f"{credentials}127.0.0.1:{self.port}").geturl()

    def accept(self) -> None:
        """Take connections (again), on the same port as before."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._serve, args=(listener,), daemon=True).start()

    def refuse(self) -> None:
        """Break every connection and refuse new ones, as a server that is down does."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
        self.break_connections()

    @contextlib.contextmanager
    def refusing(self) -> Iterator[None]:
        """Refuse within the block."""
        self.refuse()
        try:
            yield
        finally:
            self.accept()

    def break_connections(self) -> None:
        """Break every connection; new ones are taken."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.cut()

    def _serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client = listener.accept()[0]
            except OSError:  # refuse() closed it
                return
            try:
                server = socket.create_connection(self.target, timeout=5)
            except OSError:  # as if there were no proxy
                client.close()
                continue
            server.settimeout(None)
            self._connect(client, server, listener)

    def _connect(
        self, client: socket.socket, server: socket.socket, listener: socket.socket
    ) -> None:
        link = self._link(client, server)
        with self._lock:
            self._links.add(link)
        if self._listener is not listener:  # refuse() came while the server was called
            link.cut()
        for pump in (link.pump_requests, link.pump_replies):
            threading.Thread(target=self._run, args=(link, pump), daemon=True).start()

    def _run(self, link: Link, pump: Callable[[], None]) -> None:
        try:
            pump()
        except OSError:  # one side broke it, or cut() did
            pass
        finally:
            link.cut()
            with self._lock:
                self._links.discard(link)

    def _link(self, client: socket.socket, server: socket.socket) -> Link:
        return Link(client, server)


class Link:
    """One connection through a proxy: a socket to each side, a thread for each direction."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server

    def pump_requests(self) -> None:
        while data := self.client.recv(CHUNK):
            self.server.sendall(data)

    def pump_replies(self) -> None:
        while data := self.server.recv(CHUNK):
            self.client.sendall(data)

    def cut(self) -> None:
        """Break the connection to both sides, without a farewell."""
        for side in (self.client, self.server):
            with contextlib.suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)  # wakes the other thread, which may be in recv()
            with contextlib.suppress(OSError):
                side.close()


@dataclass(eq=False)
class Cut:
    """A cut to come: after the ``nth`` command that has ``text`` in it was carried out, before its
    reply."""

    text: bytes
    nth: int
    done: threading.Event = field(default_factory=threading.Event)
    seen: int = 0

    def wait(self, timeout: float = 30.0) -> None:
        """Wait until it has happened."""
        assert self.done.wait(timeout), (
            f"no {self.nth}. reply to a command with {self.text!r} in {timeout} s"
        )


class CuttingProxy(Proxy):
    """A proxy for a Redis server, given by its URL."""

    def __init__(self, server_url: str) -> None:
        parts = urlsplit(server_url)
        super().__init__((parts.hostname or "127.0.0.1", parts.port or 6379))
        self._server_url = server_url
        self._cuts: list[Cut] = []

    @property
    def url(self) -> str:
        """The URL to give to clients."""
        return self.url_for(self._server_url)

    def cut_reply(self, text: str | bytes, nth: int = 1) -> Cut:
        """Break the connection instead of passing on the reply to the ``nth`` command from now that
        contains ``text``.

        The server has executed the command by then. ``text`` is searched in the command's bytes; a
        script is called by its hash (see ``broker.connection.script_digest``). NOSCRIPT replies are
        passed on and do not count: nothing was executed.
        """
        cut = Cut(text.encode() if isinstance(text, str) else text, nth)
        with self._lock:
            self._cuts.append(cut)
        return cut

    def due(self, request: bytes, reply: bytes) -> Cut | None:
        """Count a command that was carried out; return the cut that it is time for."""
        if reply.startswith(b"-NOSCRIPT"):
            return None
        with self._lock:
            for cut in self._cuts:
                if cut.text in request:
                    cut.seen += 1
                    if cut.seen == cut.nth:
                        self._cuts.remove(cut)
                        return cut
        return None

    def _link(self, client: socket.socket, server: socket.socket) -> Link:
        return RedisLink(client, server, self)


class RedisLink(Link):
    """A connection whose requests and replies are matched, one by one, in order."""

    def __init__(self, client: socket.socket, server: socket.socket, proxy: CuttingProxy) -> None:
        super().__init__(client, server)
        self._proxy = proxy
        self._lock = threading.Lock()
        self._open: list[bytes] = []

    def pump_requests(self) -> None:
        scanner = Scanner()
        while data := self.client.recv(CHUNK):
            with self._lock:  # noted before the server can answer
                self._open += scanner.feed(data)
            self.server.sendall(data)

    def pump_replies(self) -> None:
        scanner = Scanner()
        while data := self.server.recv(CHUNK):
            for reply in scanner.feed(data):
                cut = (
                    None if reply.startswith(b">") else self._answered(reply)
                )  # a push answers nothing
                if cut is not None:
                    self.cut()
                    cut.done.set()
                    return
                self.client.sendall(reply)

    def _answered(self, reply: bytes) -> Cut | None:
        with self._lock:
            request = self._open.pop(0) if self._open else b""
        return self._proxy.due(request, reply)
