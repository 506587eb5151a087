"""Plain functions for RQ's own API: what they were asked to do stands in ``CALLS``."""

from __future__ import annotations

import logging
import time
from typing import Any

from rq import Retry, get_current_job

CALLS: list[tuple[Any, ...]] = []


def note(value: Any) -> Any:
    CALLS.append(("note", value))
    return value


def say(text: str) -> None:
    logging.getLogger("shop.stock").info(text)


def fail_until(call: int) -> int:
    """Fail in every call of this job before the given one."""
    CALLS.append(("fail_until",))
    if len(CALLS) < call:
        raise ConnectionError(f"call {len(CALLS)}")
    return call


def ask_again(times: int) -> Any:
    job = get_current_job()
    return Retry(max=3) if (job.number_of_retries or 0) < times else "done"


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def look_at_the_registry() -> float:
    """Return the score of this run among those that RQ takes for running."""
    job = get_current_job()
    job.started_job_registry.cleanup()
    [(_, score)] = job.connection.zrange(job.started_job_registry.key, 0, -1, withscores=True)
    return float(score)


def succeeded(job: Any, connection: Any, result: Any) -> None:
    CALLS.append(("succeeded", job.id, result))


def failed(
    job: Any, connection: Any, kind: type[BaseException], value: BaseException, trace: Any
) -> None:
    CALLS.append(("failed", job.id, kind.__name__))


def broken_callback(job: Any, connection: Any, result: Any) -> None:
    raise RuntimeError("the callback is broken")


def handle(job: Any, kind: type[BaseException], value: BaseException, trace: Any) -> bool:
    """An exception handler as RQ_EXCEPTION_HANDLERS names it."""
    CALLS.append(("handled", job.id, kind.__name__))
    return True
