"""A primary, its replica and the address at which clients reach one of them, as behind a service.

The replica can be stopped from following while the primary goes on: it then has older data when it
takes the primary's place.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Self

from .processes import wait_until
from .proxies import Proxy
from .servers import RedisServer


class FailoverPair:
    """Two real servers and a proxy before them; used as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.primary = RedisServer(folder / "primary")
        self.replica = RedisServer(folder / "replica")
        self._proxy = Proxy(("127.0.0.1", self.primary.port))
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for part in (self.primary, self.replica, self._proxy):
            self._stack.enter_context(part)
        with self.replica.client() as client:
            client.execute_command("REPLICAOF", "127.0.0.1", self.primary.port)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def url(self) -> str:
        """The URL of whichever server is the primary."""
        return f"redis://127.0.0.1:{self._proxy.port}/0"

    def stop_following(self) -> None:
        """Let the replica catch up, then keep its data as they are now."""
        with self.primary.client() as primary, self.replica.client() as replica:

            def is_level() -> bool:
                sent = primary.info("replication")["master_repl_offset"]
                got = replica.info("replication")
                return bool(got["master_link_status"] == "up") and got["slave_repl_offset"] >= sent

            wait_until(is_level, what="the replica to have all data")
            replica.execute_command("REPLICAOF", "NO", "ONE")

    def fail_over(self) -> None:
        """Kill the primary; from now on the replica answers at the address."""
        self._proxy.target = ("127.0.0.1", self.replica.port)
        self.primary.kill9()
        self._proxy.break_connections()
