"""A secret goes through everything, with real processes, and is found nowhere but in the hands of
its job."""

from __future__ import annotations

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections
from django.test import Client
from django.utils.log import AdminEmailHandler

from wellos_jobs import JobHandle, operations, payload
from wellos_jobs.models import AuditEntry, DeadLetter, JobAttempt, JobRecord
from wellos_jobs.states import JobState
from wellos_jobs.worker.log_masking import mask_output

from .. import jobs
from ..support.processes import Fleet
from ..support.redis_contents import contents_of_redis

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

TOKEN = 'zq"7-Öpen/sesame&<nine>'
"""It looks different in JSON, in a URL, in HTML and in a repr: none of these may show."""
MARKS = ["sesame", "pen%2F", "zq\\", "zq&quot;", "zq%22"]


def contents_of_databases() -> Iterator[str]:
    """Yield every row of every table of both databases."""
    for alias in ("default", "other"):
        with connections[alias].cursor() as cursor:
            for table in connections[alias].introspection.table_names(cursor):
                cursor.execute(f"SELECT * FROM {connections[alias].ops.quote_name(table)}")
                for row in cursor.fetchall():
                    yield f"{alias}.{table}: {row!r}"


def pages(root: Client, handles: list[JobHandle]) -> Iterator[str]:
    """Yield every page of the app that could show something of these jobs."""
    urls = [f"/jobs/{handle}/status" for handle in handles]
    for model in (JobRecord, JobAttempt, DeadLetter, AuditEntry):
        folder = f"/admin/wellos_jobs/{model._meta.model_name}/"
        urls += [
            folder,
            f"{folder}?q=sesam",
            *(f"{folder}{row.pk}/change/" for row in model._default_manager.all()),
        ]
    urls += ["/admin/wellos_jobs/queues/", "/admin/wellos_jobs/queues/stats/", "/admin/"]
    for url in urls:
        response = root.get(url)
        assert response.status_code == 200, url
        yield f"{url}: {response.content.decode()}"


def leaks(texts: Iterator[str] | list[str]) -> list[str]:
    return [text[:2000] for text in texts if any(mark in text for mark in MARKS)]


def test_an_unprotected_secret_is_found(root: Client, redis_client: redis.Redis) -> None:
    """A check of the check: a secret that is not hidden is found in each place."""
    handle = jobs.echo.enqueue(value=TOKEN)
    redis_client.xadd("a-stream", {"value": TOKEN})
    redis_client.zadd("a-set", {TOKEN: 1})
    assert leaks(contents_of_databases())
    assert len(leaks(contents_of_redis(redis_client))) >= 2
    assert leaks(pages(root, [handle]))


