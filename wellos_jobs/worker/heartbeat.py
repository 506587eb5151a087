"""The heartbeat of a supervisor, in the call that renews the leases of its workers."""

from __future__ import annotations

import json
import os
import platform
import socket
import time
from collections.abc import Collection, Sequence
from typing import Any

import redis as redis_py
from django import get_version

from .. import broker, conf
from ..broker import keys
from ..processes.child import Child
from ..version import __version__


class Heartbeat:
    """One supervisor as Redis knows it.

    ``kind`` is ``workers`` or ``clock``. ``ttl``: seconds after which Redis forgets the supervisor
    and the keys of its workers, without renewal.
    """

    def __init__(
        self,
        connection: redis_py.Redis,
        token: str,
        kind: str,
        queues: Sequence[str],
        ttl: int,
        queue_set: str = "",
    ) -> None:
        self._connection = connection
        self._token = token
        self._ttl = ttl
        self.quiet = False
        """Whether an operator has stopped it from taking jobs."""

        self._facts: dict[str, Any] = {
            "kind": kind,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": time.time(),
            "version": __version__,
            "python": platform.python_version(),
            "django": get_version(),
            "queues": list(queues),
            "set": queue_set,
        }

    def renew(self, workers: Collection[Child]) -> set[str]:
        """Renew the supervisor and these workers; return the names that Redis has forgotten.

        Raises redis-py's errors.
        """
        rows: list[Any] = []
        for child in workers:
            run = child.slot.run
            memory = child.memory()
            rows += [child.name, run.job_id if run else "", "" if memory is None else memory]

        quiet, *forgotten = broker.run(
            self._connection,
            "renew",
            broker.rq_time(),
            conf.current().lease,
            self._ttl,
            self._token,
            json.dumps(self._facts),
            *rows,
        )
        self.quiet = bool(quiet)
        return {broker.text(name) for name in forgotten}

    def end(self) -> None:
        """Remove the supervisor. Raises redis-py's errors."""
        with self._connection.pipeline(transaction=False) as pipeline:
            pipeline.delete(keys.supervisor(self._token))
            pipeline.zrem(keys.SUPERVISORS, self._token)
            pipeline.execute()
