"""Batches: many jobs under one name, with common progress and callback jobs when all are done.

    with Batch(name="import", on_complete=report.with_data(file="x.csv")) as batch:
        batch.enqueue_bulk(import_row, rows)

Leaving the block closes the batch; an exception cancels it. One of its jobs can add more:
``Batch.get(batch_id).enqueue(...)``.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.utils import timezone

from .. import broker
from ..database import database_for_new, retry_conflicts, write_alias
from ..definitions import ids
from ..errors import InvalidOperation, JobNotFound
from ..states import FINAL_STATES, BatchState, JobState
from . import control, dependencies
from .chunks import in_chunks
from .decorator import Job, JobCall
from .enqueue import JobOptions, build
from .handle import JobHandle
from .insertion import insert

if TYPE_CHECKING:
    from ..models import JobRecord

logger = logging.getLogger("wellos_jobs")

CHUNK = 1_000
"""Jobs per INSERT when a long iterable is added."""
CALLED_OFF = "The batch was canceled"


class Batch:
    """A batch. Entering the block inserts its row, in the caller's transaction."""

    def __init__(
        self,
        name: str,
        on_complete: JobCall | None = None,
        on_success: JobCall | None = None,
        organization: str | None = None,
        database: str | None = None,
    ) -> None:
        self.id: uuid.UUID = ids.new_id()
        self.name = name
        self.organization = organization or ""
        self._callbacks = {"on_complete": on_complete, "on_success": on_success}
        self._database = database

    @classmethod
    def get(cls, batch_id: uuid.UUID | str, database: str | None = None) -> Batch:
        """Return an existing batch.

        Raises:
            JobNotFound: there is none with this id.
        """
        from ..models import Batch as Row

        using = write_alias(database, Row)
        known = ids.parse_id(batch_id)
        row = Row.objects.using(using).filter(pk=known).first() if known else None
        if row is None:
            raise JobNotFound(f"There is no batch {batch_id} in the database {using!r}")
        batch = cls(row.name, organization=row.organization_id, database=using)
        batch.id = row.pk
        return batch

    @property
    def database(self) -> str:
        """The alias of the database the batch lives in."""
        return database_for_new(self._database)

    def __enter__(self) -> Batch:
        from ..models import Batch as Row

        with transaction.atomic(using=self.database):
            callbacks = {
                name: self._callback(call) if call is not None else None
                for name, call in self._callbacks.items()
            }
            Row.objects.using(self.database).create(
                id=self.id,
                name=self.name,
                organization_id=self.organization,
                created_at=timezone.now(),
                **callbacks,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: object, __: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif not transaction.get_connection(self.database).needs_rollback:
            try:
                self.cancel()
            except broker.Unavailable as error:  # must not hide the exception of the block
                logger.error(
                    "batch %s stays open, because Redis is unavailable: %s", self.id, error
                )

    def enqueue(self, job: Job[..., Any], **data: Any) -> JobHandle:
        """Add one job."""
        return self.enqueue_bulk(job, [data])[0]

    def enqueue_bulk(
        self, job: Job[..., Any], rows: Iterable[Mapping[str, Any]]
    ) -> list[JobHandle]:
        """Add the job once for each dict of arguments; a long iterable is inserted in chunks.

        Raises:
            InvalidOperation: the batch is done.
        """
        options = JobOptions(
            organization=self.organization or None, database=self.database, batch=self.id
        )
        definition, handles = job.definition, []

        def step(chunk: Sequence[Mapping[str, Any]]) -> list[JobHandle]:
            built = [build(definition.name, row, options, definition) for row in chunk]
            with transaction.atomic(using=self.database):
                self._hold_open()
                return insert(built)

        for chunk in in_chunks(rows, CHUNK):
            handles += retry_conflicts(self.database, partial(step, chunk))
        return handles

    def close(self) -> None:
        """Close the batch to more jobs. It is done at once if all its jobs are final."""
        from ..models import Batch as Row

        with transaction.atomic(using=self.database):
            rows = Row.objects.using(self.database).filter(pk=self.id, state=BatchState.OPEN)
            if rows.update(state=BatchState.CLOSED):
                dependencies.settle_batches([self.id], self.database)

    def cancel(self) -> int:
        """Cancel all jobs that are not final and close the batch; return how many there were.

        ``on_complete`` still runs after they have ended; ``on_success`` does not, unless the batch
        was done already.
        """
        self._cancel_on_success()
        canceled = control.cancel_open(self._jobs().exclude(state__in=FINAL_STATES))
        self.close()
        return canceled

    def _cancel_on_success(self) -> None:
        """Cancel ``on_success``, even if no job is left to cancel."""
        from ..models import Batch as Row

        with transaction.atomic(using=self.database):
            rows = Row.objects.using(self.database).select_for_update().filter(pk=self.id)
            row = rows.exclude(state=BatchState.DONE).first()
            callback = row.on_success_id if row is not None else None
            if callback is None:
                return

            ended = dependencies.end([callback], JobState.CANCELED, CALLED_OFF, self.database)
            if ended:
                dependencies.release([record.pk for record in ended], self.database)

    @property
    def progress(self) -> dict[str, int]:
        """Numbers of jobs: total, completed, failed, canceled, open; and percent that is final."""
        counts = dependencies.count_jobs(self.id, self.database)
        total, ended = counts["total"], sum(counts[state.value] for state in FINAL_STATES)
        return {
            **counts,
            "open": total - ended,
            "percent": 100 * ended // total if total else 0,
        }

    @property
    def state(self) -> BatchState:
        """The state of the batch, from its row."""
        from ..models import Batch as Row

        return BatchState(
            Row.objects.using(self.database).values_list("state", flat=True).get(pk=self.id)
        )

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the batch is done, at most ``timeout`` seconds; return whether it is.

        Jobs that are delayed or will be retried are not done.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.state != BatchState.DONE:
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(0.05)
        return True

    def _jobs(self) -> Any:
        from ..models import JobRecord

        return JobRecord.objects.using(self.database).filter(batch_id=self.id)

    def _hold_open(self) -> None:
        """Lock the row, so that the batch cannot finish before the new jobs are in it."""
        from ..models import Batch as Row

        row = Row.objects.using(self.database).select_for_update().filter(pk=self.id).first()
        if row is None:
            raise JobNotFound(
                f"There is no batch {self.id} in the database {self.database!r}: "
                "enter its block first"
            )
        if row.state == BatchState.DONE:
            raise InvalidOperation(
                f"Batch {self.name!r} is done: no more jobs can be added, make a new batch"
            )

    def _callback(self, call: JobCall) -> JobRecord:
        """Insert a callback job, blocked until the batch is done."""
        definition = call.job.definition
        data = dict(call.data)
        if "batch_id" in definition.parameters.known and "batch_id" not in data:
            data["batch_id"] = str(self.id)
        options = JobOptions(organization=self.organization or None, database=self.database)
        record = build(definition.name, data, options, definition)
        record.state = JobState.BLOCKED
        record.save(force_insert=True, using=self.database)
        return record
