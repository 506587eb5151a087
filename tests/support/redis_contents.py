"""What a Redis server holds, as text."""

from __future__ import annotations

from collections.abc import Iterator

import redis


def contents_of_redis(client: redis.Redis) -> Iterator[str]:
    """Yield every key and value, streams included, of all logical databases."""
    for database in range(16):
        client.select(database)
        for key in client.scan_iter():
            yield repr(key)
            match client.type(key):
                case b"string":
                    yield repr(client.get(key))
                case b"hash":
                    yield repr(client.hgetall(key))
                case b"list":
                    yield repr(client.lrange(key, 0, -1))
                case b"set":
                    yield repr(client.smembers(key))
                case b"zset":
                    yield repr(client.zrange(key, 0, -1, withscores=True))
                case b"stream":
                    yield repr(client.xrange(key))
                case b"none":
                    pass  # it has expired since it was listed
                case other:
                    raise AssertionError(f"no reader for {other!r}")
    client.select(0)
