"""Jobs that are declared within a test: what they do stands beside what is expected of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from wellos_jobs import Job, job


def local_job(name: str, **options: Any) -> Callable[[Callable[..., Any]], Job[..., Any]]:
    """``@job`` for a function that no worker could import. Nothing but a test runs it."""

    def declare(function: Callable[..., Any]) -> Job[..., Any]:
        function.__qualname__ = name
        return job(name, **options)(function)

    return declare
