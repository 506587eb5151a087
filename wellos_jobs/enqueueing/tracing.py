"""Where work comes from: the id of the request, and of the trace, that a job and its log lines can be told by."""

from __future__ import annotations

import re
import uuid
from contextvars import ContextVar, Token

REQUEST_ID = re.compile(r"[A-Za-z0-9._:@=+/-]{1,128}")
"""What is taken for the id of a request when somebody sends one; anything else is ignored."""
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")

_origin: ContextVar[dict[str, str]] = ContextVar("wellos_jobs_origin")

Origin = dict[str, str]
"""``request_id`` and ``trace_id``, as far as they are known."""


def origin() -> Origin:
    """Return what is known of where the present work comes from: in a request, in a run, and in what they call."""
    return _origin.get({})


def begin(known: Origin) -> Token[Origin]:
    """Let what follows in this context come from there; ``end`` takes it back."""
    return _origin.set(
        {name: known[name] for name in ("request_id", "trace_id") if known.get(name)}
    )


def end(token: Token[Origin]) -> None:
    """Take ``begin`` back."""
    _origin.reset(token)


def of_headers(request_id: str, traceparent: str) -> Origin:
    """Return the origin that a request's headers name; without a usable id it gets a new one."""
    found = {"request_id": request_id if REQUEST_ID.fullmatch(request_id) else uuid.uuid4().hex}
    if (parent := _TRACEPARENT.fullmatch(traceparent)) and parent[1].strip("0"):
        found["trace_id"] = parent[1]
    return found
