"""Where work comes from, from a request's header to the log lines of the jobs it led to."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, RequestFactory
from django.urls import path

from wellos_jobs import current_job, job
from wellos_jobs.enqueueing.context import current_origin, origin_of_headers
from wellos_jobs.management import console_log
from wellos_jobs.middleware import HEADER, RequestIdMiddleware
from wellos_jobs.models import JobLog, JobRecord
from wellos_jobs.structured_logs import JobFilter, JsonFormatter

from .. import jobs
from ..support.engine import Books, work
from ..support.processes import Fleet

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
logger = logging.getLogger("shop.orders")


@job("test-outer")
def outer() -> str:
    logger.warning("in %s", current_job().name)
    return str(jobs.noop.enqueue().id)


def order(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(outer.using(organization="acme").enqueue().id))


async def order_async(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0)
    return HttpResponse(current_origin()["request_id"])


def scripted(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(jobs.scripted.enqueue(steps=["log:counting"]).id))


urlpatterns = [path("order", order), path("async", order_async), path("scripted", scripted)]


@pytest.fixture(autouse=True)
def site(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.worker.test_logging"
    settings.MIDDLEWARE = ["wellos_jobs.middleware.RequestIdMiddleware", *settings.MIDDLEWARE]


# --- requests -------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_from_the_header_into_the_job_and_what_it_enqueues() -> None:
    sent = {HEADER: "req-1", "traceparent": TRACEPARENT}
    response = Client().get("/order", headers=sent)
    assert response[HEADER] == "req-1"
    record = JobRecord.objects.get(pk=response.content.decode())
    assert record.context == {"request_id": "req-1", "trace_id": TRACE}
    work()
    Books().fold()
    inner = JobRecord.objects.get(name="test-noop")
    assert inner.context == {
        "request_id": "req-1",
        "trace_id": TRACE,
        "enqueued_by": str(record.pk),
    }
    assert current_origin() == {}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("bad", ["", "two words", "x" * 129, "line\nbreak", "<b>"])
def test_without_a_usable_id_there_is_a_new_one(bad: str) -> None:
    made = RequestIdMiddleware(lambda request: HttpResponse(current_origin()["request_id"]))
    request = RequestFactory().get("/")
    request.META["HTTP_X_REQUEST_ID"] = bad
    first, second = made(request), made(request)
    assert first[HEADER] == first.content.decode() != second[HEADER]
    assert len(first[HEADER]) == 32


@pytest.mark.parametrize(
    "bad", ["", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "00-xyz-1-01", TRACE]
)
def test_an_invalid_trace_header(bad: str) -> None:
    assert origin_of_headers("r", bad) == {"request_id": "r"}


async def _both() -> list[tuple[str, str]]:
    client = AsyncClient()
    answers = await asyncio.gather(
        *(client.get("/async", headers={HEADER: f"req-{n}"}) for n in range(5))
    )
    return [(answer[HEADER], answer.content.decode()) for answer in answers]


@pytest.mark.django_db(transaction=True)
def test_concurrent_asgi_requests_keep_their_ids() -> None:
    assert asyncio.run(_both()) == [(f"req-{n}", f"req-{n}") for n in range(5)]


# --- lines ----------------------------------------------------------------------------------------


def made(**extra: Any) -> logging.LogRecord:
    return logger.makeRecord(
        "shop.orders", logging.INFO, "x.py", 1, "order %d", (7,), None, extra=extra
    )


def test_outside_of_runs_and_requests() -> None:
    record = made()
    assert JobFilter().filter(record)
    assert (record.job_id, record.attempt, record.request_id) == ("", "", "")  # type: ignore[attr-defined]
    told = json.loads(JsonFormatter().format(record))
    assert told.pop("time").endswith("+00:00")
    assert told == {"level": "INFO", "logger": "shop.orders", "message": "order 7"}


def test_extra_is_included_and_wins() -> None:
    told = json.loads(JsonFormatter().format(made(job_id="given", shelf={"a": 1}, odd=object)))
    assert (told["job_id"], told["shelf"], told["odd"]) == ("given", {"a": 1}, "<class 'object'>")


def test_a_traceback_is_in_its_line() -> None:
    try:
        raise LookupError("gone")
    except LookupError as error:
        record = made()
        record.exc_info = (type(error), error, error.__traceback__)
    told = json.loads(JsonFormatter().format(record))
    assert told["exception"].endswith("LookupError: gone")


@pytest.mark.django_db(transaction=True)
def test_a_line_of_a_run_has_the_fields_of_its_job() -> None:
    lines: list[dict[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(self.format(record)))

    handler = Keep()
    handler.addFilter(JobFilter())
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    try:
        answer = Client().get("/order", headers={HEADER: "req-2"})
        work()
    finally:
        logger.removeHandler(handler)
    (line,) = lines
    del line["time"]
    assert line == {
        "level": "WARNING",
        "logger": "shop.orders",
        "message": "in test-outer",
        "job_id": answer.content.decode(),
        "job_name": "test-outer",
        "queue": "default",
        "organization_id": "acme",
        "attempt": 1,
        "request_id": "req-2",
    }


def test_from_a_request_to_a_worker_process(processes: Fleet) -> None:
    processes.worker()
    answer = Client().get("/scripted", headers={HEADER: "req-3"})
    processes.wait_until(lambda: JobLog.objects.filter(job=answer.content.decode()).exists())
    assert JobRecord.objects.get(pk=answer.content.decode()).context["request_id"] == "req-3"


# --- the terminal ---------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["wellos_jobs", "root"])
def test_a_handler_of_the_project_gets_the_lines_of_workers(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = _quiet(monkeypatch), logging.NullHandler()
    (ours if where == "wellos_jobs" else logging.root).addHandler(theirs)
    console_log.configure(1)
    assert ours.handlers + logging.root.handlers == [theirs]
    assert (ours.level, ours.propagate) == (logging.INFO, True)


def test_without_a_handler_lines_go_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = _quiet(monkeypatch)
    console_log.configure(0)
    assert [type(handler) for handler in ours.handlers] == [logging.StreamHandler]
    assert (ours.level, ours.propagate) == (logging.WARNING, False)


def _quiet(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """Return the package's logger as Python makes it; it and the root have no handler."""
    ours = logging.getLogger("wellos_jobs")
    for owner in (ours, logging.root):
        monkeypatch.setattr(owner, "handlers", [])
    monkeypatch.setattr(ours, "level", logging.NOTSET)
    monkeypatch.setattr(ours, "_cache", {})  # of what levels are on: it must not outlive the test
    monkeypatch.setattr(ours, "propagate", True)
    return ours
