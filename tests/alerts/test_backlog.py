"""Backlog alerts: one log line, mail and signal when a queue exceeds its limits and recovers."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import redis
from django.core import mail

from wellos_jobs import conf, operations, signals
from wellos_jobs.alerts import backlog
from wellos_jobs.broker import job_hash, keys

from ..jobs import noop
from ..support.engine import listening

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def limits(settings: Any) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "BACKLOG_ALERTS": {"waiting": 3}}


def test_a_backlog_is_reported_once_and_its_end_once(
    redis_client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "wellos_jobs")
    with listening(signals.queue_backlog) as heard:
        noop.enqueue_bulk([{}] * 3)
        backlog.watch(redis_client, ["default", "email"])
        assert heard == []
        noop.enqueue()
        for _ in range(3):
            backlog.watch(redis_client, ["default", "email"])
        operations.empty_queue("default")
        for _ in range(3):
            backlog.watch(redis_client, ["default", "email"])

    assert [(one["queue"], one["waiting"], one["cleared"]) for one in heard] == [
        ("default", 4, False),
        ("default", 0, True),
    ]
    assert [message.subject.partition("] ")[2] for message in mail.outbox] == [
        "Queue default: backlog",
        "Queue default: backlog cleared",
    ]
    assert [record.levelname for record in caplog.records if "Queue default" in record.message] == [
        "WARNING",
        "INFO",
    ]


def test_a_long_wait_is_a_backlog(redis_client: redis.Redis, settings: Any) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "BACKLOG_ALERTS": {"oldest_wait": 60}}
    handle = noop.enqueue()
    seconds, _ = redis_client.time()
    redis_client.hset(keys.job(handle), job_hash.WAITING_SINCE, seconds - 61)
    with listening(signals.queue_backlog) as heard:
        backlog.watch(redis_client, ["default"])
    assert [one["cleared"] for one in heard] == [False]


def test_alerts_can_be_disabled(redis_client: redis.Redis, settings: Any) -> None:
    settings.WELLOS_JOBS = {**settings.WELLOS_JOBS, "BACKLOG_ALERTS": None}
    noop.enqueue_bulk([{}] * 5)
    with listening(signals.queue_backlog) as heard:
        backlog.watch(redis_client, ["default"])
    assert heard == [] and mail.outbox == []


@pytest.mark.parametrize("value", [{"wating": 1}, {"waiting": 0}, 7])
def test_invalid_limits_are_a_problem(settings: Any, value: object) -> None:
    settings.WELLOS_JOBS = {"BACKLOG_ALERTS": value}
    (problem,) = conf.problems()
    assert problem.startswith("WELLOS_JOBS['BACKLOG_ALERTS'] is")
