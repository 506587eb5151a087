"""What a run leaves behind in database connections: broken ones, old ones, open transactions.

None of this sends a query, unless a transaction was left open.
"""

from __future__ import annotations

import logging
from typing import Any

from django.db import Error, connections

from ..errors import TransactionLeftOpen

logger = logging.getLogger("wellos_jobs")


def close_stale_connections() -> None:
    """Close database connections that are broken or too old.

    Connections inside a transaction, such as a test's, are left alone.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


class TransactionWatch:
    """Notes which transactions are open in this thread, and ends those that come to it.

    A transaction that stays open swallows the work of all later jobs of the process, and on SQLite
    it locks the database. ``whose`` is named in the warning.
    """

    __slots__ = ("_before", "_whose")

    def __init__(self, whose: str) -> None:
        self._whose = whose
        self._before = {
            connection.alias: (len(connection.atomic_blocks), _has_autocommit(connection))
            for connection in connections.all(initialized_only=True)
        }

    def end(self) -> list[str]:
        """Roll back what was opened since and is still open; return the aliases concerned."""
        left = [
            connection
            for connection in connections.all(initialized_only=True)
            if self._is_left_open(connection)
        ]
        for connection in left:
            self._roll_back(connection)
        return [connection.alias for connection in left]

    def check(self) -> None:
        """As ``end``, but raise TransactionLeftOpen if there was one."""
        if left := self.end():
            raise TransactionLeftOpen(left)

    def _is_left_open(self, connection: Any) -> bool:
        depth, autocommit = self._state_before(connection)
        if len(connection.atomic_blocks) > depth:
            return True
        return autocommit and not _has_autocommit(connection)

    def _state_before(self, connection: Any) -> tuple[int, bool]:
        return self._before.get(connection.alias, (0, bool(connection.settings_dict["AUTOCOMMIT"])))

    def _roll_back(self, connection: Any) -> None:
        depth, _ = self._state_before(connection)
        logger.warning(
            "%s left a transaction open on the database %r: it is rolled back",
            self._whose,
            connection.alias,
        )

        error = TransactionLeftOpen([connection.alias])
        try:
            while len(connection.atomic_blocks) > depth:
                connection.atomic_blocks[-1].__exit__(type(error), error, None)
            if not depth:
                connection.rollback()
        except Error as failed:  # the connection is broken: the database has rolled back by itself
            logger.warning("the rollback on %r failed: %s", connection.alias, failed)

        if not depth:
            connection.in_atomic_block = False
            connection.close()


def _has_autocommit(connection: Any) -> bool:
    """Return whether a connection is in autocommit mode; one that is not open will be."""
    if connection.connection is None or connection.in_atomic_block:
        return True
    return bool(connection.autocommit)
