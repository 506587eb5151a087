"""Where one message of Redis' protocol ends and the next begins (RESP 2 and 3, requests and
replies)."""

from __future__ import annotations

LINES = frozenset(b"+-:_#,(")
BULKS = frozenset(b"$!=")
LISTS = frozenset(b"*~>")
MAPS = frozenset(b"%|")


class Scanner:
    """Cuts a stream of bytes into whole messages."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they come; return the messages that are now complete."""
        self._buffer += data
        messages = []
        start = 0
        while (end := _end_of_message(self._buffer, start)) is not None:
            messages.append(self._buffer[start:end])
            start = end
        self._buffer = self._buffer[start:]
        return messages


def _end_of_message(data: bytes, start: int) -> int | None:
    """Return where the message at ``start`` ends, or None when it is not all there."""
    position, missing = start, 1
    while missing:
        line_end = data.find(b"\r\n", position)
        if line_end < 0:
            return None
        kind, text = data[position], data[position + 1 : line_end]
        position = line_end + 2
        missing -= 1
        if kind in LINES:
            continue
        size = int(text)
        if kind in BULKS:
            position += size + 2 if size >= 0 else 0
        elif kind in LISTS:
            missing += max(size, 0)
        elif kind in MAPS:
            missing += 2 * size + (
                kind == ord("|")
            )  # an attribute precedes the message that it is about
        else:
            raise ValueError(f"not Redis' protocol: {data[start : start + 40]!r}")
    return position if position <= len(data) else None
