"""Every change in the admin is audited: actor, address and reason. The table lists all changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.utils import timezone

from wellos_jobs import Flow, operations, schedules
from wellos_jobs.admin.audit.erasure import ErasurePage
from wellos_jobs.admin.dashboard.limits import LimitsPage
from wellos_jobs.admin.dashboard.overview import OverviewPage
from wellos_jobs.admin.dashboard.workers import WorkersPage
from wellos_jobs.admin.dead_letters.fault_page import FaultActionPage, FaultSelection
from wellos_jobs.admin.dead_letters.page import DeadLetterActionPage
from wellos_jobs.admin.flows_and_batches.flows import FlowPage
from wellos_jobs.admin.jobs.actions import JobActionPage
from wellos_jobs.admin.ui.action_page import ReasonForm
from wellos_jobs.admin.ui.page import Page
from wellos_jobs.definitions import registry
from wellos_jobs.models import AuditEntry, Batch, BulkOperation, DeadLetter, JobRecord, Schedule
from wellos_jobs.monitoring.faults import FaultFilter

from .. import jobs
from ..support.engine import Books, Hand
from .test_dead_letters import fail
from .test_flows_and_batches import import_of, run_all
from .test_schedules import FORM, REPORT_FORM, make
from .test_workers import presence

ADMIN = "/admin/wellos_jobs/"
QUEUES = f"{ADMIN}queues/"
ADDRESS, REASON = "192.0.2.7", "the partner asked for it"

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


@pytest.fixture(autouse=True)
def _project(settings: Any) -> Iterator[None]:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "NOTIFY_ADMINS": False}
    with registry.isolated():
        yield


@pytest.fixture
def root() -> Client:
    client = Client(REMOTE_ADDR=ADDRESS)
    client.force_login(User.objects.create_superuser("root"))
    return client


@dataclass(frozen=True)
class Sent:
    """The URL of an action, and its fields other than the reason."""

    url: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Act:
    """What has to be there for an act and how it is sent, and the entry that has to come of it."""

    prepare: Callable[[], Sent]
    kind: str
    action: str
    needs_reason: bool = True


def listed(model: str, action: str, *rows: Any, **more: Any) -> Sent:
    chosen = [str(row.pk) for row in rows]
    return Sent(
        f"{ADMIN}{model}/", {"action": action, "_selected_action": chosen, "confirm": "yes", **more}
    )


def confirmed(url: str, verb: str = "", target: str = "", **more: Any) -> Sent:
    return Sent(url, {"action": "confirm", "verb": verb, "target": target, **more})


def failed_job() -> JobRecord:
    return fail()[0].job


def waiting_job(**options: Any) -> JobRecord:
    row: JobRecord = jobs.noop.using(**options).enqueue().record()
    return row


def active_job() -> JobRecord:
    row = waiting_job()
    Hand("default").take()
    Books().fold()
    return row


def job_action(verb: str, row: JobRecord, **more: Any) -> Sent:
    return confirmed(f"{ADMIN}jobrecord/{row.pk}/act/{verb}/", **more)


def dead_letter_action(verb: str, **more: Any) -> Sent:
    return confirmed(f"{ADMIN}deadletter/{fail()[0].pk}/act/{verb}/", **more)


def fault_action(verb: str, **more: Any) -> Sent:
    return confirmed(f"{ADMIN}deadletter/faults/{fail(2)[0].fingerprint}/act/{verb}/", **more)


def flow_action(verb: str) -> Sent:
    steps = {"retry": ["status:404"], "cancel": []}[verb]
    flow = Flow(jobs.noop.with_data(), children=[jobs.scripted.with_data(steps=steps)]).enqueue()
    if verb == "retry":
        run_all()
    return confirmed(f"{QUEUES}flows/{flow.id}/", verb, str(flow.id))


def queue_action(verb: str) -> Sent:
    jobs.noop.using(queue="email").enqueue()
    if verb == "resume":
        operations.pause_queue("email")
    return Sent(QUEUES, {"action": "confirm", "verb": verb, "target": "email"})


def worker_action(verb: str) -> Sent:
    if verb == "stop_job":
        return confirmed(f"{QUEUES}workers/", verb, f"job:{active_job().pk}")
    presence("t1")
    Hand("default", name="hand-1")
    return confirmed(f"{QUEUES}workers/", verb, "worker:hand-1")


def limit_action(verb: str, target: str, **more: Any) -> Sent:
    if verb in {"reset", "restore"}:
        operations.trip_breaker("partner")
        operations.set_limit("c:test-single", 5)
    return confirmed(f"{QUEUES}limits/", verb, target, **more)


def batch_of(**counts: int) -> Batch:
    return Batch.objects.get(pk=import_of(**counts).id)


def schedule_form(verb: str) -> Sent:
    form = {**FORM, "job_name": "test-noop", "data": "{}"}
    if verb == "add":
        return Sent(f"{ADMIN}schedule/add/", form)
    row = make()
    return Sent(
        f"{ADMIN}schedule/{row.pk}/{verb}/", form if verb == "change" else {"confirm": "yes"}
    )


def report_form(verb: str) -> Sent:
    if verb == "add":
        return Sent(f"{ADMIN}organizationreportschedule/add/", REPORT_FORM | {"report_type": ""})
    row = report()
    form = {**REPORT_FORM, "report_type": ""} if verb == "change" else {"confirm": "yes"}
    return Sent(f"{ADMIN}organizationreportschedule/{row.pk}/{verb}/", form)


def report() -> Schedule:
    return schedules.schedule_organization_reports("acme", "0 7 * * 1")


def switched(model: str, action: str) -> Sent:
    row = make() if model == "schedule" else report()
    if action == "enable_schedules":
        operations.disable_schedule(row)
    return listed(model, action, row)


def running_bulk() -> Sent:
    operation = BulkOperation.objects.create(
        action="retry_jobs", model="jobrecord", total=3, created_at=timezone.now()
    )
    return Sent(f"{ADMIN}bulkoperation/{operation.pk}/stop/", {"confirm": "yes"})


ACTS: dict[str, Act] = {
    "jobrecord:retry_jobs": Act(
        lambda: listed("jobrecord", "retry_jobs", failed_job()), "job", "retried"
    ),
    "jobrecord:cancel_jobs": Act(
        lambda: listed("jobrecord", "cancel_jobs", waiting_job()), "job", "canceled"
    ),
    "jobrecord:promote_jobs": Act(
        lambda: listed("jobrecord", "promote_jobs", waiting_job(delay=600)), "job", "promoted"
    ),
    "jobrecord:change_priority": Act(
        lambda: listed("jobrecord", "change_priority", waiting_job(), priority="1"),
        "job",
        "changed priority",
    ),
    "jobrecord:move_jobs": Act(
        lambda: listed("jobrecord", "move_jobs", waiting_job(), queue="email"), "job", "moved"
    ),
    "deadletter:assign_dead_letters": Act(
        lambda: listed("deadletter", "assign_dead_letters", *fail(), person="root", note="x"),
        *("dead_letter", "assigned"),
    ),
    "deadletter:replay_dead_letters": Act(
        lambda: listed("deadletter", "replay_dead_letters", *fail()), "dead_letter", "replayed"
    ),
    "deadletter:discard_dead_letters": Act(
        lambda: listed("deadletter", "discard_dead_letters", *fail()), "dead_letter", "discarded"
    ),
    "batch:retry_batches": Act(
        lambda: listed("batch", "retry_batches", batch_of(failed=1)), "batch", "retried"
    ),
    "batch:cancel_batches": Act(
        lambda: listed("batch", "cancel_batches", batch_of(waiting=1)), "batch", "canceled"
    ),
    "bulkoperation:stop": Act(running_bulk, "bulk", "stopped"),
    "job_act:retry": Act(lambda: job_action("retry", failed_job()), "job", "retried"),
    "job_act:promote": Act(
        lambda: job_action("promote", waiting_job(delay=600)), "job", "promoted"
    ),
    "job_act:priority": Act(
        lambda: job_action("priority", waiting_job(), priority="1"), "job", "changed priority"
    ),
    "job_act:move": Act(lambda: job_action("move", waiting_job(), queue="email"), "job", "moved"),
    "job_act:cancel": Act(lambda: job_action("cancel", waiting_job()), "job", "canceled"),
    "job_copy:copy": Act(
        lambda: confirmed(
            f"{ADMIN}jobrecord/{waiting_job().pk}/copy/",
            data="{}",
            queue="default",
            priority="5",
            organization="",
        ),
        *("job", "enqueued"),
    ),
    "deadletter_act:replay": Act(lambda: dead_letter_action("replay"), "dead_letter", "replayed"),
    "deadletter_act:edit": Act(
        lambda: dead_letter_action("edit", data='{"message": "again"}'), "dead_letter", "edited"
    ),
    "deadletter_act:assign": Act(
        lambda: dead_letter_action("assign", person="root", note="x"), "dead_letter", "assigned"
    ),
    "deadletter_act:discard": Act(
        lambda: dead_letter_action("discard"), "dead_letter", "discarded"
    ),
    "fault_act:canary": Act(lambda: fault_action("canary"), "fault", "sent canary"),
    "fault_act:replay": Act(lambda: fault_action("replay"), "dead_letter", "replayed"),
    "fault_act:assign": Act(
        lambda: fault_action("assign", person="root", note="x"), "dead_letter", "assigned"
    ),
    "fault_act:discard": Act(lambda: fault_action("discard"), "dead_letter", "discarded"),
    "flow:retry": Act(lambda: flow_action("retry"), "flow", "retried"),
    "flow:cancel": Act(lambda: flow_action("cancel"), "flow", "canceled"),
    "queues:pause": Act(lambda: queue_action("pause"), "queue", "paused"),
    "queues:resume": Act(lambda: queue_action("resume"), "queue", "resumed"),
    "queues:empty": Act(lambda: queue_action("empty"), "queue", "emptied"),
    "workers:quiet": Act(lambda: worker_action("quiet"), "worker", "quieted"),
    "workers:resume": Act(lambda: worker_action("resume"), "worker", "resumed"),
    "workers:stop": Act(lambda: worker_action("stop"), "worker", "stopped"),
    "workers:stop_job": Act(lambda: worker_action("stop_job"), "job", "canceled"),
    "limits:change": Act(
        lambda: limit_action("change", "c:test-single", most="3"), "limit", "set limit"
    ),
    "limits:restore": Act(lambda: limit_action("restore", "c:test-single"), "limit", "set limit"),
    "limits:reset": Act(lambda: limit_action("reset", "b:partner"), "breaker", "reset breaker"),
    "limits:trip": Act(lambda: limit_action("trip", "b:partner"), "breaker", "tripped breaker"),
    "erasure:erase": Act(
        lambda: Sent(f"{ADMIN}auditentry/erase/", {"action": "erase", "texts": "ada@example.org"}),
        *("person", "erased"),
    ),
    "schedule:add": Act(lambda: schedule_form("add"), "schedule", "created", needs_reason=False),
    "schedule:change": Act(lambda: schedule_form("change"), "schedule", "changed"),
    "schedule:delete": Act(lambda: schedule_form("delete"), "schedule", "removed"),
    "organizationreportschedule:add": Act(
        lambda: report_form("add"), "schedule", "created", needs_reason=False
    ),
    "organizationreportschedule:change": Act(lambda: report_form("change"), "schedule", "changed"),
    "organizationreportschedule:delete": Act(lambda: report_form("delete"), "schedule", "removed"),
}
for _model in ("schedule", "organizationreportschedule"):
    for _action, _word in (
        *(("enable_schedules", "enabled"), ("disable_schedules", "disabled")),
        *(("run_schedules", "ran"), ("delete_selected", "removed")),
    ):
        ACTS[f"{_model}:{_action}"] = Act(
            lambda model=_model, action=_action: switched(model, action),  # type: ignore[misc]
            *("schedule", _word),
        )

LOOKING = {
    *("auditentry:export", "schedule:preview", "organizationreportschedule:preview"),
    "queues:stats",
}
"""Read-only routes."""
OWN = {"jobrecord:views", "deadletter:views"}
"""Saved views are personal and are not audited."""
STANDARD = {"changelist", "add", "history", "delete", "change"}
"""Django's own pages of every model, which check the admin's permissions."""


def pages(above: type[Page] = Page) -> Iterator[type[Page]]:
    for page in above.__subclasses__():
        if page.__module__.startswith("wellos_jobs."):
            yield page
        yield from pages(page)


def actions_of_pages() -> Iterator[str]:
    """The actions of all pages that are not change lists."""
    for page in pages():
        if not hasattr(page, "name"):
            continue  # a base of others
        doing = {name.removeprefix("do_") for name in dir(page) if name.startswith("do_")}
        if page is ErasurePage:
            assert doing == {"find", "erase"}  # the former changes nothing
            yield "erasure:erase"
        elif doing:
            assert doing == {"ask", "confirm"}, f"{page}: {doing}: teach this test how it acts"
            yield from (f"{page.name}:{verb}" for verb in page.verbs)  # type: ignore[attr-defined]


def actions_of_lists() -> Iterator[str]:
    """The actions, the forms, and the further routes of the admin of every model of the app."""
    request = RequestFactory().get("/")
    request.user = User(username="root", is_superuser=True, is_active=True, is_staff=True)
    names = {f"wellos_jobs_{page.name}" for page in pages() if hasattr(page, "name")}
    for model, model_admin in site._registry.items():
        if model._meta.app_label != "wellos_jobs":
            continue
        own = model._meta.model_name
        yield from (f"{own}:{action}" for action in model_admin.get_actions(request))
        for verb in ("add", "change", "delete"):
            if getattr(model_admin, f"has_{verb}_permission")(request):
                yield f"{own}:{verb}"
        for route in model_admin.get_urls():
            name = getattr(route, "name", None)
            if name is None or name in names:
                continue
            known = name.removeprefix("wellos_jobs_").removeprefix(f"{own}_")
            if known not in STANDARD:
                yield f"{own}:{known}"


def test_the_table_has_every_action() -> None:
    found = {*actions_of_pages(), *actions_of_lists()}
    assert found >= LOOKING | OWN
    assert found - LOOKING - OWN == set(ACTS)


@pytest.mark.parametrize("name", sorted(ACTS))
def test_it_is_audited_with_actor_address_and_reason(root: Client, name: str) -> None:
    act = ACTS[name]
    sent = act.prepare()
    AuditEntry.objects.all().delete()
    silent = root.post(sent.url, {**sent.fields, "reason": " "})
    assert AuditEntry.objects.exists() is not act.needs_reason, silent
    if not act.needs_reason:  # then it has been done
        Schedule.objects.all().delete()
        AuditEntry.objects.all().delete()
    root.post(sent.url, {**sent.fields, "reason": REASON})
    entries = AuditEntry.objects.filter(target_type=act.kind, action=act.action)
    assert entries, list(AuditEntry.objects.values("target_type", "action"))
    for entry in entries:
        assert (entry.actor_name, entry.address, entry.reason) == ("root", ADDRESS, REASON)
        assert entry.target_id


def empty_fault() -> FaultSelection:
    return FaultSelection("f", DeadLetter.objects.all(), FaultFilter(), "")


@pytest.mark.parametrize(
    ("page", "target"),
    [
        (DeadLetterActionPage, DeadLetter),
        (FaultActionPage, empty_fault),
        (FlowPage, lambda: "a flow"),
        (JobActionPage, JobRecord),
        (LimitsPage, lambda: "c:a limit"),
        (OverviewPage, lambda: "email"),
        (WorkersPage, lambda: "worker:hand-1"),
    ],
)
def test_an_unknown_verb_raises(page: Any, target: Callable[[], Any]) -> None:
    """No verb is the default of another."""
    form = ReasonForm({"reason": REASON})
    assert form.is_valid()
    root = User.objects.create_superuser("root")
    with pytest.raises((NotImplementedError, KeyError)):
        page(site.get_model_admin(JobRecord)).perform("replya", target(), form, by=root)
