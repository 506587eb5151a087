"""The settings: defaults, cleaning, and messages about invalid values."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from django.test import override_settings

from wellos_jobs import conf
from wellos_jobs.checks.jobs import check_settings
from wellos_jobs.errors import ConfigurationError, UnknownQueue

from ..jobs import noop


def given(**settings: object) -> override_settings:
    return override_settings(WELLOS_JOBS=settings)


@given()
def test_the_defaults() -> None:
    current = conf.current()
    assert current.encryption_keys == ()
    assert (current.max_payload_bytes, current.default_timeout, current.lease) == (
        65_536,
        300.0,
        20.0,
    )
    assert current.retention["completed"] == current.retention["canceled"] == timedelta(days=30)
    assert (current.retention["failed"], current.retention["dead_letters"]) == (
        timedelta(days=180),
        None,
    )
    assert (current.notify_admins, current.allow_pickle, current.stream_max) == (
        True,
        False,
        1_000_000,
    )


def test_settings_are_read_at_use_and_again_after_an_override() -> None:
    before = conf.current()
    assert conf.current() is before
    with given(DEFAULT_TIMEOUT=7):
        assert conf.current().default_timeout == 7.0
        with given(DEFAULT_TIMEOUT=timedelta(minutes=1)):
            assert conf.current().default_timeout == 60.0
    assert conf.current() == before


def test_the_settings_object_is_frozen_and_shows_no_key() -> None:
    with given(ENCRYPTION_KEYS=["very-secret"]):
        assert "very-secret" not in repr(conf.current())
        with pytest.raises(dataclasses.FrozenInstanceError):
            conf.current().lease = 1.0  # type: ignore[misc]


@given(RETENTION={"failed": 3600, "dead_letters": timedelta(days=7), "completed": None})
def test_retention_takes_seconds_timedeltas_and_none_and_keeps_the_other_defaults() -> None:
    assert conf.current().retention == {
        "completed": None,
        "canceled": timedelta(days=30),
        "failed": timedelta(hours=1),
        "dead_letters": timedelta(days=7),
        "statistics": timedelta(days=90),
        "audit": None,
    }


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"DEFAULT_TIMEOUTS": 5},
            "unknown key 'DEFAULT_TIMEOUTS': did you mean 'DEFAULT_TIMEOUT'?",
        ),
        ({"ZZZ": 5}, "unknown key 'ZZZ'; known keys are ADMIN_ORGANIZATIONS, "),
        (
            {"DEFAULT_TIMEOUT": 0},
            r"WELLOS_JOBS['DEFAULT_TIMEOUT'] is 0: it must be a number above 0",
        ),
        (
            {"HEALTH_TOKEN": "short"},
            "WELLOS_JOBS['HEALTH_TOKEN'] is set: it must be a text of at least 16 characters",
        ),
        ({"DEFAULT_TIMEOUT": "5"}, "it must be a number above 0"),
        ({"MAX_PAYLOAD_BYTES": True}, "it must be a number above 0"),
        ({"STREAM_MAX": float("nan")}, "it must be a number above 0"),
        ({"DEFAULT_TIMEOUT": float("inf")}, "it must be a number above 0"),
        ({"MAX_PAYLOAD_BYTES": -0.5}, "it must be a number above 0"),
        ({"RETENTION": {"failed": float("inf")}}, "WELLOS_JOBS['RETENTION'] is {'failed': inf}: "),
        ({"LEASE": 4}, "it must be at least 5 seconds"),
        ({"NOTIFY_ADMINS": "yes"}, "it must be True or False"),
        ({"CAN_VIEW_JOB": "nodots"}, "dotted path of a function"),
        (
            {"ENCRYPTION_KEYS": "one-key"},
            "WELLOS_JOBS['ENCRYPTION_KEYS'] is set: it must be a list of Fernet keys",
        ),
        ({"ENCRYPTION_KEYS": b"one-key"}, "it must be a list of Fernet keys"),
        ({"ENCRYPTION_KEYS": None}, "it must be a list of Fernet keys"),
        (
            {"RETENTION": 30},
            "it must be a dict with the keys completed, canceled, failed, dead_letters, ",
        ),
        (
            {"RETENTION": {"done": 30}},
            "'done' is not one of completed, canceled, failed, dead_letters, statistics, ",
        ),
        (
            {"RETENTION": {"failed": -1}},
            "'failed' must be a timedelta, a number of seconds, or None",
        ),
        ({"RETENTION": {"failed": True}}, "'failed' must be a timedelta"),
        ({"BASE_URL": "wellos.example"}, "it must be empty or begin with http:// or https://"),
        (
            {"FILES_STORAGE": "archive"},
            "WELLOS_JOBS['FILES_STORAGE'] is 'archive': it must be one of STORAGES: default, ",
        ),
        ({"FILE_LINK_AGE": 0}, "it must be a number above 0"),
        (
            {"MAIL_WAITS": {"greylisted": 1}},
            "it must be a dict with the keys deferred, unreachable",
        ),
        ({"MAIL_WAITS": {"deferred": 0}}, "it must be a number above 0"),
    ],
)
def test_an_invalid_value_is_named_with_the_fix(settings: dict[str, object], text: str) -> None:
    with given(**settings):
        assert any(text in problem for problem in conf.problems())
        with pytest.raises(ConfigurationError) as caught:
            conf.current()
    assert text in str(caught.value)


def test_all_problems_are_reported_at_once_and_no_key_is_shown() -> None:
    with (
        given(LEASE=1, NOTIFY_ADMINS=1, ENCRYPTION_KEYS="very-secret"),
        pytest.raises(ConfigurationError) as caught,
    ):
        conf.current()
    text = str(caught.value)
    assert "LEASE" in text and "NOTIFY_ADMINS" in text and "ENCRYPTION_KEYS" in text
    assert "very-secret" not in text


@override_settings(USE_TZ=False)
def test_use_tz_must_be_true() -> None:
    """The ledger would pass over every event: databases refuse its aware times, and people's may be
    an hour off."""
    with pytest.raises(ConfigurationError, match="USE_TZ is False: .* set USE_TZ = True"):
        noop.enqueue()
    assert [(fault.id, fault.hint) for fault in check_settings()] == [
        ("wellos_jobs.E001", "Fix the setting.")
    ]


@override_settings(WELLOS_JOBS=["a list"])
def test_wellos_jobs_must_be_a_dict() -> None:
    with pytest.raises(ConfigurationError, match="WELLOS_JOBS must be a dict, not list"):
        conf.current()


def test_an_unknown_queue_suggests_the_closest() -> None:
    assert conf.queue("email")["SERIALIZER"] == "rq.serializers.JSONSerializer"
    with pytest.raises(UnknownQueue, match="no queue 'emial': did you mean 'email'"):
        conf.queue("emial")
    with pytest.raises(UnknownQueue, match="no queue 'xyzzy'; known queues are cleanup, default"):
        conf.queue("xyzzy")


@override_settings(RQ_QUEUES={})
def test_missing_queues_are_explained() -> None:
    with pytest.raises(
        ConfigurationError,
        match='RQ_QUEUES is not set: name at least one queue, such as {"default"',
    ):
        conf.queues()


def test_a_hook_is_imported_by_its_path() -> None:
    assert conf.hook(None) is None
    assert conf.hook("wellos_jobs.conf.hook") is conf.hook
