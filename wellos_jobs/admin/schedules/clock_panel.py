"""The panel above the list of schedules: is a scheduler running, and which entries are broken."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from django.utils.translation import gettext as _

from ... import broker
from ...broker import keys
from ..ui import display

SHOWN = 20
"""How many broken entries are listed."""


@dataclass
class ClockPanel:
    """State of the schedulers. ``broken`` are rq-scheduler entries: id, reason and Redis."""

    is_running: bool = False
    broken: list[tuple[str, str, str]] = field(default_factory=list)
    more: int = 0
    problems: list[str] = field(default_factory=list)


def clock_panel() -> ClockPanel:
    """Query each Redis, in one round trip."""
    panel = ClockPanel()
    for source in broker.sources():
        try:
            _query(source, panel)
        except broker.Error as error:
            panel.problems.append(
                _("The Redis of queue %(queue)s is unavailable: %(error)s")
                % {"queue": source, "error": error}
            )

    panel.broken.sort()
    panel.more = max(0, len(panel.broken) - SHOWN)
    del panel.broken[SHOWN:]
    return panel


def _query(source: str, panel: ClockPanel) -> None:
    with broker.source_client(source, "call").pipeline(transaction=False) as pipeline:
        pipeline.exists(keys.CLOCK)
        pipeline.hgetall(keys.BROKEN_ENTRIES)
        leading, broken = pipeline.execute()
    panel.is_running = panel.is_running or bool(leading)
    panel.broken += [(broker.text(entry), _reason(text), source) for entry, text in broken.items()]


def _reason(text: bytes | str) -> str:
    try:
        return display.shortened(str(json.loads(text)["reason"]), 200)
    except (ValueError, LookupError, TypeError):
        return display.shortened(broker.text(text), 200)
