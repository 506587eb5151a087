"""Server-Sent Events of a job: what comes, to whom, over crashes and outages, and what an open page
costs."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connections
from django.test import AsyncClient, Client
from django.urls import reverse

from wellos_jobs import JobHandle
from wellos_jobs.broker import keys
from wellos_jobs.definitions import ids
from wellos_jobs.models import JobRecord
from wellos_jobs.views import sse, watcher
from wellos_jobs.worker.progress import Reporter

from .. import jobs
from ..support.engine import Books, Hand, work
from ..support.processes import Fleet, wait_until
from ..support.proxies import CuttingProxy
from ..support.sse import Heard, Server
from .test_status import user_with

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

BOUND = 30.0
"""Seconds that a page waits for an event."""


def in_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in an event loop; what it does by ``do`` is done in the test's own thread."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        async_to_sync(test)(*arguments, **named)

    return run


async def do(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    return await sync_to_async(function)(*arguments, **named)


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


def logged_in(user: User | None) -> str:
    client = Client()
    if user is not None:
        client.force_login(user)
    return client.cookies["sessionid"].value if user is not None else ""


def parse(text: str) -> list[Heard]:
    """Read a stream that has ended."""
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.splitlines() if not line.startswith(":")
        )
        if "event" in fields:
            found.append(Heard(fields["event"], json.loads(fields["data"]), fields.get("id", "")))
    return found


def watchers() -> list[threading.Thread]:
    return [
        thread for thread in threading.enumerate() if thread.name.startswith("wellos_jobs watcher")
    ]


def get(user: User | None, job_id: object, **headers: str) -> Any:
    """Ask a WSGI server."""
    client = Client(headers={name.replace("_", "-"): value for name, value in headers.items()})
    if user is not None:
        client.force_login(user)
    return client.get(f"/jobs/{job_id}/events")


class Page:
    """An open page in the test's own event loop."""

    def __init__(self, response: Any) -> None:
        self.response = response
        self._blocks = aiter(response) if response.streaming else self._at_once()

    async def _at_once(self) -> AsyncIterator[bytes]:
        for text in self.response.content.split(b"\n\n"):
            yield text + b"\n\n"

    async def block(self) -> str:
        """Return the next block of the stream, as text; '' at its end."""
        async with asyncio.timeout(BOUND):
            return (await anext(self._blocks, b"")).decode()

    async def close(self) -> None:
        """Do what Django does when the client has gone away."""
        await self._blocks.aclose()
        await do(self.response.close)

    async def next(self) -> Heard | None:
        """Return the next event; None at the end of the stream."""
        async with asyncio.timeout(BOUND):
            while text := await self.block():
                if events := parse(text):
                    return events[0]
        return None

    async def job(self, **fields: Any) -> dict[str, Any]:
        """Read on until a status has these fields; return it."""
        async with asyncio.timeout(BOUND):
            while event := await self.next():
                if event.name == "job" and {name: event.data[name] for name in fields} == fields:
                    return event.data  # type: ignore[no-any-return]
        raise AssertionError(f"the stream ended without {fields}")


@asynccontextmanager
async def opened(user: User | None, job_id: object, **headers: str) -> AsyncIterator[Page]:
    """Open the page of a job, and close it as Django does when the client has gone away."""
    client = AsyncClient()
    if user is not None:
        await client.aforce_login(user)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = await client.get(f"/jobs/{job_id}/events", headers=named)
    page = Page(response)
    try:
        yield page
    finally:
        await page.close()


def report(hand: Hand, claim: Any, percent: int, message: str = "") -> None:
    Reporter(hand.claimer, claim)(percent, message, True)


# --- under WSGI -----------------------------------------------------------------------------------


def test_under_wsgi_one_snapshot_and_a_poll_event(ada: User) -> None:
    handle = jobs.add.using(requested_by=ada).enqueue(a=2)
    response = get(ada, handle)
    assert response.status_code == 200
    assert response["Content-Type"] == "text/event-stream"
    assert (response["Cache-Control"], response["X-Accel-Buffering"], response["Vary"]) == (
        "no-store",
        "no",
        "Cookie",
    )
    assert response.content.startswith(b"retry: 2000\n\n")
    job, poll = parse(response.content.decode())
    assert job.data == {**get_status(ada, handle)}
    assert (job.name, job.data["state"], poll.name, poll.data) == (
        "job",
        "waiting",
        "poll",
        {"seconds": 2.0},
    )
    assert reverse("wellos_jobs:job-events", args=[handle]) == f"/jobs/{handle}/events"


