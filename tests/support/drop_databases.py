"""``python -m tests.support.drop_databases PREFIX``: drop the test databases an interrupted run
left.


A run drops its own databases; one that was killed cannot. Both servers are looked at, where they
can be reached.
"""

from __future__ import annotations

import sys

from . import optional_parts


def main(prefix: str) -> int:
    if len(prefix) < len("test_x"):
        print(f"{prefix!r} is too short: databases of others may be called so, too")
        return 2
    for fault, connect, listing, quote in (
        (
            optional_parts.postgres_fault,
            optional_parts.connect_to_postgres,
            "SELECT datname FROM pg_database",
            '"{}"',
        ),
        (optional_parts.mariadb_fault, optional_parts.connect_to_mariadb, "SHOW DATABASES", "`{}`"),
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
