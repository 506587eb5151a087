"""Bulk operations: one verb on all rows that match a list's filters, run by a job in chunks.

The rows are given by the query string of the admin's list, and the job looks them up as that list
would show them to the same user when it runs. So permissions and organization limits are enforced
then, too. Each chunk and its bookkeeping are one transaction: a worker that is killed leaves
nothing half done, and no row is processed twice. Rows that are skipped because Redis is
unavailable are stored with the chunk and tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, QueryDict
from django.utils import timezone
from django.utils.translation import gettext as _

from .. import conf
from ..database import database_of, in_write_database
from ..definitions.retry import Discard, Snooze
from ..enqueueing.context import current_job, report_progress
from ..enqueueing.decorator import job
from ..enqueueing.handle import JobHandle
from ..errors import InvalidOperation
from ..models import AuditEntry, BulkOperation
from ..states import AuditAction
from .audit import Actor, BulkResult
from .dead_letters import assign_many, discard_many, replay_many
from .jobs import cancel_many, change_priority_many, move_many, promote_many, retry_many
from .verbs import VERBS, Verb

CHUNK = 100
"""Rows in one transaction."""
KEPT_REFUSALS = 20
RETRY_DELAY = 5
"""Seconds until rows are tried again that were skipped because Redis was unavailable."""
JOB_NAME = "wellos-bulk-operation"

OPERATIONS: Mapping[str, Callable[..., BulkResult]] = {
    "retry": retry_many,
    "cancel": cancel_many,
    "promote": promote_many,
    "change_priority": change_priority_many,
    "move": move_many,
    "replay": replay_many,
    "assign": assign_many,
    "discard": discard_many,
}
"""The verbs that a job can carry out."""

_VERB_OF_ACTION: Mapping[str, Verb] = {VERBS[name].list_action: VERBS[name] for name in OPERATIONS}


def title(action: str) -> str:
    """Return the title of a stored action; its name if this version no longer has it."""
    return str(_VERB_OF_ACTION[action].title) if action in _VERB_OF_ACTION else action


def begin(
    verb: Verb,
    rows: QuerySet[Any],
    *,
    site: str,
    query: str,
    rate: float | None,
    total: int | None,
    actor: Actor,
    choice: Mapping[str, Any] | None = None,
) -> BulkOperation:
    """Enqueue the job that applies ``verb`` to all ``rows``.

    Args:
        rows: what the list of the admin site shows under ``query``.
        rate: rows per second at most; None for no limit.
        total: the number of rows; None when they are too many to count in a request: the job
            counts them.
        choice: further arguments of the operation by name, as JSON.
    """
    rows = in_write_database(rows)
    using = rows.db
    options: dict[str, Any] = {}
    if rate is not None:
        options["rate"] = rate
    if choice:
        options["choice"] = dict(choice)

    with transaction.atomic(using=using):
        operation = BulkOperation.objects.using(using).create(
            action=verb.list_action,
            model=rows.model._meta.model_name,
            site=site,
            query=query,
            options=options,
            actor_id=actor.by.pk,
            actor_name=actor.name,
            address=actor.address,
            reason=actor.reason,
            total=total or 0,
            bound=str(rows.order_by("-pk").values_list("pk", flat=True).first() or ""),
            created_at=timezone.now(),
        )

        runner = run_bulk_operation.using(queue=_queue(), requested_by=actor.by, database=using)
        operation.job_id = runner.enqueue(operation_id=operation.pk).id
        operation.save(using=using, update_fields=["job"])
    return operation


def stop_bulk_operation(
    operation: BulkOperation, *, by: Any, reason: str = "", address: str = ""
) -> None:
    """Stop an operation before its next chunk.

    Raises:
        InvalidOperation: it has ended already.
    """
    using = database_of(operation)
    actor = Actor(by, reason, address)
    rows = BulkOperation.objects.using(using).filter(
        pk=operation.pk, finished_at=None, stopped_by=""
    )
    with transaction.atomic(using=using):
        if not rows.update(stopped_by=actor.name):
            raise InvalidOperation(_("The bulk operation has ended already"))
        actor.record(using, AuditAction.STOPPED, "bulk", operation.pk)


def stop_bulk_operations(
    rows: Iterable[BulkOperation], *, by: Any, reason: str = "", address: str = ""
) -> BulkResult:
    """Stop all of ``rows``.

    Raises:
        InvalidOperation: one of them has ended already.
    """
    result = BulkResult()
    for operation in rows:
        stop_bulk_operation(operation, by=by, reason=reason, address=address)
        result.done += 1
    return result


def handle_of(operation: BulkOperation) -> JobHandle | None:
    """Return the handle of the operation's job; None if its row was pruned."""
    if operation.job is None:
        return None
    return JobHandle(operation.job.pk, operation.job.queue, database_of(operation))


