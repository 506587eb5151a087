"""A primary with a replica behind three real Sentinels, as in production."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from .processes import wait_until
from .servers import RedisServer

MASTER_NAME = "jobs"
DOWN_AFTER_MS = 1_000


class Sentinel(RedisServer):
    """One Sentinel that watches a primary."""

    def __init__(self, folder: Path, primary: RedisServer) -> None:
        super().__init__(folder)
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            f"sentinel monitor {MASTER_NAME} 127.0.0.1 {primary.port} 2",
            f"sentinel down-after-milliseconds {MASTER_NAME} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {MASTER_NAME} 3000",
        ]
        self._file = self.folder / "sentinel.conf"
        self._file.write_text("\n".join(lines) + "\n")

    def _options(self) -> list[str]:
        return [str(self._file), "--sentinel"]


class SentinelGroup:
    """Two servers and three Sentinels that know each other; used as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.primary = RedisServer(folder / "primary")
        self.replica = RedisServer(folder / "replica")
        self.sentinels: Sequence[Sentinel] = [
            Sentinel(folder / f"sentinel-{n}", self.primary) for n in range(3)
        ]
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for server in (self.primary, self.replica):
            self._stack.enter_context(server)
        with self.replica.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", self.primary.port)
        with self.primary.client() as client:
            wait_until(lambda: client.info("replication")["connected_slaves"] == 1)
        for sentinel in self.sentinels:
            self._stack.enter_context(sentinel)
        wait_until(self._is_complete, 20, "the Sentinels to know each other and the replica")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the Sentinels are, in the order in which clients ask them."""
        return [("127.0.0.1", sentinel.port) for sentinel in self.sentinels]

    @property
    def queue(self) -> dict[str, Any]:
        """An entry of ``RQ_QUEUES``."""
        return {
            "SENTINELS": self.addresses,
            "MASTER_NAME": MASTER_NAME,
            "DB": 0,
            "SERIALIZER": "rq.serializers.JSONSerializer",
        }

    def _is_complete(self) -> bool:
        for sentinel in self.sentinels:
            with sentinel.client() as client:
                known: Any = client.sentinel_masters()
                state = known[MASTER_NAME]
                if state["num-other-sentinels"] < 2 or state["num-slaves"] < 1:
                    return False
        return True
