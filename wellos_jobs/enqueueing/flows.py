"""Flows: trees of jobs over several queues, written in one transaction.

    Flow(
        calculate.with_data(month="2026-11"),
        children=[pdf.with_data(), mail.with_data()],
    ).enqueue()

``parent_first``: the children run after the parent has completed. ``children_first``: the parent
runs after all children have. For other shapes, enqueue jobs with ``depends_on``.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any, Literal

from ..database import database_for_new
from ..definitions import ids
from ..errors import BadOption
from ..states import FINAL_STATES, JobState, OnFailure
from . import control
from .decorator import JobCall
from .enqueue import JobOptions, build
from .handle import JobHandle
from .insertion import insert

Order = Literal["parent_first", "children_first"]


class Flow:
    """A job, with flows or jobs below it.

    Raises:
        BadOption: an item is not a job call (use ``job.with_data(...)``), or ``order`` or
            ``on_failure`` is invalid.
    """

    def __init__(
        self,
        job: JobCall,
        children: Sequence[Flow | JobCall] = (),
        order: Order = "parent_first",
        on_failure: str = "cancel",
    ) -> None:
        if not isinstance(job, JobCall):
            raise BadOption(f"Flow: {job!r} is not a job with data: use job.with_data(...)")
        if order not in ("parent_first", "children_first"):
            raise BadOption(
                f"Flow: order is {order!r}: it must be 'parent_first' or 'children_first'"
            )
        if on_failure not in OnFailure.values:
            choices = ", ".join(OnFailure.values)
            raise BadOption(f"Flow: on_failure is {on_failure!r}: it must be one of {choices}")

        self.job = job
        self.children = [
            child if isinstance(child, Flow) else Flow(child, (), order, on_failure)
            for child in children
        ]
        self.order: Order = order
        self.on_failure = on_failure

    def enqueue(self, **options: Any) -> FlowHandle:
        """Insert all jobs of the flow in the caller's transaction.

        The options are those of ``using``, and apply to each job.
        """
        job_options = JobOptions.of("Flow.enqueue", options)
        records = self.records(job_options)
        database = database_for_new(job_options.database)
        handles = insert(records)
        return FlowHandle(records[0].flow_id, handles, str(database))

    def calls(self) -> list[JobCall]:
        """Return all its jobs with their data, the root first."""
        return [self.job, *(call for child in self.children for call in child.calls())]

    def records(self, options: JobOptions) -> list[Any]:
        """Return the unsaved rows of all its jobs, the root first, with a new flow id."""
        built: list[Any] = []
        self._build(options, ids.new_id(), None, built)
        return built

    def _build(
        self, options: JobOptions, flow_id: uuid.UUID, parent: Any, records: list[Any]
    ) -> Any:
        definition = self.job.job.definition
        record = build(definition.name, self.job.data, options, definition)
        record.flow_id, record.on_failure = flow_id, self.on_failure
        record.parent_id = parent.pk if parent is not None else None
        records.append(record)

        children = [child._build(options, flow_id, record, records) for child in self.children]
        if self.order == "children_first":
            record.needs = [*record.needs, *(child.pk for child in children)]
        else:
            for child in children:
                child.needs = [*child.needs, record.pk]
        return record


class FlowHandle:
    """An enqueued flow; ``handles`` are its jobs, a parent before its children."""

    def __init__(self, id: uuid.UUID, handles: list[JobHandle], database: str = "default") -> None:
        self.id = id
        self.handles = handles
        self.database = database

    def __str__(self) -> str:
        return str(self.id)

    @property
    def states(self) -> dict[uuid.UUID, JobState]:
        """The state of each job by its row."""
        return {pk: JobState(state) for pk, state in self._rows().values_list("pk", "state")}

    def wait(self, timeout: float | None = None) -> bool:
        """Block until every job is final, at most ``timeout`` seconds; return whether they are."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._rows().exclude(state__in=FINAL_STATES).exists():
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        return True

    def cancel(self) -> int:
        """Cancel every job that is not final; return how many there were.

        Blocked jobs first: else the end of a job they wait for could still release them.
        """
        rows = self._rows().exclude(state__in=FINAL_STATES)
        open_jobs = sorted(rows, key=lambda record: record.state != JobState.BLOCKED)
        return control.cancel_open(open_jobs)

    def _rows(self) -> Any:
        from ..models import JobRecord

        return JobRecord.objects.using(self.database).filter(flow_id=self.id)