def get_status(user: User, handle: JobHandle) -> dict[str, Any]:
    client = Client()
    client.force_login(user)
    found: dict[str, Any] = client.get(f"/jobs/{handle}/status").json()
    return found


def test_a_final_job_sends_one_snapshot_and_the_end(ada: User) -> None:
    handle = jobs.add.using(requested_by=ada).enqueue(a=2)
    work()
    job, end = parse(get(ada, handle).content.decode())
    assert (job.data["state"], job.data["result"], end.name, end.data) == (
        "completed",
        3,
        "end",
        {"state": "completed"},
    )
    assert job.id == end.id


def test_a_client_that_reconnects_gets_only_changes(ada: User) -> None:
    handle = jobs.add.using(requested_by=ada).enqueue(a=2)
    first = parse(get(ada, handle).content.decode())[0]
    assert [
        event.name for event in parse(get(ada, handle, last_event_id=first.id).content.decode())
    ] == ["poll"]
    work()
    job, end = parse(get(ada, handle, last_event_id=first.id).content.decode())
    assert (job.name, end.name) == ("job", "end")
    back = get(ada, handle, last_event_id=end.id)
    assert (back.status_code, back.content) == (204, b"")


def test_head_and_post(ada: User) -> None:
    handle = jobs.noop.using(requested_by=ada).enqueue()
    client = Client()
    client.force_login(ada)
    assert client.head(f"/jobs/{handle}/events")["Content-Type"] == "text/event-stream"
    assert client.post(f"/jobs/{handle}/events").status_code == 405


@pytest.mark.parametrize("who", ["nobody", "stranger", "payload alone"])
def test_others_get_the_404_of_an_unknown_id(ada: User, who: str) -> None:
    handle = jobs.add.using(requested_by=ada).enqueue(a=2)
    user = {
        "nobody": lambda: None,
        "stranger": user_with,
        "payload alone": lambda: user_with("view_payload"),
    }[who]()
    refused, unknown, malformed = get(user, handle), get(user, ids.new_id()), get(user, "nonsense")
    assert refused.status_code == unknown.status_code == malformed.status_code == 404
    assert refused.content == unknown.content == malformed.content == b"Job not found"
    assert refused.headers == unknown.headers == malformed.headers


def test_the_payload_is_hidden_as_in_the_status(ada: User) -> None:
    handle = jobs.add.using(requested_by=ada).enqueue(a=2)
    work()
    hidden = parse(get(user_with("view_jobrecord"), handle).content.decode())[0].data
    assert (hidden["state"], hidden["data"], hidden["result"]) == ("completed", None, None)
    shown = parse(get(user_with("view_jobrecord", "view_payload"), handle).content.decode())[0].data
    assert (shown["data"], shown["result"]) == ({"a": 2}, 3)
    secret = jobs.secret.using(requested_by=ada).enqueue(token="open sesame")
    assert b"sesame" not in get(ada, secret).content


# --- under ASGI, in this process ------------------------------------------------------------------


@in_a_loop
async def test_every_change_is_sent_and_then_the_end(ada: User) -> None:
    handle = await do(jobs.add.using(requested_by=ada).enqueue, a=2)
    async with opened(ada, handle) as page:
        assert page.response.streaming
        assert page.response["X-Accel-Buffering"] == "no"
        assert page.response["Cache-Control"] == "no-store"
        assert await page.block() == "retry: 2000\n\n"
        assert (await page.job())["state"] == "waiting"
        hand = await do(Hand)
        claim = await do(hand.take)
        assert (await page.job(state="active"))["attempts"] == 1
        await do(report, hand, claim, 40, "rendering")
        assert (await page.job(progress=40))["progress_message"] == "rendering"
        await do(hand.run, claim)
        assert (await page.job(state="completed"))["result"] == 3
        end = await page.next()
        assert end is not None
        assert (end.name, end.data) == ("end", {"state": "completed"})
        assert await page.next() is None
    assert watcher.count() == 0


@in_a_loop
async def test_a_page_that_reconnects_gets_only_changes(ada: User) -> None:
    handle = await do(jobs.add.using(requested_by=ada).enqueue, a=2)
    async with opened(ada, handle) as page:
        first = await page.next()
    assert first is not None
    async with opened(ada, handle, last_event_id=first.id) as page:
        assert await page.block() == "retry: 2000\n\n"
        await do(work)
        assert (await page.job())["state"] in {"active", "completed"}


