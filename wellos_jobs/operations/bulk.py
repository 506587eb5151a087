"""Bulk operations: one act on all rows that match, done by a job, chunk by chunk.

The rows are told by the query string of the admin's list, and looked up as that list would for the
same person, when the job runs: so permissions and the border of organizations count then, too. Each
chunk and the note of it are one transaction, so a worker that is killed leaves nothing half done,
and no row is treated twice. Rows that are not tried, since Redis is away, are noted with the chunk
and tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from .. import conf
from ..definitions.retry import Discard, Snooze
from ..enqueueing.context import current_job, report_progress
from ..enqueueing.decorator import job
from ..enqueueing.handle import JobHandle
from ..errors import InvalidOperation
from ..models import AuditEntry, BulkOperation
from .audit import Act, Report
from .edits import assign_many
from .jobs import cancel_many, discard_many, replay_many, retry_many
from .queues import change_priority_many, move_many, promote_many

CHUNK = 100
KEPT_REFUSALS = 20
REDIS_AWAY = 5
"""Seconds after which rows are tried again that were not, since Redis was away."""
JOB_NAME = "wellos-bulk-operation"


@dataclass(frozen=True)
class Verb:
    """What can be done to many rows: the permission of this app it needs, the operation, and what it is called.

    The permission may hold ``{model}``, the model of the list.
    """

    permission: str
    operation: Callable[..., Report]
    title: str | Promise


VERBS: Mapping[str, Verb] = {
    "retry_jobs": Verb("retry_job", retry_many, gettext_lazy("Retry jobs")),
    "cancel_jobs": Verb("cancel_job", cancel_many, gettext_lazy("Cancel jobs")),
    "promote_jobs": Verb("promote_job", promote_many, gettext_lazy("Run delayed jobs now")),
    "change_priority": Verb(
        "change_job_priority", change_priority_many, gettext_lazy("Change the priority of jobs")
    ),
    "move_jobs": Verb("move_job", move_many, gettext_lazy("Move jobs to another queue")),
    "replay_dead_letters": Verb(
        "replay_deadletter", replay_many, gettext_lazy("Replay dead letters")
    ),
    "assign_dead_letters": Verb(
        "assign_deadletter", assign_many, gettext_lazy("Assign dead letters")
    ),
    "discard_dead_letters": Verb(
        "discard_deadletter", discard_many, gettext_lazy("Discard dead letters")
    ),
}
"""By the name of the admin's action."""


def title(action: str) -> str:
    """Return what an action is called; one that is gone since by its name."""
    return str(VERBS[action].title) if action in VERBS else action


def begin(
    action: str,
    rows: QuerySet[Any],
    *,
    site: str,
    query: str,
    rate: float | None,
    total: int | None,
    act: Act,
    choice: Mapping[str, Any] | None = None,
) -> BulkOperation:
    """Enqueue the job that does ``action`` to all ``rows``, which the list of the admin site shows under ``query``.

    ``rate`` is how many rows a second at most; None for as fast as it goes. ``total`` is how many
    rows there are; None if they are too many to count while somebody waits: the job counts them.
    ``choice`` holds what else the operation is told, by the names of its arguments, as JSON can
    keep it.
    """
    using = rows.db
    with transaction.atomic(using=using):
        operation = BulkOperation.objects.using(using).create(
            action=action,
            model=rows.model._meta.model_name,
            site=site,
            query=query,
            options=({} if rate is None else {"rate": rate})
            | ({"choice": dict(choice)} if choice else {}),
            actor_id=act.by.pk,
            actor_name=act.by.get_username()[:150],
            address=act.address[:64],
            reason=act.reason,
            total=total or 0,
            bound=str(rows.order_by("-pk").values_list("pk", flat=True).first() or ""),
            created_at=timezone.now(),
        )
        options: dict[str, Any] = {"queue": _queue(), "requested_by": act.by, "database": using}
        operation.job_id = run_bulk_operation.using(**options).enqueue(operation_id=operation.pk).id
        operation.save(using=using, update_fields=["job"])
    return operation


def stop(operation: BulkOperation, *, by: Any, reason: str = "", address: str = "") -> None:
    """Let an operation end before its next chunk.

    Raises:
        InvalidOperation: it has ended already.
    """
    rows = BulkOperation.objects.using(operation._state.db).filter(
        pk=operation.pk, finished_at=None, stopped_by=""
    )
    with transaction.atomic(using=operation._state.db):
        if not rows.update(stopped_by=by.get_username()[:150]):
            raise InvalidOperation(_("It has ended already"))
        Act(by, reason, address).entry("stopped", "bulk", operation.pk).save(
            using=operation._state.db
        )


def handle_of(operation: BulkOperation) -> JobHandle | None:
    """Return the job of an operation, if it is still kept."""
    if operation.job is None:
        return None
    return JobHandle(operation.job.pk, operation.job.queue, str(operation._state.db))


