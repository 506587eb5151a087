"""``python -m tests.leftovers PREFIX``: drop the databases of an interrupted run, by the prefix of their names.

A run drops its own databases; one that was killed cannot. Both servers are looked at, where they can be reached.
"""

from __future__ import annotations

import sys

from . import optional


def main(prefix: str) -> int:
    if len(prefix) < len("test_x"):
        print(f"{prefix!r} is too short: databases of others may be called so, too")
        return 2
    for fault, connect, listing, quote in (
        (optional.postgres_fault, optional.connect_to_postgres, "SELECT datname FROM pg_database", '"{}"'),
        (optional.mariadb_fault, optional.connect_to_mariadb, "SHOW DATABASES", "`{}`"),
    ):
        if fault() is not None:
            continue
        with connect() as connection, connection.cursor() as cursor:
            cursor.execute(listing)
            for (name,) in cursor.fetchall():
                if name.startswith(prefix):
                    cursor.execute(f"DROP DATABASE {quote.format(name)}")
                    print(f"dropped {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
