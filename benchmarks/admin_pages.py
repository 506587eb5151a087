"""The measured pages of the admin, with filters, searches and actions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from django.urls import reverse

from wellos_jobs.models import Batch, BulkOperation, DeadLetter, JobAttempt, JobRecord, SavedView

ALL_THAT_MATCH = {"select_across": "1", "_selected_action": "1"}


@dataclass(frozen=True)
class Visit:
    """A request: its label, its URL, and the POST data (empty for a GET)."""

    label: str
    url: str
    sent: dict[str, str] = field(default_factory=dict)


def visits() -> Iterator[Visit]:
    """Yield all requests. The database has to be filled."""
    yield Visit("overview, as a table", page("queues"))
    yield Visit("overview, as cards", page("queues", **{"as": "cards"}))
    yield Visit("JSON of all queues", page("queues_stats"))
    yield from jobs()
    yield from dead_letters()
    yield Visit("schedules", page("schedule_changelist"))
    yield Visit("batches", page("batch_changelist"))
    yield Visit("a batch", page("batch_change", first(Batch.objects.order_by("-created_at"))))
    yield Visit("flows", page("flows"))
    flow = (
        JobRecord.objects.filter(flow_id__isnull=False)
        .order_by("-flow_id")
        .values_list("flow_id", flat=True)[0]
    )
    yield Visit("a flow", page("flow", flow))
    yield Visit("limits and breakers", page("limits"))
    yield Visit("workers", page("workers"))
    yield from (
        Visit(f"statistics of {over}", page("statistics", over=over))
        for over in ("1h", "24h", "7d", "90d")
    )
    yield Visit("audit", page("auditentry_changelist"))
    yield Visit("audit, what people did", page("auditentry_changelist", by="people"))
    yield Visit("audit, search for a word", page("auditentry_changelist", q="nothing-like-it"))
    yield Visit("attempts", page("jobattempt_changelist"))
    yield Visit("attempts of a queue", page("jobattempt_changelist", queue="queue-001"))
    yield Visit("attempts, search for a word", page("jobattempt_changelist", q="nothing-like-it"))
    yield Visit("an attempt", page("jobattempt_change", first(JobAttempt.objects.order_by("pk"))))
    yield Visit("bulk operations", page("bulkoperation_changelist"))
    yield Visit(
        "a bulk operation",
        page("bulkoperation_change", first(BulkOperation.objects.order_by("pk"))),
    )


def jobs() -> Iterator[Visit]:
    """Yield the list of jobs with filters and searches, pages of jobs, and confirmations."""
    name = "jobrecord_changelist"
    oldest = JobRecord.objects.filter(state="completed").order_by("created_at")
    yield Visit("jobs", page(name))
    yield Visit("jobs, page 100", page(name, p="100"))
    filters: dict[str, dict[str, str]] = {
        "failed": {"state__exact": "failed"},
        "active (there are none)": {"state__exact": "active"},
        "of a queue": {"queue": "queue-001"},
        "of a name": {"name": "job-3"},
        "of an organization": {"organization": "organization-3"},
        "of a priority that none has": {"priority__exact": "1"},
        "with an error": {"failing": "yes"},
        "finished a month ago": {
            "finished_to": f"{JobRecord.objects.order_by('created_at')[0].created_at:%Y-%m-%d}"
        },
    }
    yield from (Visit(f"jobs, {label}", page(name, **given)) for label, given in filters.items())
    yield Visit("jobs, a saved view", f"{page(name)}?{SavedView.objects.all()[0].query}")
    searches = {
        "a whole id, the oldest": str(first(oldest)),
        "the beginning of an id": str(first(oldest))[:13],
        "a word that many have": "job-7",
        "a word that none has": "nothing-like-it",
        "a word and an organization": "org:organization-7 nothing-like-it",
        "a word and a queue": "queue:queue-001 nothing-like-it",
        "a word and a state": "state:failed nothing-like-it",
        "a part of the error": "error:nothing-like-it",
        "a number in the data": "data.invoice_id:777",
        "a text in the data": 'data.customer.name:"customer 7"',
    }
    yield from (
        Visit(f"jobs, search for {label}", page(name, q=typed)) for label, typed in searches.items()
    )
    yield Visit("a job that completed", page("jobrecord_change", first(oldest)))
    yield Visit(
        "a job that failed",
        page(
            "jobrecord_change",
            JobRecord.objects.filter(state="failed").order_by("created_at")[0].pk,
        ),
    )
    for label, query in (
        ("all", {}),
        ("all failed", {"state__exact": "failed"}),
        ("what a search found", {"q": "job-7"}),
    ):
        yield Visit(
            f"confirmation: retry {label}",
            page(name, **query),
            {"action": "retry_jobs", **ALL_THAT_MATCH},
        )
    yield Visit("confirmation: cancel all", page(name), {"action": "cancel_jobs", **ALL_THAT_MATCH})


def dead_letters() -> Iterator[Visit]:
    """Yield the pages of faults and dead letters, and a confirmation."""
    name, oldest = "deadletter_changelist", DeadLetter.objects.order_by("created_at")[0]
    yield Visit("dead letters by fault", page("faults"))
    for label, given in (
        ("of any status", {"status": "any"}),
        ("of a queue", {"queue": "queue-001"}),
        ("of 24 hours", {"window": "24h"}),
        ("page 3", {"page": "3"}),
    ):
        yield Visit(f"dead letters by fault, {label}", page("faults", **given))
    yield Visit("a fault", page("fault", oldest.fingerprint))
    yield Visit("dead letters", page(name))
    yield Visit("dead letters, open", page(name, status__exact="open"))
    yield Visit("dead letters of a queue", page(name, queue="queue-001"))
    yield Visit("dead letters, search for a fingerprint", page(name, q=oldest.fingerprint))
    yield Visit("dead letters, search for a message", page(name, q="fault 7:"))
    yield Visit("dead letters, search for a word that none has", page(name, q="nothing-like-it"))
    yield Visit("a dead letter", page("deadletter_change", oldest.pk))
    yield Visit(
        "confirmation: replay all", page(name), {"action": "replay_dead_letters", **ALL_THAT_MATCH}
    )


def page(name: str, /, *arguments: Any, **query: str) -> str:
    """Return the URL of a page by its name, with a query string."""
    url = reverse(f"admin:wellos_jobs_{name}", args=arguments)
    return f"{url}?{urlencode(query)}" if query else url


def first(rows: Any) -> Any:
    """Return the primary key of the first row."""
    return rows.values_list("pk", flat=True)[0]