def test_a_secret_is_found_nowhere(
    processes: Fleet, root: Client, redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    worker = processes.worker("--processes", "2")
    user = User.objects.get()
    works = jobs.secret.using(requested_by=user).enqueue(token=TOKEN)
    fails = jobs.secret.using(max_attempts=2, requested_by=user).enqueue(token=TOKEN, fail=True)
    waits = jobs.secret.using(delay=3600).enqueue(token=TOKEN)
    handles = [works, fails, waits]
    assert "sesame" not in repr(works)

    processes.wait_until(lambda: DeadLetter.objects.count() == 1, what="the dead letter")
    processes.wait_until(
        lambda: works.record().state == JobState.COMPLETED, what="the job that works"
    )
    mails = Path(settings.MAIL_FOLDER)
    processes.wait_until(
        lambda: any(mails.iterdir()) if mails.exists() else False, what="the mail to the admins"
    )
    assert works.result == len(TOKEN)  # the job itself got the real thing
    assert JobAttempt.objects.filter(job_id=fails.id).count() == 2
    assert "********" in DeadLetter.objects.get().traceback

    assert leaks(contents_of_redis(redis_client)) == []
    assert leaks(contents_of_databases()) == []
    assert leaks(pages(root, handles)) == []
    assert leaks([file.read_text() for file in mails.iterdir()]) == []

    operations.replay(DeadLetter.objects.get(), by=user, reason="again")
    operations.cancel(waits.record(), by=user, reason="not needed")
    call_command("jobs_rotate_keys")
    processes.wait_until(lambda: DeadLetter.objects.count() == 2, what="the second dead letter")
    processes.wait_until(lambda: waits.record().state == JobState.CANCELED, what="the canceled job")
    assert leaks(contents_of_redis(redis_client)) == []
    assert leaks(contents_of_databases()) == []
    assert leaks(pages(root, handles)) == []
    worker.terminate()
    worker.wait()
    assert leaks([caplog.text]) == []
    assert leaks([process.output() for process in processes.all]) == []


@pytest.mark.parametrize(
    "careless", ["message", "argument", "dict", "unfit arguments", "exception", "cause", "thread"]
)
def test_log_lines_of_a_run_are_masked(careless: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever way code writes a secret into a log line, handlers get the line without it."""
    caplog.set_level(logging.DEBUG)
    logger = logging.getLogger("some.library")

    def write() -> None:
        match careless:
            case "message":
                logger.info(f"using {TOKEN}")
            case "argument":
                logger.info("using %r", TOKEN)
            case "dict":
                logger.info("using %(token)s", {"token": TOKEN})
            case "unfit arguments":
                logger.info("using %d", TOKEN)
            case "exception" | "cause":
                try:
                    try:
                        raise ValueError(f"refused {TOKEN}")
                    except ValueError as error:
                        if careless == "exception":
                            raise
                        raise LookupError("no access") from error
                except Exception:
                    logger.exception("it went wrong")

    before = logging.getLogRecordFactory()
    with mask_output([TOKEN]):
        if careless == "thread":
            careless = "argument"
            thread = threading.Thread(target=write)
            thread.start()
            thread.join()
        else:
            write()
    assert logging.getLogRecordFactory() == before
    assert "********" in caplog.text
    assert leaks([caplog.text, *(repr(vars(record)) for record in caplog.records)]) == []
    logger.info("after %s", "the block")
    assert "after the block" in caplog.text


def fail_quietly(token: str) -> None:
    """Raise an error whose text does not hold the secret; the locals of its frame do."""
    raise LookupError("no access")


@pytest.mark.django_db(databases=[])
def test_an_error_mail_shows_no_locals(mailoutbox: list[Any]) -> None:
    """Django's HTML mail shows the locals of all frames of a record's exception."""
    logger = logging.getLogger("some.library.with.mails")
    handler = AdminEmailHandler(include_html=True)
    logger.addHandler(handler)
    try:
        with mask_output([TOKEN]):
            try:
                fail_quietly(TOKEN)
            except LookupError:
                logger.exception("it went wrong")
                logger.error("again", stack_info=True)
    finally:
        logger.removeHandler(handler)

    shown = [str(part) for mail in mailoutbox for part in (mail.body, mail.alternatives)]
    assert len(shown) == 4
    assert leaks(shown) == []


def test_warnings_and_printed_text_are_masked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (sys.stdout, sys.stderr, warnings.showwarning)
    shown: list[Any] = []
    monkeypatch.setattr(warnings, "showwarning", lambda *args, **options: shown.append(args))
    with warnings.catch_warnings(action="always"), mask_output([TOKEN]):
        print("using", TOKEN)
        print(repr(TOKEN), file=sys.stderr)
        sys.stdout.writelines([f"a {TOKEN}\n", "plain\n"])
        warnings.warn(f"deprecated {TOKEN}", UserWarning, stacklevel=1)
        assert sys.stdout.isatty() in (True, False)
    monkeypatch.undo()

    out, err = capsys.readouterr()
    assert out == "using ********\na ********\nplain\n"
    assert err == "'********'\n"
    assert [(str(args[0]), args[1]) for args in shown] == [("deprecated ********", UserWarning)]
    assert (sys.stdout, sys.stderr, warnings.showwarning) == before


def test_keys_of_a_sensitive_dict_are_secret_unless_they_are_names_of_fields() -> None:
    sealed = payload.encode(
        {"token": {"user_name": "ann", "tk-98-secret": 1, "a@b.example": {"password": "x" * 9}}},
        sensitive=["token"],
    )
    found = payload.secrets_in(sealed)
    assert {"ann", "tk-98-secret", "a@b.example", "x" * 9} <= set(found)
    assert not {"user_name", "password"} & set(found)


def test_log_lines_without_a_secret_stay_as_they_are(caplog: pytest.LogCaptureFixture) -> None:
    with mask_output([TOKEN]):
        logging.getLogger("some.library").warning("%s of %d", "one", 2)
    assert (caplog.records[0].msg, caplog.records[0].args) == ("%s of %d", ("one", 2))
    before = logging.getLogRecordFactory()
    with mask_output([]):
        assert logging.getLogRecordFactory() is before


def test_errors_of_enqueue_do_not_quote_it() -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011
        jobs.secret.enqueue(token=TOKEN + "\ud800")
    assert leaks([str(caught.value), repr(caught.value)]) == []


def test_the_repr_of_a_row_shows_no_secret() -> None:
    record = jobs.secret.enqueue(token=TOKEN).record()
    assert leaks([repr(record), str(record), repr(vars(record))]) == []
