"""``contrib.notifications``: due times, and checks when the jobs run."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.utils import timezone

from wellos_jobs import JobState
from wellos_jobs.contrib import notifications
from wellos_jobs.errors import BadOption
from wellos_jobs.models import JobRecord

from ..support.processes import Fleet


@pytest.fixture
def user(db: None) -> Any:
    return get_user_model().objects.create_user("ada", email="ada@wellos.example")


def test_a_reminder_is_delayed_and_stores_only_the_user_key(user: Any) -> None:
    before = timezone.now()
    record = notifications.send_reminder(user, "Timesheet!", timedelta(hours=2)).record()
    assert (record.name, record.queue, record.state) == (
        "send-reminder",
        "notifications",
        JobState.DELAYED,
    )
    assert record.data == {"user_id": user.pk, "reminder_text": "Timesheet!"}
    assert timedelta(hours=2) <= record.run_at - before < timedelta(hours=2, seconds=10)


@pytest.mark.parametrize("delay", [-1, "soon"])
def test_a_reminder_with_an_invalid_delay_is_refused(user: Any, delay: Any) -> None:
    with pytest.raises(BadOption, match="delay"):
        notifications.send_reminder(user, "Timesheet!", delay)


def test_the_trial_warning_is_due_three_days_before(user: Any) -> None:
    ends_at = timezone.now() + timedelta(days=10)
    handle = notifications.send_trial_expiration_warning(user, ends_at, organization="acme")
    assert handle is not None
    record = handle.record()
    assert (record.name, record.queue) == ("trial-expiration-warning", "notifications")
    assert (record.run_at, record.organization_id) == (ends_at - timedelta(days=3), "acme")


@pytest.mark.parametrize("days", [3, 1, -5])
def test_no_warning_if_it_would_be_in_the_past(user: Any, days: float) -> None:
    assert (
        notifications.send_trial_expiration_warning(user, timezone.now() + timedelta(days=days))
        is None
    )
    assert not JobRecord.objects.exists()


def test_a_naive_time_is_refused(user: Any) -> None:
    with pytest.raises(ValueError, match="naive"):
        notifications.send_trial_expiration_warning(user, datetime(2030, 1, 1))


def test_the_reminder_includes_the_text(user: Any, mailoutbox: list[Any]) -> None:
    assert notifications.reminder_job(user.pk, "Timesheet & <tea>")["sent"] is True
    (message,) = mailoutbox
    assert (message.subject, message.to) == ("Reminder", ["ada@wellos.example"])
    assert "Timesheet & <tea>" in message.body
    assert "Timesheet &amp; &lt;tea&gt;" in message.alternatives[0].content


def test_the_warning_says_when_the_trial_ends(user: Any, mailoutbox: list[Any]) -> None:
    ends_at = timezone.make_aware(datetime(2030, 5, 4, 12, 30))
    notifications.trial_expiration_warning_job(user.pk, ends_at)
    assert "Your trial ends on 4 May 2030, 12:30 UTC." in mailoutbox[0].body


@pytest.mark.django_db(databases=["default", "other"])
@pytest.mark.parametrize("fate", ["deleted", "inactive"])
def test_nothing_is_sent_to_a_deleted_or_inactive_user(
    user: Any, mailoutbox: list[Any], fate: str
) -> None:
    key = user.pk
    if fate == "deleted":
        user.delete()
    else:
        get_user_model().objects.update(is_active=False)
    for result in (
        notifications.reminder_job(key, "Timesheet!"),
        notifications.trial_expiration_warning_job(key, timezone.now()),
    ):
        assert result == {"sent": False, "why": f"user {key} was deleted or is not active"}
    assert mailoutbox == []


def test_no_warning_if_the_end_of_the_trial_has_changed(
    user: Any, mailoutbox: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    then, now = timezone.now() + timedelta(days=3), timezone.now() + timedelta(days=30)
    monkeypatch.setattr(get_user_model(), "trial_ends_at", now, raising=False)
    assert notifications.trial_expiration_warning_job(user.pk, then)["sent"] is False
    assert notifications.trial_expiration_warning_job(user.pk, now)["sent"] is True
    assert len(mailoutbox) == 1


def test_a_worker_sends_the_reminder_when_it_is_due_and_not_before(processes: Fleet) -> None:
    ada = get_user_model().objects.create_user("ada", email="ada@wellos.example")
    handle = notifications.send_reminder(ada, "The kettle is on.", 1.5)
    processes.worker("notifications")
    processes.wait_until(lambda: handle.record().state == JobState.COMPLETED, what="the reminder")
    record = handle.record()
    assert record.started_at >= record.run_at
    assert record.started_at - record.run_at < timedelta(seconds=15)
    mails = [path.read_text() for path in Path(django_settings.MAIL_FOLDER).iterdir()]
    assert sum("The kettle is on." in mail for mail in mails) == 1
