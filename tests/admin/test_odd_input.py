"""Whatever staff type into an address or a form: a page says what is wrong, or finds nothing."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from wellos_jobs import operations
from wellos_jobs.admin.ui.json_field import BoundedJSONField
from wellos_jobs.models import AuditEntry, Batch, DeadLetter, JobAttempt, JobRecord, Schedule
from wellos_jobs.operations import texts
from wellos_jobs.operations.audit import Actor
from wellos_jobs.states import JobState

from ..jobs import add
from ..support.users import client_of, staff, text

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

DEEP = 100_000
ODD_TEXTS = (
    "\x00",
    "²",
    "-1",
    "9" * 30,
    "9" * 5_000,
    "x" * 5_000,
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-12:00",
)
ODD_FILTERS = (
    "\x00",
    "²",
    "9" * 30,
    "9" * 5_000,
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-12:00",
)
WORDS = " ".join(f"word{number}" for number in range(1_000))
ODD_SEARCHES = (
    *ODD_TEXTS,
    *(f"data.x:{value}" for value in ("NaN", "Infinity", "-Infinity", "1e999", "007", "nan")),
    *(f"data.x:{value}" for value in ("[" * 5_000, '{"a":' * 5_000, "9" * 5_000, "9" * 30)),
    "data." + "a." * 5_000 + "b:1",
    "data." + "a." * 28 + "b:1",
    "data.-1:x",
    "data.+1:x",
    "data.²:x",
    "data.99999999999999999999:x",
    "data." + "9" * 5_000 + ":x",
    "data.x.0:1",
    "data.$encrypted:x",
    "data.%:x data.'a':1",
    WORDS,
    " ".join(f"name:w{number}" for number in range(1_000)),
    " ".join(f"data.k{number}:1" for number in range(300)),
    "state:\x00",
    "id:" + "9" * 5_000,
    "by:" + "x" * 5_000,
)
LISTS = (
    "jobrecord",
    "jobattempt",
    "deadletter",
    "auditentry",
    "batch",
    "schedule",
    "organizationreportschedule",
    "bulkoperation",
)
PARAMETERS = {
    "jobrecord": (
        *("organization", "batch", "schedule", "created_from", "created_to", "finished_from"),
        *("finished_to", "state__exact", "queue", "priority__exact", "failing", "name"),
        *("created_at__gte", "created_at__lt", "schedule__exact", "flow_id__exact"),
        *("batch__exact", "looked_since", "looked_until", "p", "o", "e", "all"),
    ),
    "deadletter": (
        *("status__exact", "reason__exact", "queue", "name", "created_at__gte"),
        *("fingerprint__exact", "organization_id__exact", "looked_since", "p"),
    ),
    "jobattempt": ("outcome__exact", "ended_at__lt", "queue", "name", "looked_until"),
    "auditentry": ("actor", "from", "to", "by", "target_type", "action", "at__gte", "looked_since"),
    "batch": ("state__exact", "created_at__gte"),
    "schedule": ("enabled__exact", "source", "organization", "catch_up", "condition", "p", "o"),
    "organizationreportschedule": ("organization", "catch_up", "condition"),
    "bulkoperation": ("p", "o"),
}


@pytest.fixture
def filled() -> JobRecord:
    """A row of each kind, so that no query ends early."""
    now = timezone.now()
    batch = Batch.objects.create(name="b", created_at=now)
    job = JobRecord.objects.create(
        name="test-add",
        queue="email",
        state=JobState.FAILED,
        created_at=now,
        data={"a": 1, "x": {"y": [1]}},
        batch=batch,
    )
    JobAttempt.objects.create(job=job, number=1, outcome="failed", started_at=now, ended_at=now)
    DeadLetter.objects.create(
        job=job, name=job.name, queue=job.queue, reason="failed", created_at=now, fingerprint="f"
    )
    schedule = Schedule(name="s", job_name="test-add", data={"a": 1}, cron="0 2 * * *")
    operations.save_schedule(schedule)
    return job


def url_of(model: str) -> str:
    return reverse(f"admin:wellos_jobs_{model}_changelist")


def asked(client: Client, url: str, query: dict[str, str]) -> Any:
    """Return the page; one redirect, to the same page with an error flag, is allowed."""
    response = client.get(f"{url}?{urlencode(query)}")
    assert response.status_code in {200, 302, 400}, f"{url} {str(query)[:200]}"
    return client.get(response["Location"]) if response.status_code == 302 else response


@pytest.mark.parametrize("model", LISTS)
def test_odd_searches(root: Client, filled: JobRecord, model: str) -> None:
    searches = ODD_SEARCHES if model == "jobrecord" else (*ODD_TEXTS, WORDS)
    for search in searches:
        assert asked(root, url_of(model), {"q": search}).status_code == 200, search[:80]


@pytest.mark.parametrize("model", LISTS)
def test_odd_filters(root: Client, filled: JobRecord, model: str) -> None:
    refused = set()
    for name in PARAMETERS[model]:
        for value in ODD_FILTERS:
            response = root.get(f"{url_of(model)}?{urlencode({name: value})}")
            assert response.status_code in {200, 302, 400}, f"{name}={value[:200]}"
            if response.status_code == 302:
                refused.add(response["Location"])
    for url in refused:  # the same page, with an error flag
        assert root.get(url).status_code == 200, url


@pytest.mark.parametrize("model", LISTS)
def test_odd_ids(root: Client, filled: JobRecord, model: str) -> None:
    for value in ODD_TEXTS:
        for page in ("change", "delete"):
            url = f"{url_of(model)}{{}}/{page}/".format(value[:6_000].replace("%", "%25"))
            response = root.get(url)
            assert response.status_code in {302, 403, 404}, (page, value[:50])
        response = root.post(
            url_of(model), {"action": "retry_jobs", "_selected_action": [value[:6_000]]}
        )
        assert response.status_code in {200, 302, 400, 403}, value[:50]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("faults", ("status", "queue", "name", "organization", "window", "order", "page")),
        ("flows", ("page", "state", "organization", "q")),
        ("limits", ("q", "page", "more", "key")),
        ("workers", ("q", "page")),
        ("statistics", ("window", "queue", "name", "format")),
        ("queues", ("as", "q")),
        ("auditentry_export", ("q", "actor", "at__gte", "from")),
        ("schedule_preview", ("cron", "time_zone", "organization_id")),
    ],
)
def test_odd_parameters_of_pages(
    root: Client, filled: JobRecord, name: str, parameters: tuple[str, ...]
) -> None:
    url = reverse(f"admin:wellos_jobs_{name}")
    for parameter in parameters:
        for value in ODD_TEXTS:
            response = asked(root, url, {parameter: value, "cron": "0 2 * * *"})
            assert response.status_code in {200, 400}, (parameter, value[:50])


def test_a_search_says_what_is_wrong(root: Client, filled: JobRecord) -> None:
    jobs = url_of("jobrecord")
    for search, answer in {
        "data." + "a." * 40 + "b:1": "Search at most 30 levels deep in data",
        "data.-1:x": "“-1” is not a position in a list",
        " ".join(f"name:{number}" for number in range(100)): "Combine at most 20 prefixes",
    }.items():
        assert answer in text(asked(root, jobs, {"q": search})), search[:50]
    many = " ".join(map(str, range(100)))
    assert "Search for at most 20 words" in text(asked(root, url_of("schedule"), {"q": many}))
    for search in ("data.a:1", "data.a:1.0", "data.x.y.0:1"):
        assert "test-add" in text(asked(root, jobs, {"q": search})), search

    before_year_one = text(asked(root, jobs, {"created_at__gte": "0001-01-01T00:00:00+14:00"}))
    assert "The filters are invalid" in before_year_one or connection.vendor != "sqlite"


ODD_JSON = (
    "[" * DEEP,
    '{"a":' * DEEP + "1" + "}" * DEEP,
    '{"a": ' + "[" * 40 + "]" * 40 + "}",
    '{"a": ' + "9" * 5_000 + "}",
    '{"a": NaN}',
    '{"a": Infinity}',
    '{"a": 1e999}',
    '{"a": "\\ud800"}',
    '{"\\ud800": 1}',
    '{"a": "\\u0000"}',
    '{"a": "' + "x" * 1_100_000 + '"}',
)


@pytest.mark.parametrize("given", ODD_JSON, ids=lambda given: given[:12])
def test_odd_json_in_forms(root: Client, filled: JobRecord, given: str) -> None:
    form = {"data": given, "reason": "why", "queue": "email", "priority": "5"}
    copy = reverse("admin:wellos_jobs_job_copy", args=[filled.pk])
    response = root.post(copy, {**form, "action": "confirm"})
    assert response.status_code == 200 and "errorlist" in response.content.decode()

    letter = DeadLetter.objects.get()
    edit = reverse("admin:wellos_jobs_deadletter_act", args=[letter.pk, "edit"])
    response = root.post(edit, {**form, "action": "confirm"})
    assert response.status_code == 200 and "errorlist" in response.content.decode()

    schedule = Schedule.objects.get()
    page = reverse("admin:wellos_jobs_schedule_change", args=[schedule.pk])
    response = root.post(page, {**form, "job_name": "test-add", "cron": "0 2 * * *"})
    assert response.status_code == 200 and "errorlist" in response.content.decode()
    assert JobRecord.objects.count() == 1


def test_usual_json_is_taken() -> None:
    field = BoundedJSONField(required=False)
    for value in ({}, [], {"a": [1, 2.5, None, True, "ü"]}, "text", 1):
        assert field.clean(json.dumps(value)) == (value if value not in ({}, []) else value)


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31", "0002-01-01", "x", "\x00"])
def test_odd_years_in_the_form_of_a_schedule(root: Client, filled: JobRecord, day: str) -> None:
    page = reverse("admin:wellos_jobs_schedule_change", args=[Schedule.objects.get().pk])
    form = {"job_name": "test-add", "data": '{"a": 1}', "reason": "why", "overlap": "skip"}
    for cron in ("0 2 * * *", "@every 90"):
        for name in ("starts_at", "ends_at"):
            dated = {**form, "cron": cron, f"{name}_0": day, f"{name}_1": "00:00"}
            dated |= {"catch_up": "latest", "catch_up_limit": "10", "enabled": "on"}
            assert root.post(page, dated).status_code in {200, 302}, (cron, name)
            preview = reverse("admin:wellos_jobs_schedule_preview")
            assert root.get(preview, dated).status_code == 200, (cron, name)
    assert root.get(page).status_code == 200
    assert root.get(url_of("schedule")).status_code == 200


def test_odd_saved_views(root: Client) -> None:
    url = reverse("admin:wellos_jobs_jobrecord_views")
    for value in ODD_TEXTS:
        saved = {"action": "save", "name": "v", "query": urlencode({"name": value})}
        assert root.post(url, saved).status_code in {302, 400}, value[:50]
        assert root.post(url, {"action": "save", "name": value, "query": ""}).status_code == 302
        assert root.post(url, {"action": "delete", "view": value}).status_code == 404
    assert root.get(url_of("jobrecord")).status_code == 200


# --- reasons --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("a\x00b", "ab"),
        (" two\nlines\t", "two\nlines"),
        ("\x1b[31mred\x07\x85", "[31mred"),
        ("lone \ud800 surrogate", "lone ? surrogate"),
        ("é, 日本, 👍", "é, 日本, 👍"),
        ("x" * 1_000, "x" * 1_000),
        ("x" * 2_000_000, "x" * 999 + "…"),
    ],
)
def test_a_reason_is_cleaned(given: str, stored: str, filled: JobRecord) -> None:
    assert texts.cleaned(given) == stored
    filled.state = JobState.FAILED
    user = User.objects.create_user("ann")
    user.username = "an\x00n\n"
    actor = Actor(user, given, "::1\x00" * 100)
    actor.record("default", "retried", "queue", "q\x00" * 300, note=given[:5_000])
    entry = AuditEntry.objects.get(target_type="queue")
    assert (entry.reason, entry.actor_name) == (stored, "ann")
    assert len(entry.address) <= 64 and len(entry.target_id) <= 180
    operations.assign([DeadLetter.objects.get()], user, given, by=user, reason=given)
    assert DeadLetter.objects.get().note == stored


def test_cancelling_by_http_with_an_odd_reason(root: Client) -> None:
    for reason, code in (("a\x00b", 200), ("x" * 2_000_000, 400)):
        handle = add.using(queue="email").enqueue(1)
        response = root.post(
            reverse("wellos_jobs:job-cancel", args=[handle.id]), {"reason": reason}
        )
        assert response.status_code == code
    assert AuditEntry.objects.get(action="canceled").reason == "ab"


def test_a_form_says_how_long_a_reason_may_be(root: Client, filled: JobRecord) -> None:
    url = reverse("admin:wellos_jobs_job_act", args=[filled.pk, "retry"])
    assert "At most 1,000 characters" in text(root.get(url))
    for reason in ("x" * 1_001, "a\x00b"):
        response = root.post(url, {"action": "confirm", "reason": reason})
        assert response.status_code == 200 and "errorlist" in response.content.decode()
    assert not AuditEntry.objects.filter(target_type="job").exists()


# --- lookups --------------------------------------------------------------------------------------

FORBIDDEN = {
    "jobrecord": ("data__a", "data__a__startswith", "data__regex", "result__x", "context__x"),
    "deadletter": ("former_data__a", "job__data__a", "job__result__x", "traceback__contains"),
    "jobattempt": ("job__data__a", "job__data__a__startswith", "job__result"),
    "auditentry": ("detail__changes", "detail__to__startswith", "actor__password__startswith"),
    "batch": ("on_complete__data__a", "jobs__data__a"),
    "schedule": ("data__a", "last_job__data__a", "declared__data", "last_job__result__x"),
    "organizationreportschedule": ("data__recipients__contains", "last_job__data__a"),
    "bulkoperation": ("options__choice", "job__data__a", "actor__password__startswith"),
}


@pytest.mark.parametrize("model", LISTS)
def test_lookups_that_are_no_filters_are_refused(
    root: Client, filled: JobRecord, model: str
) -> None:
    for lookup in FORBIDDEN[model]:
        response = root.get(f"{url_of(model)}?{lookup}=1")
        assert response.status_code == 400, lookup
    assert (
        root.get(f"{url_of('jobrecord')}?requested_by__password__startswith=p").status_code == 400
    )


# --- data of schedules ----------------------------------------------------------------------------


def test_the_data_of_a_schedule_needs_view_payload() -> None:
    row = Schedule(name="s", job_name="test-add", data={"a": 47110815}, cron="0 2 * * *")
    operations.save_schedule(row, reason="")
    rights = ("view_schedule", "change_schedule", "view_auditentry", "export_auditentry")
    blind, seeing = client_of(staff(*rights)), client_of(staff(*rights, "view_payload"))
    entry = AuditEntry.objects.get(target_type="schedule")
    pages = (
        reverse("admin:wellos_jobs_schedule_change", args=[row.pk]),
        reverse("admin:wellos_jobs_auditentry_change", args=[entry.pk]),
        reverse("admin:wellos_jobs_auditentry_export"),
    )
    for url in pages:
        assert "47110815" in body(seeing.get(url)), url
        assert "47110815" not in body(blind.get(url)), url

    form = {
        "job_name": "test-noop",
        "data": '{"a": 666}',
        "cron": "0 3 * * *",
        "reason": "why",
        "catch_up": row.catch_up,
        "catch_up_limit": row.catch_up_limit,
        "overlap": row.overlap,
    }
    assert blind.post(pages[0], form).status_code == 302
    row.refresh_from_db()
    assert (row.cron, row.data, row.job_name) == ("0 3 * * *", {"a": 47110815}, "test-add")


def body(response: Any) -> str:
    return b"".join(response).decode()


def test_odd_ids_and_headers_of_the_http_endpoints(root: Client) -> None:
    handle = add.using(queue="email").enqueue(1)
    for value in ODD_TEXTS:
        job_id = value[:2_000].replace("/", "-")
        for name in ("job-status", "job-events"):
            url = reverse(f"wellos_jobs:{name}", args=[job_id])
            assert root.get(url).status_code == 404, value[:50]
        assert root.post(reverse("wellos_jobs:job-cancel", args=[job_id])).status_code == 404
        header = value[:2_000].encode("latin-1", "replace").decode("latin-1")
        events = reverse("wellos_jobs:job-events", args=[handle.id])
        assert root.get(events, headers={"Last-Event-ID": header}).status_code == 200


def test_odd_values_in_action_forms(root: Client, filled: JobRecord) -> None:
    for value in ODD_TEXTS:
        for name, args, fields in (
            ("job_act", [filled.pk, "priority"], {"priority": value}),
            ("job_act", [filled.pk, "move"], {"queue": value}),
            ("job_copy", [filled.pk], {"delay": value, "organization": value, "data": "{}"}),
            ("deadletter_act", [DeadLetter.objects.get().pk, "assign"], {"person": value}),
            ("queues", [], {"verb": "pause", "target": value}),
            ("limits", [], {"verb": "change", "target": value, "most": value}),
            ("workers", [], {"verb": "quiet", "target": value}),
        ):
            url = reverse(f"admin:wellos_jobs_{name}", args=args)
            response = root.post(url, {"action": "confirm", "reason": "why", **fields})
            assert response.status_code in {200, 302, 400, 404}, (name, value[:50])
