"""RQ's commands to workers, as sent by its CLI, django-rq's pages and our cancel script."""

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
    """One command (stop-job, kill-horse, shutdown) to one worker. ``job_id`` may be ''."""

    worker: str
    verb: str
    job_id: str


def shutdown(source: str, worker: str) -> None:
    """Ask a worker to end after its current job. Raises redis-py's errors."""
    source_client(source, "call").publish(keys.pubsub(worker), json.dumps({"command": "shutdown"}))


class Commands:
    """Listens for commands to any worker of this Redis.

    Commands sent while it is disconnected are lost.
    """

    def __init__(self, connection: redis_py.Redis) -> None:
        self._connection = connection
        self._pubsub: Any = None

    def read(self) -> Iterator[Command]:
        """Yield the commands received since the last call, without waiting.

        Raises redis-py's errors.
        """
        if self._pubsub is None:
            pubsub: Any = self._connection.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
            pubsub.psubscribe(keys.pubsub("*"))
            self._pubsub = pubsub

        while (message := self._pubsub.get_message()) is not None:
            worker = text(message["channel"]).removeprefix(keys.pubsub(""))
            command = _command(worker, message["data"])
            if command is not None:
                yield command

    def drop(self) -> None:
        """Forget a broken connection: the next ``read`` makes a new one."""
        self._pubsub = None


def _command(worker: str, data: bytes) -> Command | None:
    try:
        message = json.loads(data)
        return Command(worker, str(message["command"]), str(message.get("job_id", "")))
    except (ValueError, KeyError, TypeError):
        logger.warning("worker %s: ignored an unknown command: %r", worker, data[:200])
        return None
