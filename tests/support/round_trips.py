"""Counts how often this process waits for Redis: each is one message sent, however many commands
are in it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Self

import pytest
from redis.connection import AbstractConnection

SETUP = frozenset({"HELLO", "CLIENT", "AUTH", "SELECT"})
"""What a new connection says first; it is not counted, since connections are kept."""


class RoundTrips:
    """Wraps the method of redis-py's connections through which all messages go, pipelines
    included."""

    def __init__(self) -> None:
        self._patch = pytest.MonkeyPatch()
        self._watching: list[list[str]] = []
        self._command = ""

    def __enter__(self) -> Self:
        send_command = AbstractConnection.send_command
        send_packed_command = AbstractConnection.send_packed_command

        def named(connection: Any, *arguments: Any, **options: Any) -> Any:
            self._command = str(arguments[0])
            return send_command(connection, *arguments, **options)

        def sent(connection: Any, *arguments: Any, **options: Any) -> Any:
            self._count()
            return send_packed_command(connection, *arguments, **options)

        self._patch.setattr(AbstractConnection, "send_command", named)
        self._patch.setattr(AbstractConnection, "send_packed_command", sent)
        return self

    def __exit__(self, *_: object) -> None:
        self._patch.undo()

    @contextlib.contextmanager
    def counting(self) -> Iterator[list[str]]:
        """Give a list to which each round trip within the block is added: its command, or
        "pipeline"."""
        trips: list[str] = []
        self._watching.append(trips)
        try:
            yield trips
        finally:
            self._watching.remove(trips)

    def _count(self) -> None:
        command, self._command = self._command or "pipeline", ""
        if command.partition(" ")[0] not in SETUP:
            for trips in self._watching:
                trips.append(command)