@job(JOB_NAME, max_attempts=20, timeout=86_400)
def run_bulk_operation(operation_id: int) -> dict[str, Any]:
    """Process the remaining rows of an operation; return the counts of done and refused rows."""
    using = current_job().database
    operation = BulkOperation.objects.using(using).select_related("job").get(pk=operation_id)
    verb = _verb_of(operation)
    rows = _rows(operation, verb)

    if not operation.total and not operation.finished_at:
        operation.total = _remaining(operation, rows).count()
        operation.save(using=using, update_fields=["total"])

    while not operation.finished_at:
        started = time.monotonic()
        processed = _process_chunk(operation, verb, rows)
        if operation.options.get("untried"):
            raise Snooze(RETRY_DELAY, "Redis is unavailable")

        report_progress(
            operation.percent, f"{operation.done + operation.refused} of {operation.total}"
        )
        if rate := operation.options.get("rate"):
            time.sleep(max(0.0, processed / rate - (time.monotonic() - started)))

    return {
        "done": operation.done,
        "left_alone": operation.refused,
        "stopped_by": operation.stopped_by,
    }


def _verb_of(operation: BulkOperation) -> Verb:
    verb = _VERB_OF_ACTION.get(operation.action)
    if verb is None:
        raise Discard(f"there is no bulk action {operation.action!r}")
    return verb


def _process_chunk(operation: BulkOperation, verb: Verb, rows: QuerySet[Any]) -> int:
    """Process the next rows and store the outcome, in one transaction; return how many."""
    using = str(operation._state.db)
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
            _apply(operation, verb, chosen, len(keys))
            operation.last = operation.last if again else str(keys[-1])
        else:
            operation.finished_at = timezone.now()
            # Rows added since the count, up to the bound, were processed as well.
            operation.total = max(operation.total, operation.done + operation.refused)
            _record_end(operation)

        operation.save(using=using)
    return len(keys)


def _apply(operation: BulkOperation, verb: Verb, chosen: QuerySet[Any], count: int) -> None:
    """Apply the verb to a chunk of rows and add up the outcome."""
    result = OPERATIONS[verb.name](
        chosen,
        **operation.options.get("choice", {}),
        by=operation.actor,
        reason=operation.reason,
        address=operation.address,
    )

    operation.done += result.done
    operation.refused += count - result.done - len(result.untried)
    operation.refusals = [*operation.refusals, *result.refused][:KEPT_REFUSALS]
    if result.untried:
        operation.options["untried"] = [str(key) for key in result.untried]


def _next_keys(operation: BulkOperation, rows: QuerySet[Any]) -> list[Any]:
    most = CHUNK
    if "rate" in operation.options:
        most = max(1, min(CHUNK, int(operation.options["rate"])))
    return list(_remaining(operation, rows).values_list("pk", flat=True)[:most])


def _remaining(operation: BulkOperation, rows: QuerySet[Any]) -> QuerySet[Any]:
    """Return the rows up to the bound that were not processed yet, in order."""
    left = rows.order_by("pk").filter(pk__lte=operation.bound) if operation.bound else rows.none()
    return left.filter(pk__gt=operation.last) if operation.last else left


def _record_end(operation: BulkOperation) -> None:
    detail = {
        "query": operation.query,
        "rows": operation.model,
        "total": operation.total,
        "done": operation.done,
        "left_alone": operation.refused,
        **operation.options.get("choice", {}),
    }
    actor = Actor(operation.actor, operation.reason, operation.address)
    entry = actor.entry(operation.action, "bulk", operation.pk, **detail)
    entry.actor_name = operation.actor_name  # the user may be deleted
    AuditEntry.objects.using(operation._state.db).bulk_create([entry])


def _rows(operation: BulkOperation, verb: Verb) -> QuerySet[Any]:
    """Return the rows that the admin's list shows to this user under the query, as of now."""
    users = get_user_model()._default_manager
    user: Any = users.filter(pk=operation.actor_id or 0).first()
    is_allowed = user is not None and user.is_active and user.has_perm(verb.permission_on())
    if not is_allowed:
        raise Discard(f"{operation.actor_name} no longer has permission for this")

    request: Any = HttpRequest()
    request.method, request.GET, request.user = "GET", QueryDict(operation.query), user
    request.current_app = operation.site
    rows: QuerySet[Any] = _list_of(operation).get_changelist_instance(request).get_queryset(request)
    return rows.using(operation._state.db)


def _list_of(operation: BulkOperation) -> Any:
    """Return the ModelAdmin whose list the operation refers to."""
    # Imported here: a project may not have the admin installed.
    from django.contrib.admin.sites import all_sites

    for site in all_sites:
        if site.name != operation.site:
            continue
        for model, model_admin in site._registry.items():
            if model._meta.label_lower == f"wellos_jobs.{operation.model}":
                return model_admin
    raise Discard(f"the admin site {operation.site!r} has no list of {operation.model}")


def _queue() -> str:
    """Return the queue of the job: ``OPERATIONS_QUEUE``, else ``default``, else the first."""
    return conf.current().operations_queue or conf.default_queue()
