"""What is done once a transaction has committed, and never harms whoever committed it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.db import transaction


def once_committed(database: str, function: Callable[..., Any], *arguments: Any) -> None:
    """Call a function when the transaction on a database commits, or now if there is none; an error of it is logged."""
    call: Any = partial(function, *arguments)
    call.__qualname__ = getattr(
        function, "__qualname__", repr(function)
    )  # Django 5.2 asks for it when it logs
    transaction.on_commit(call, using=database, robust=True)
