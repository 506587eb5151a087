"""Call a job's function as if it ran: with a current job, progress and log, but without a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from .. import CurrentJob, Job
from ..definitions import ids, registry
from ..enqueueing.context import running
from ..worker import log_capture


@dataclass(slots=True)
class DirectRun:
    """A run within ``job_context``: what the job has reported."""

    job: CurrentJob
    reports: list[tuple[int, str]] = field(default_factory=list)
    """Percent and message of each report of progress."""
    _log: log_capture.RunLog | None = None

    @property
    def progress(self) -> int:
        """The last reported percentage; 0 if there was none."""
        return self.reports[-1][0] if self.reports else 0

    @property
    def log(self) -> list[str]:
        """The lines that a real run would store in its log; see ``JOB_LOG_LEVEL``."""
        return [] if self._log is None else [text for _, _, _, text in self._log.lines]


@contextmanager
def job_context(
    job: Job[..., Any] | str,
    *,
    attempt: int = 1,
    data: Mapping[str, Any] | None = None,
    organization: str = "",
    requested_by: Any = None,
    context: Mapping[str, Any] | None = None,
) -> Iterator[DirectRun]:
    """Let ``current_job()`` in the block be a run of this job; then call the job's function.

    Needs neither a row nor a database. ``data`` is what ``current_job().data`` holds, ``context``
    the ids of the request behind the job, such as ``{"request_id": "..."}``.

    Raises:
        UnknownJob: no ``@job`` declares this name.
    """
    definition = registry.get(job if isinstance(job, str) else job.name)
    run = DirectRun(
        CurrentJob(
            id=str(ids.new_id()),
            name=definition.name,
            queue=definition.queue,
            attempt=attempt,
            max_attempts=definition.max_attempts,
            organization_id=organization,
            requested_by_id=str(getattr(requested_by, "pk", requested_by) or ""),
            context=dict(context or {}),
            data=dict(data or {}),
            _report=lambda percent, message, final: run.reports.append((percent, message)),
        ),
        _log=log_capture.new(),
    )
    with running(run.job), log_capture.capture_logs(run._log):
        yield run
