"""Every page while Redis is unavailable or damaged, and with very long texts."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from django.test import Client

from wellos_jobs.models import AuditEntry, DeadLetter, JobAttempt, JobRecord

from ..conftest import UseRedis
from ..support import admin_pages
from ..support.admin_pages import FILES, PAGES, AdminPage
from ..support.servers import free_port

pytestmark = pytest.mark.django_db(transaction=True)

NONSENSE = b"\xff\xfe\x00 nonsense"
"""Invalid as UTF-8, number, JSON and time."""
TELLING = 60_000
"""How many characters of a page are searched for error texts."""
LONG = "an <b>endless</b> line\n" * 230_000
"""Five megabytes."""
MOST = 400_000
"""Maximum size of a page in bytes, however long its texts are."""
WHOLE = {"job_copy", "deadletter_act edit"}
"""Pages with the complete data in a form."""


@pytest.fixture
def root(no_notices: None) -> Iterator[Client]:
    """A superuser's client, and something on each page."""
    with admin_pages.report_kinds():
        client = Client(raise_request_exception=False)
        client.force_login(admin_pages.fill())
        yield client


def ask(client: Client, pages: tuple[AdminPage, ...] = (*PAGES, *FILES)) -> dict[AdminPage, bytes]:
    """Request the pages; each must respond."""
    answers, faults = {}, []
    for page in pages:
        response: Any = client.get(page.url())
        if response.status_code != 200:
            faults.append(
                f"{page}: {response.status_code} {getattr(response, 'exc_info', ('', ''))[1]!r}"[
                    :300
                ]
            )
            continue
        answers[page] = (
            b"".join(response.streaming_content) if response.streaming else response.content
        )
    assert not faults, "\n".join(faults)
    return answers


def text(body: bytes) -> str:
    """Return the beginning of the visible text of a page."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body.decode()[:TELLING])).split())


def silent(answers: dict[AdminPage, bytes], expected: str) -> list[str]:
    """Return the pages that query Redis and do not show an expected text."""
    return [
        str(page)
        for page, body in answers.items()
        if page.asks_redis and not re.search(expected, text(body))
    ]


def test_redis_is_down(root: Client, use_redis: UseRedis) -> None:
    use_redis(f"redis://127.0.0.1:{free_port()}/0")
    answers = ask(root)
    texts = "Redis.{0,30} (is unavailable|could not be queried|does not respond)"
    assert silent(answers, texts) == []


def test_redis_has_lost_all(root: Client, redis_client: redis.Redis) -> None:
    redis_client.flushall()
    answers = ask(root)
    open_jobs = {
        page: body
        for page, body in answers.items()
        if page.label in {"waiting", "delayed", "active"}
    }
    assert len(open_jobs) == 3
    assert silent(open_jobs, "Redis does not know it yet") == []


# --- damage ---------------------------------------------------------------------------------------


def _another_type(client: redis.Redis, key: bytes) -> None:
    client.delete(key)
    client.set(key, NONSENSE)


def _garbage(client: redis.Redis, key: bytes) -> None:
    match client.type(key):
        case b"hash":
            client.hset(key, mapping=dict.fromkeys(client.hkeys(key), NONSENSE))
        case b"list":
            count = client.llen(key)
            client.delete(key)
            client.rpush(key, *[NONSENSE] * count)
        case b"zset":
            client.zadd(key, {NONSENSE: 1})
        case b"set":
            client.sadd(key, NONSENSE)
        case b"string":
            client.set(key, NONSENSE)


def _missing(client: redis.Redis, key: bytes) -> None:
    client.delete(key)


Harm = Callable[[redis.Redis, bytes], None]
CANNOT = r"cannot be (read|told)|could not be queried|is unavailable|is unknown|does not respond"


@pytest.mark.parametrize(
    ("harm", "expected"),
    [(_another_type, CANNOT), (_garbage, CANNOT), (_missing, "Redis does not know it yet")],
    ids=["another type", "garbage", "missing"],
)
def test_the_hashes_of_jobs_are_damaged(
    root: Client, redis_client: redis.Redis, harm: Harm, expected: str
) -> None:
    for key in redis_client.keys("rq:job:*"):
        harm(redis_client, key)
    answers = ask(root)
    of_jobs = {
        page: body
        for page, body in answers.items()
        if page.label in {"waiting", "delayed", "active"}
    }
    of_jobs |= {page: body for page, body in answers.items() if page.name == "bulkoperation_change"}
    assert len(of_jobs) == 4
    assert silent(of_jobs, expected) == []


@pytest.mark.parametrize(
    ("harm", "expected"), [(_another_type, CANNOT), (_garbage, "")], ids=["another type", "garbage"]
)
def test_every_key_is_damaged(
    root: Client, redis_client: redis.Redis, harm: Harm, expected: str
) -> None:
    for key in redis_client.keys("*"):
        harm(redis_client, key)
    answers = ask(root)
    boards = {
        page: body for page, body in answers.items() if page.name in {"queues", "limits", "workers"}
    }
    assert silent(boards, expected) == []


# --- texts without end ----------------------------------------------------------------------------


@pytest.mark.system
def test_five_megabytes(root: Client) -> None:
    for rows, column, value in (  # one at a time: MariaDB takes no statement above 16 MB
        (JobAttempt.objects, "traceback", LONG),
        (JobAttempt.objects, "message", LONG),
        (DeadLetter.objects, "traceback", LONG),
        (DeadLetter.objects, "message", LONG),
        (DeadLetter.objects, "former_data", {"value": LONG}),
        (JobRecord.objects, "error", LONG),
        (JobRecord.objects, "result", {"value": LONG}),
        (JobRecord.objects.filter(name="test-fail"), "data", {"message": LONG}),
        (AuditEntry.objects, "detail", {"error": LONG, "changes": {"data": [LONG]}}),
    ):
        rows.update(**{column: value})
    answers = ask(root)
    large = {
        str(page): len(body) for page, body in answers.items() if len(body) > MOST and page in PAGES
    }
    assert set(large) - WHOLE == set(), large
    for page in PAGES:
        if page.label == "failed" or page.name in {"jobattempt_change", "deadletter_change"}:
            assert "omitted" in answers[page].decode(), page
    for page in FILES:
        if page.name.endswith("_traceback"):
            assert answers[page].decode() == LONG, page
