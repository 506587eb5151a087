"""A real SMTP server (aiosmtpd) on loopback for tests, with the moods that servers have.

It runs in a thread of the test's process, so a test sees what it took. ``stop`` and ``start``
restart it on its port; whoever is connected is cut off in the middle of whatever they were saying.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from aiosmtpd.smtp import SMTP

from .servers import free_port

GREYLISTED = "451 4.7.1 Greylisted, try again later"


@dataclass(frozen=True)
class Received:
    """A message that the server has taken, whether or not its answer arrived."""

    to: str
    content: bytes
    connection: int
    """The number of the connection it came over, from 1."""


class SmtpServer:
    """``refuse`` maps a recipient's address to the reply it gets, such as ``{"a@b.example": "550 no
    such user"}``.

    The others name recipients whose *first* message has that fate: ``greylist`` is deferred,
    ``cut`` is taken by nobody (the connection ends instead of an answer), ``swallow`` is taken and
    the connection ends instead of an answer, ``hang_up`` is taken and answered, then the connection
    ends, ``hang`` is taken and never answered.
    """

    def __init__(
        self,
        refuse: Mapping[str, str] | None = None,
        *,
        greylist: Iterable[str] = (),
        cut: Iterable[str] = (),
        swallow: Iterable[str] = (),
        hang_up: Iterable[str] = (),
        hang: Iterable[str] = (),
    ) -> None:
        self.refuse = dict(refuse or {})
        self.greylist = set(greylist)
        self.cut, self.swallow, self.hang_up, self.hang = (
            set(cut),
            set(swallow),
            set(hang_up),
            set(hang),
        )
        self.messages: list[Received] = []
        self.connections = 0
        self.port = free_port()
        self._open: set[asyncio.BaseTransport] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def received(self) -> list[bytes]:
        return [message.content for message in self.messages]

    def copies(self) -> Counter[str]:
        """Return how often each recipient's message was taken."""
        return Counter(message.to for message in list(self.messages))

    def is_connected(self) -> bool:
        """Return whether anybody is connected."""
        return bool(self._open)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen; the port is the same each time."""
        self._loop = loop = asyncio.new_event_loop()
        self._server = loop.run_until_complete(
            loop.create_server(self._protocol, "127.0.0.1", self.port)
        )
        self._thread = threading.Thread(target=loop.run_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Cut all connections and listen no more; does nothing to a stopped server."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        asyncio.run_coroutine_threadsafe(self._end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        self._thread.join(10)
        loop.close()

    async def _end(self) -> None:
        self._server.close()
        # A connection that is being accepted has no transport yet: canceled, it would leave its
        # socket open.
        accepting = [
            task for task in asyncio.all_tasks() if "_accept" in task.get_coro().__qualname__
        ]
        await asyncio.gather(*accepting, return_exceptions=True)

        for transport in list(self._open):
            transport.abort()  # type: ignore[attr-defined]
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for _round in range(3):  # a transport closes its socket in the next round of the loop
            await asyncio.sleep(0)

    def _protocol(self) -> SMTP:
        self.connections += 1
        return _Protocol(self, self.connections)

    def verdict(self, to: str) -> str:
        """Return the answer to RCPT."""
        if to in self.greylist:
            self.greylist.discard(to)
            return GREYLISTED
        return self.refuse.get(to, "250 OK")


class _Protocol(SMTP):
    """One connection; it is its own handler."""

    def __init__(self, outer: SmtpServer, number: int) -> None:
        self.outer, self.number = outer, number
        super().__init__(self, enable_SMTPUTF8=True, hostname="mail.example")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.outer._open.add(transport)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.outer._open.discard(self.transport)
        super().connection_lost(error)

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        verdict = self.outer.verdict(address)
        if verdict.startswith("250"):
            envelope.rcpt_tos.append(address)
        return verdict

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        (to,) = envelope.rcpt_tos
        if to in self.outer.cut:
            self.outer.cut.discard(to)
            return await self._end_here()
        self.outer.messages.append(Received(to, envelope.content, self.number))
        if to in self.outer.swallow:
            self.outer.swallow.discard(to)
            return await self._end_here()
        if to in self.outer.hang:
            self.outer.hang.discard(to)
            await asyncio.sleep(3_600)  # the end of the connection cancels this
        if to in self.outer.hang_up:
            self.outer.hang_up.discard(to)
            asyncio.get_running_loop().call_later(0.005, self.transport.close)
        return "250 OK"

    async def _end_here(self) -> str:
        self.transport.abort()
        await asyncio.sleep(5)  # connection_lost cancels this
        return "421 unreachable"