@job(JOB_NAME, max_attempts=20, timeout=86_400)
def run_bulk_operation(operation_id: int) -> dict[str, Any]:
    """Do what is left of an operation; return how many rows were done and left alone."""
    using = current_job().database
    operation = BulkOperation.objects.using(using).select_related("job").get(pk=operation_id)
    verb, rows = VERBS[operation.action], _rows(operation)
    if not operation.total and not operation.finished_at:
        operation.total = _left(operation, rows).count()
        operation.save(using=using, update_fields=["total"])
    while not operation.finished_at:
        begun = time.monotonic()
        treated = _chunk(operation, verb, rows)
        if operation.options.get("untried"):
            raise Snooze(REDIS_AWAY, "Redis is away")
        report_progress(
            operation.percent, f"{operation.done + operation.refused} of {operation.total}"
        )
        if rate := operation.options.get("rate"):
            time.sleep(max(0.0, treated / rate - (time.monotonic() - begun)))
    return {
        "done": operation.done,
        "left_alone": operation.refused,
        "stopped_by": operation.stopped_by,
    }


def _chunk(operation: BulkOperation, verb: Verb, rows: QuerySet[Any]) -> int:
    """Treat the next rows and note it, in one transaction; return how many there were."""
    using = str(operation._state.db)
    act = {"by": operation.actor, "reason": operation.reason, "address": operation.address}
    with transaction.atomic(using=using):
        operation.refresh_from_db(
            from_queryset=BulkOperation.objects.using(using).select_for_update()
        )
        if operation.finished_at:
            return 0
        again = operation.options.pop("untried", [])
        keys = [] if operation.stopped_by else again or _next_keys(operation, rows)
        if keys:
            chosen = rows.model._default_manager.using(using).filter(pk__in=keys)
            report = verb.operation(chosen, **operation.options.get("choice", {}), **act)
            operation.done += report.done
            operation.refused += len(keys) - report.done - len(report.untried)
            operation.refusals = [*operation.refusals, *report.refused][:KEPT_REFUSALS]
            if report.untried:
                operation.options["untried"] = [str(key) for key in report.untried]
            operation.last = operation.last if again else str(keys[-1])
        else:
            operation.finished_at = timezone.now()
            operation.total = max(
                operation.total, operation.done + operation.refused
            )  # more came up to the bound
            _note_end(operation)
        operation.save(using=using)
    return len(keys)


def _next_keys(operation: BulkOperation, rows: QuerySet[Any]) -> list[Any]:
    most = (
        CHUNK
        if "rate" not in operation.options
        else max(1, min(CHUNK, int(operation.options["rate"])))
    )
    return list(_left(operation, rows).values_list("pk", flat=True)[:most])


def _left(operation: BulkOperation, rows: QuerySet[Any]) -> QuerySet[Any]:
    """Return the rows that are meant and were not treated yet, in the order in which they are."""
    left = rows.order_by("pk").filter(pk__lte=operation.bound) if operation.bound else rows.none()
    return left.filter(pk__gt=operation.last) if operation.last else left


def _note_end(operation: BulkOperation) -> None:
    act = Act(operation.actor, operation.reason, operation.address)
    told = {"total": operation.total, "done": operation.done, "left_alone": operation.refused}
    told |= operation.options.get("choice", {})
    entry = act.entry(
        operation.action, "bulk", operation.pk, query=operation.query, rows=operation.model, **told
    )
    entry.actor_name = operation.actor_name
    AuditEntry.objects.using(operation._state.db).bulk_create([entry])


def _rows(operation: BulkOperation) -> QuerySet[Any]:
    """Return the rows that the admin's list shows to this person under the query, as of now."""
    actor: Any = get_user_model()._default_manager.filter(pk=operation.actor_id or 0).first()
    if (
        actor is None
        or not actor.is_active
        or not actor.has_perm(f"wellos_jobs.{VERBS[operation.action].permission}")
    ):
        raise Discard(f"{operation.actor_name} may not do this any more")
    request: Any = HttpRequest()
    request.method, request.GET, request.user = "GET", QueryDict(operation.query), actor
    request.current_app = operation.site
    rows: QuerySet[Any] = _list_of(operation).get_changelist_instance(request).get_queryset(request)
    return rows.using(operation._state.db)


def _list_of(operation: BulkOperation) -> Any:
    from django.contrib.admin.sites import (
        all_sites,
    )  # only here: a project may do without the admin

    for site in all_sites:
        for model, model_admin in site._registry.items() if site.name == operation.site else ():
            if model._meta.label_lower == f"wellos_jobs.{operation.model}":
                return model_admin
    raise Discard(f"the admin site {operation.site!r} has no list of {operation.model}")


def _queue() -> str:
    chosen = conf.current().operations_queue
    return chosen or ("default" if "default" in conf.queues() else next(iter(conf.queues())))