@in_a_loop
async def test_a_canceled_and_a_failed_job_end_their_streams(ada: User, settings: Any) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "NOTIFY_ADMINS": False}
    canceled = await do(jobs.noop.using(requested_by=ada).enqueue)
    async with opened(ada, canceled) as page:
        await page.job(state="waiting")
        await do(canceled.cancel)
        await page.job(state="canceled")
        end = await page.next()
        assert end is not None and (end.name, end.data) == ("end", {"state": "canceled"})
    failed = await do(jobs.fail.using(requested_by=ada).enqueue, message="no such partner")
    async with opened(ada, failed) as page:
        await page.job(state="waiting")
        await do(work)
        assert (await page.job(state="failed"))["error"] == "no such partner"


@in_a_loop
async def test_a_silent_stream_sends_heartbeats(ada: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT", 0.05)
    handle = await do(jobs.noop.using(requested_by=ada).enqueue)
    async with opened(ada, handle) as page:
        while not (text := await page.block()).startswith(":"):
            assert text
        assert text == ": still here\n\n"


@in_a_loop
async def test_a_stream_ends_after_its_maximum_duration(
    ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "MAX_DURATION", 0.05)
    monkeypatch.setattr(sse, "HEARTBEAT", 0.02)
    handle = await do(jobs.noop.using(requested_by=ada).enqueue)
    async with opened(ada, handle) as page:
        assert (await page.job())["state"] == "waiting"
        assert await page.next() is None
    assert watcher.count() == 0


@pytest.mark.parametrize("loss", ["permission", "deactivated", "logged out", "pruned"])
@in_a_loop
async def test_access_is_checked_again(
    ada: User, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    monkeypatch.setattr(sse, "RECHECK_EVERY", 0.05)
    handle = await do(jobs.noop.using(requested_by=ada).enqueue)
    user = await do(user_with, "view_jobrecord")
    async with opened(user, handle) as page:
        await page.job(state="waiting")
        for _ in range(3):
            assert (await page.block()).startswith(":")  # nothing has changed
        if loss == "permission":
            await user.user_permissions.aclear()
        elif loss == "deactivated":
            await User.objects.filter(pk=user.pk).aupdate(is_active=False)
        elif loss == "logged out":
            await Session.objects.all().adelete()
        else:
            await JobRecord.objects.all().adelete()
        assert await page.next() == Heard("gone", {})
        assert await page.next() is None


@in_a_loop
async def test_a_blocked_job_is_read_from_its_row(ada: User) -> None:
    """Redis does not know it; once it is released, or canceled with those it needs, Redis tells."""
    first = await do(jobs.noop.enqueue)
    second = await do(jobs.noop.using(requested_by=ada, depends_on=[first]).enqueue)
    third = await do(jobs.noop.using(requested_by=ada, depends_on=[second]).enqueue)
    books = await do(Books)
    async with opened(ada, second) as page, opened(ada, third) as other:
        await page.job(state="blocked")
        await other.job(state="blocked")
        await do(work)
        await do(books.fold)
        await page.job(state="waiting")
        await do(second.cancel)
        await page.job(state="canceled")
        await do(books.fold)
        await other.job(state="canceled")


@in_a_loop
async def test_redis_goes_away_and_comes_back(ada: User, redis_proxy: CuttingProxy) -> None:
    handle = await do(jobs.noop.using(requested_by=ada).enqueue)
    async with opened(ada, handle) as page:
        assert "problem" not in await page.job(state="waiting")
        with redis_proxy.refusing():
            while "problem" not in (job := await page.job()):
                pass
            assert "Redis is unavailable" in job["problem"]
            assert job["state"] == "waiting"
        while "problem" in await page.job():
            pass
        await do(work)
        await page.job(state="completed")


@in_a_loop
async def test_redis_comes_back_empty(
    ada: User, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job has ended and its row is final, but the page was not notified."""
    monkeypatch.setattr(sse, "RECHECK_EVERY", 3600.0)
    handle = await do(jobs.noop.using(requested_by=ada).enqueue)
    async with opened(ada, handle) as page:
        await page.job(state="waiting")
        await JobRecord.objects.aupdate(state="completed", progress=100)
        redis_client.flushall()
        assert (await page.job(state="completed"))["progress"] == 100


@in_a_loop
async def test_an_unreadable_hash(ada: User, redis_client: redis.Redis) -> None:
    handle = await do(jobs.noop.using(requested_by=ada).enqueue)
    async with opened(ada, handle) as page:
        await page.job(state="waiting")
        redis_client.delete(keys.job(handle))
        redis_client.lpush(keys.job(handle), "what?")
        while "cannot be read" not in (await page.job()).get("problem", ""):
            pass


@in_a_loop
async def test_pages_beyond_the_maximum_of_streams_poll(
    ada: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sse, "MAX_STREAMS", 1)
    handle = await do(jobs.noop.using(requested_by=ada).enqueue)
    async with opened(ada, handle) as page:
        await page.job()
        async with opened(ada, handle) as second:
            assert (await second.job())["state"] == "waiting"
            poll = await second.next()
            assert poll is not None and poll.name == "poll"
            assert not second.response.streaming
    async with opened(ada, handle) as page:
        assert page.response.streaming


@in_a_loop
async def test_a_page_that_closes_leaves_nothing_behind(
    ada: User, redis_client: redis.Redis
) -> None:
    handle = await do(jobs.noop.using(requested_by=ada).enqueue)
    before = asyncio.all_tasks()
    for _ in range(3):
        async with opened(ada, handle) as page:
            await page.job()
            assert watcher.count() == 1
            assert await do(lambda: connections["default"].connection) is None
        assert watcher.count() == 0
    assert asyncio.all_tasks() == before
    await do(wait_until, lambda: not watchers(), 10, "the thread to end")
    async with opened(ada, handle) as page:  # and it starts again
        await page.job(state="waiting")
        await do(work)
        await page.job(state="completed")


@in_a_loop
async def test_many_pages_cost_one_thread_two_connections_and_no_query(
    ada: User, redis_client: redis.Redis
) -> None:
    handle = await do(jobs.noop.using(requested_by=ada).enqueue)
    async with opened(ada, handle) as page:
        await page.job()
        clients = len(redis_client.client_list())
        others = [opened(ada, handle) for _ in range(20)]
        pages = [await other.__aenter__() for other in others]
        for one in pages:
            await one.job()
        assert len(watchers()) == 1
        assert len(redis_client.client_list()) <= clients + 2
        await do(work)
        for one in pages:
            await one.job(state="completed")
        for other in others:
            await other.__aexit__(None, None, None)


# --- a real server, real workers ------------------------------------------------------------------


def test_a_worker_is_killed_and_the_stream_goes_on(
    processes: Fleet, ada: User, tmp_path: Path
) -> None:
    server = Server(processes)
    go = tmp_path / "go"
    steps = [
        "progress:30:half way",
        f"on:1:wait_file:{tmp_path / 'never'}",
        f"wait_file:{go}",
        "progress:80:nearly",
    ]
    handle = jobs.scripted.using(requested_by=ada).enqueue(steps=[*steps, "result:done"])
    with server.listen(handle, ada) as page:
        page.wait_for("the snapshot", state="waiting")
        worker = processes.worker("--processes", "1")
        page.wait_for(
            "progress", state="active", progress=30, attempts=1, progress_message="half way"
        )
        os.kill(runner(handle), signal.SIGKILL)
        page.wait_for("the rescue", state="active", progress=30, attempts=2)
        go.touch()
        page.wait_for("the end", state="completed", result="done", progress=100)
        assert page.wait_for_end() == Heard("end", {"state": "completed"}, page.events[-1].id)
    assert page.states[:1] == ["waiting"] and page.states[-1] == "completed"
    assert worker.is_running()


def test_pages_that_go_away_leave_nothing_behind_in_a_server(
    processes: Fleet, ada: User, redis_client: redis.Redis
) -> None:
    server = Server(processes)
    handle = jobs.noop.using(requested_by=ada).enqueue()

    def sleepers() -> int:
        """How many connections to Redis are blocked on the event stream: those of watching
        threads."""
        return sum(
            "b" in client["flags"] and client["cmd"] == "xread"
            for client in redis_client.client_list()
        )

    threads = connected = 0
    for count in (1, 20):
        pages = [server.listen(handle, ada) for _ in range(count)]
        for page in pages:
            page.wait_for("the snapshot", state="waiting")
        processes.wait_until(lambda: sleepers() == 1)
        assert server.connections() == count
        for page in pages:
            page.close()
        processes.wait_until(lambda: server.connections() == 0)
        processes.wait_until(lambda: sleepers() == 0)
        if count == 1:
            threads, connected = server.threads(), len(redis_client.client_list())
    processes.wait_until(lambda: server.threads() <= threads + 2)
    processes.wait_until(
        lambda: len(redis_client.client_list()) <= connected + 4
    )  # of requests at the same time
    with server.listen(handle, ada) as page:
        page.wait_for("the snapshot", state="waiting")
        server.process.terminate()
        server.process.wait()
        assert page.has_ended.wait(BOUND)


def runner(handle: JobHandle) -> int:
    """Return the pid of the worker that runs a job."""
    with redis.Redis.from_url(django_settings.REDIS_URL, decode_responses=True) as client:
        name = client.hget(keys.job(handle.id), "worker_name")
        return int(str(client.hget(keys.worker(str(name)), "pid")))
