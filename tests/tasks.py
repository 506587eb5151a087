"""The tasks of the test project, found as those of any app are."""

from __future__ import annotations

from typing import Any

from django.db import connection

from wellos_jobs import Discard, RateLimit, Retry, Snooze, Unique, current_job, fixed
from wellos_jobs.task_backend import task


@task
def add(a: int, b: int = 2) -> int:
    return a + b


@task
def anything(*args: Any, **kwargs: Any) -> list[Any]:
    return [list(args), kwargs]


@task
def by_position(first: int, /, second: int = 2, *rest: int, third: int = 3) -> list[Any]:
    return [first, second, list(rest), third]


@task
async def add_later(a: int, b: int) -> int:
    return a + b


@task(max_attempts=2, backoff=fixed(0))
def fail(text: str = "no") -> None:
    raise ValueError(text)


@task(max_attempts=3, backoff=fixed(0), takes_context=True)
def fail_until(context: Any, attempt: int) -> int:
    if context.attempt < attempt:
        raise ValueError(f"attempt {context.attempt}")
    return int(context.attempt)


@task(takes_context=True)
async def tell_async(context: Any) -> list[Any]:
    return [context.task_result.id, context.attempt, context.task_result.status]


@task(takes_context=True)
def tell(context: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
    result = context.task_result
    return {
        "id": result.id,
        "attempt": context.attempt,
        "status": result.status,
        "args": result.args,
        "kwargs": result.kwargs,
        "job": current_job().id,
        "workers": result.worker_ids,
    }


@task(sensitive=("token",))
def guarded(user: str, token: str) -> str:
    raise ValueError(f"{user} may not use {token}")


@task(unique=Unique(ttl=60), limits=[RateLimit("100/s", key="tasks:{number}")])
def once(number: int) -> int:
    return number


@task(max_attempts=1)
def strange() -> object:
    return object()


@task
def control(how: str) -> None:
    """End as a job may."""
    raise {"snooze": Snooze(0), "retry": Retry(after=0), "discard": Discard("not wanted")}[how]


def plain() -> str:
    """Return a text. No task."""
    return connection.vendor
