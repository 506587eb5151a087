"""RQ's commands to workers (stop-job, kill-horse, shutdown), as its CLI, django-rq's pages and our cancel send them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import redis as redis_py

from . import keys
from .connection import source_client, text

logger = logging.getLogger("wellos_jobs")


@dataclass(frozen=True, slots=True)
class Command:
    """One command to one worker. ``job_id`` is '' where none is meant."""

    worker: str
    verb: str
    job_id: str


def shutdown(source: str, worker: str) -> None:
    """Tell a worker to end after the job it is in. Raises redis-py's errors."""
    source_client(source, "call").publish(keys.pubsub(worker), json.dumps({"command": "shutdown"}))


class Commands:
    """Listens for all workers of this Redis. What is sent while Redis is away is lost."""

    def __init__(self, connection: redis_py.Redis) -> None:
        self._connection = connection
        self._pubsub: Any = None

    def read(self) -> Iterator[Command]:
        """Yield what has come since; never waits. Raises redis-py's errors."""
        if self._pubsub is None:
            pubsub: Any = self._connection.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
            pubsub.psubscribe(f"{keys.PREFIX}:pubsub:*")
            self._pubsub = pubsub
        while (message := self._pubsub.get_message()) is not None:
            worker = text(message["channel"]).removeprefix(f"{keys.PREFIX}:pubsub:")
            command = _command(worker, message["data"])
            if command is not None:
                yield command

    def drop(self) -> None:
        """Let go of a connection that broke: the next ``read`` makes another."""
        self._pubsub = None


def _command(worker: str, data: bytes) -> Command | None:
    try:
        told = json.loads(data)
        return Command(worker, str(told["command"]), str(told.get("job_id", "")))
    except (ValueError, KeyError, TypeError):
        logger.warning("worker %s: a command that is not RQ's was ignored: %r", worker, data[:200])
        return None
