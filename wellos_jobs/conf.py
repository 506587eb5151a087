"""The settings: one frozen object made from ``settings.WELLOS_JOBS``.

Call ``current()`` where a setting is used, never at import: it follows ``override_settings``. This
is the only module that reads Django's settings.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from .errors import ConfigurationError, UnknownQueue, suggestion

MAX_QUEUE_NAME = 100
"""Characters of a queue's name that the rows can hold."""
_LANE_SUFFIX = re.compile(r":p(1|3|7|10)$")
"""The end of the key of a queue's lane (``broker.keys.lane``)."""

DEFAULT_RETENTION: Mapping[str, timedelta | None] = {
    "completed": timedelta(days=30),
    "canceled": timedelta(days=30),
    "failed": timedelta(days=180),
    "dead_letters": None,
    "statistics": timedelta(days=90),
    "audit": None,
}
DEFAULT_BACKLOG: Mapping[str, float] = {"waiting": 1_000, "oldest_wait": 300.0}
MAX_NAME = 60
DEFAULT_MAIL_WAITS: Mapping[str, float] = {"deferred": 300.0, "unreachable": 30.0}


@dataclass(frozen=True)
class Conf:
    """``WELLOS_JOBS`` with its defaults: the keys in lower case, times in seconds."""

    encryption_keys: tuple[str, ...] = field(default=(), repr=False)
    """Fernet keys for sensitive values: the first encrypts, all decrypt."""
    max_payload_bytes: int = 65_536
    """The maximum size of a job's data, and of its result, as JSON."""
    default_timeout: float = 300.0
    """The timeout of a run, unless the job or its queue sets one."""
    retention: Mapping[str, timedelta | None] = field(
        default_factory=lambda: dict(DEFAULT_RETENTION)
    )
    """How long rows are kept, by state of the job or kind of row; None: forever.

    ``dead_letters`` are the open ones.
    """
    lease: float = 20.0
    """How long a claim lasts without renewal, and so when a dead machine is noticed."""
    notify_admins: bool = True
    """Whether ``settings.ADMINS`` get a mail for each dead letter."""
    can_view_job: str | None = None
    """Dotted path of ``(request, record) -> bool``: who else may see a job's status."""
    installation: str = ""
    """The name of this installation, such as ``production``; another one is a copy."""
    organization_resolver: str | None = None
    """Dotted path of ``(id) -> {"label", "url", "time_zone", "sender", "reply_to"}``."""
    admin_organizations: str | None = None
    """Dotted path of ``(user) -> organization ids, or None for all``: what staff may see."""
    operations_queue: str | None = None
    """The queue for the admin's bulk operations; None: ``default``, else the first queue."""
    stream_max: int = 1_000_000
    """How many events may wait for the ledger before an alert is sent and enqueue slows down."""
    job_databases: tuple[str, ...] | None = None
    """The aliases of the databases that hold jobs; None: the one the router writes jobs to."""
    fair_queues: frozenset[str] = frozenset()
    """Queues in which the organizations take turns."""
    unknown_job_wait: float = 600.0
    """How long a job waits for a worker that knows its name, version and arguments."""
    shortest_interval: float = 1.0
    """The lower bound for the time between two runs of a schedule."""
    ignored_apps: frozenset[str] = frozenset()
    """Installed apps whose ``jobs.py`` is not imported."""
    schedules: Mapping[str, Any] = field(default_factory=dict)
    """Schedules by name: dicts of ``job``, ``cron``, ``tz``, ``data`` and schedule options."""
    backlog_alerts: Mapping[str, float] | None = field(
        default_factory=lambda: dict(DEFAULT_BACKLOG)
    )
    """The backlog that raises an alert: jobs ``waiting``, or seconds the oldest has waited."""
    health_token: str | None = field(default=None, repr=False)
    """The bearer token with which a monitor gets the details of the health URLs."""
    job_log_level: str | None = "INFO"
    """The lowest level of log lines that are stored as a run's ``JobLog``; None: no log."""
    allow_pickle: bool = False
    """Whether plain RQ jobs with pickled payloads are run."""
    base_url: str = ""
    """The beginning of links in mails, such as ``https://wellos.example``."""
    files_storage: str = "default"
    """The entry of ``STORAGES`` for the files that ``wellos_jobs.contrib`` creates."""
    file_link_age: float = 7 * 86_400.0
    """How long a signed link to a file is valid."""
    mail_waits: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_MAIL_WAITS))
    """How long a mail waits if the server ``deferred`` it (4xx), or is ``unreachable``."""
    redis_in_tests: bool = False
    """Whether tests may reach Redis, which must be their own; else they are kept away from it."""


def current() -> Conf:
    """Return the settings in force.

    Raises:
        ConfigurationError: a key is unknown or a value invalid. The message names all of them.
    """
    return _current()


@functools.cache
def _current() -> Conf:
    if found := list(problems()):
        raise ConfigurationError("; ".join(found))

    values = {key.lower(): _CHECKS.get(key, _unchecked)(value) for key, value in _given().items()}
    return Conf(**values)


def problems() -> Iterator[str]:
    """Yield a sentence for each problem of ``WELLOS_JOBS``, and of settings it depends on."""
    if not getattr(settings, "USE_TZ", True):
        yield (
            "USE_TZ is False: jobs have aware times, which not every database then stores; "
            "set USE_TZ = True"
        )

    known = {option.name.upper() for option in dataclasses.fields(Conf)}
    for key, value in _given().items():
        if key not in known:
            yield f"WELLOS_JOBS has an unknown key {key!r}{suggestion(key, known, 'keys', most=99)}"
            continue
        try:
            _CHECKS.get(key, _unchecked)(value)
        except (TypeError, ValueError, OverflowError) as error:
            yield f"WELLOS_JOBS[{key!r}] is {_shown(key, value)}: {error}"


def _given() -> Mapping[str, Any]:
    given = getattr(settings, "WELLOS_JOBS", {})
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"WELLOS_JOBS must be a dict, not {type(given).__name__}")
    return given


def _shown(key: str, value: object) -> str:
    return "set" if key in {"ENCRYPTION_KEYS", "HEALTH_TOKEN"} else repr(value)


def _unchecked(value: Any) -> Any:
    return value


def _positive(kind: type[int] | type[float]) -> Callable[[Any], Any]:
    def clean(value: Any) -> int | float:
        if isinstance(value, timedelta):
            value = value.total_seconds()
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not 0 < value < math.inf
        ):
            raise ValueError("it must be a number above 0")
        return kind(math.ceil(value) if kind is int else value)

    return clean


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("it must be True or False")
    return value


def _keys(value: Any) -> tuple[str, ...]:
    listed = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
    if not listed or not all(isinstance(key, (str, bytes)) for key in value):
        raise TypeError(
            "it must be a list of Fernet keys (make one with cryptography's Fernet.generate_key())"
        )
    return tuple(key.decode() if isinstance(key, bytes) else key for key in value)


def _path(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or "." not in value):
        raise TypeError("it must be the dotted path of a function, or None")
    return value


def _token(value: Any) -> str | None:
    if value is not None and (not isinstance(value, str) or len(value) < 16):
        raise ValueError("it must be a text of at least 16 characters, or None")
    return value


def _lease(value: Any) -> float:
    seconds = float(_positive(float)(value))
    if seconds < 5:
        raise ValueError(
            "it must be at least 5 seconds, because a lease is renewed four times as often"
        )
    return seconds


def _retention(value: Any) -> dict[str, timedelta | None]:
    if not isinstance(value, Mapping):
        raise TypeError(f"it must be a dict with the keys {', '.join(DEFAULT_RETENTION)}")
    kept = dict(DEFAULT_RETENTION)
    for state, age in value.items():
        if state not in DEFAULT_RETENTION:
            raise ValueError(f"the key {state!r} is not one of {', '.join(DEFAULT_RETENTION)}")
        if isinstance(age, (int, float)) and not isinstance(age, bool):
            age = timedelta(seconds=age)
        if age is not None and (not isinstance(age, timedelta) or age <= timedelta(0)):
            raise ValueError(
                f"{state!r} must be a timedelta, a number of seconds, or None to keep rows forever"
            )
        kept[state] = age
    return kept


def _fair_queues(value: Any) -> frozenset[str]:
    if (
        isinstance(value, str)
        or not isinstance(value, Iterable)
        or not all(isinstance(one, str) for one in value)
    ):
        raise TypeError("it must be a list of queue names")
    named = frozenset(value)
    if unknown := named - queues().keys():
        raise ValueError(_unknown_queue(min(unknown)))
    return named


def _apps(value: Any) -> frozenset[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise TypeError("it must be a list of names or labels of installed apps")
    named = frozenset(value)
    if unknown := {
        name
        for name in named
        if all(name not in (config.name, config.label) for config in apps.get_app_configs())
    }:
        raise ValueError(f"no app {min(unknown, key=str)!r} is installed")
    return named


def _databases(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    listed = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
    if not listed or not (aliases := tuple(value)):
        raise TypeError("it must be None or a list of aliases of DATABASES")
    for alias in aliases:
        if alias not in settings.DATABASES:
            known = settings.DATABASES.keys()
            raise ValueError(f"DATABASES has no {alias!r}{suggestion(alias, known, 'aliases')}")
    return aliases


def _known_queue(value: Any) -> str | None:
    if value is not None and value not in queues():
        raise ValueError(_unknown_queue(value))
    return None if value is None else str(value)


def _unknown_queue(name: object) -> str:
    return f"RQ_QUEUES has no queue {name!r}{suggestion(name, queues(), 'queues')}"


def _backlog(value: Any) -> dict[str, float] | None:
    if value is None:
        return None
    if not isinstance(value, Mapping) or not value.keys() <= DEFAULT_BACKLOG.keys():
        raise TypeError(f"it must be None or a dict with the keys {', '.join(DEFAULT_BACKLOG)}")
    return dict(DEFAULT_BACKLOG) | {
        key: float(_positive(float)(number)) for key, number in value.items()
    }


def _mail_waits(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping) or not value.keys() <= DEFAULT_MAIL_WAITS.keys():
        raise TypeError(f"it must be a dict with the keys {', '.join(DEFAULT_MAIL_WAITS)}")
    return dict(DEFAULT_MAIL_WAITS) | {
        key: float(_positive(float)(number)) for key, number in value.items()
    }


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_NAME or value != value.strip():
        raise ValueError(
            f"it must be a text of at most {MAX_NAME} characters without spaces around it"
        )
    return value


def _base_url(value: Any) -> str:
    if not isinstance(value, str) or (value and not value.startswith(("http://", "https://"))):
        raise ValueError("it must be empty or begin with http:// or https://")
    return value.rstrip("/")


def _files_storage(value: Any) -> str:
    if value not in settings.STORAGES:
        raise ValueError(f"it must be one of STORAGES: {', '.join(sorted(settings.STORAGES))}")
    return str(value)


def _schedules(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise TypeError(
            "it must be a dict of schedules by name, such as "
            '{"nightly": {"job": "cleanup", "cron": "0 2 * * *"}}'
        )
    return dict(value)


def _level(value: Any) -> str | None:
    known = logging.getLevelNamesMapping()
    if value is not None and (not isinstance(value, str) or value not in known):
        raise ValueError(f"it must be None or one of {', '.join(known)}")
    return value


_CHECKS: Mapping[str, Callable[[Any], Any]] = {
    "ENCRYPTION_KEYS": _keys,
    "MAX_PAYLOAD_BYTES": _positive(int),
    "DEFAULT_TIMEOUT": _positive(float),
    "RETENTION": _retention,
    "LEASE": _lease,
    "NOTIFY_ADMINS": _boolean,
    "CAN_VIEW_JOB": _path,
    "INSTALLATION": _name,
    "ORGANIZATION_RESOLVER": _path,
    "ADMIN_ORGANIZATIONS": _path,
    "OPERATIONS_QUEUE": _known_queue,
    "STREAM_MAX": _positive(int),
    "JOB_DATABASES": _databases,
    "FAIR_QUEUES": _fair_queues,
    "BACKLOG_ALERTS": _backlog,
    "UNKNOWN_JOB_WAIT": _positive(float),
    "SHORTEST_INTERVAL": _positive(float),
    "IGNORED_APPS": _apps,
    "SCHEDULES": _schedules,
    "HEALTH_TOKEN": _token,
    "JOB_LOG_LEVEL": _level,
    "ALLOW_PICKLE": _boolean,
    "BASE_URL": _base_url,
    "FILES_STORAGE": _files_storage,
    "FILE_LINK_AGE": _positive(float),
    "MAIL_WAITS": _mail_waits,
    "REDIS_IN_TESTS": _boolean,
}


def ignored_apps() -> frozenset[str]:
    """Return ``IGNORED_APPS`` when apps are loaded: other settings may be invalid then.

    The check E001 reports an invalid value.
    """
    try:
        return _apps(_given().get("IGNORED_APPS", ()))
    except (ConfigurationError, TypeError, ValueError):
        return frozenset()


def redis_in_tests() -> bool:
    """Return ``REDIS_IN_TESTS``, also while other settings are invalid."""
    given = getattr(settings, "WELLOS_JOBS", {})
    return isinstance(given, Mapping) and given.get("REDIS_IN_TESTS") is True


# --- other settings that jobs depend on -----------------------------------------------------------


def has_tasks() -> bool:
    """Return whether ``TASKS`` is set, and Django's Tasks, or the package for 5.2, are there."""
    known = find_spec("django.tasks") or find_spec("django_tasks")
    return bool(known and getattr(settings, "TASKS", None))


def task_backends() -> Mapping[str, Mapping[str, Any]]:
    """Return Django's ``TASKS``."""
    return getattr(settings, "TASKS", None) or {}


def queues() -> Mapping[str, Mapping[str, Any]]:
    """Return django-rq's ``RQ_QUEUES``."""
    configured: Mapping[str, Mapping[str, Any]] | None = getattr(settings, "RQ_QUEUES", None)
    if not configured:
        raise ConfigurationError(
            "RQ_QUEUES is not set: name at least one queue, such as "
            '{"default": {"URL": "redis://localhost:6379/0"}}'
        )
    return configured


def default_queue() -> str:
    """Return the queue called ``default``, else the first."""
    names = queues()
    return "default" if "default" in names else next(iter(names))


def queue(name: str) -> Mapping[str, Any]:
    """Return the configuration of one queue.

    Raises:
        UnknownQueue: ``RQ_QUEUES`` has no such queue. The message suggests the closest.
    """
    configured = queues()
    if name not in configured:
        raise UnknownQueue(_unknown_queue(name))
    return configured[name]


def usable_queue(name: str) -> Mapping[str, Any]:
    """Return the configuration of one queue that jobs may be put into.

    Raises:
        UnknownQueue: ``RQ_QUEUES`` has no such queue, or its name cannot be used.
    """
    if problem := queue_name_problem(name):
        raise UnknownQueue(problem)
    return queue(name)


@functools.cache
def queue_name_problem(name: str) -> str:
    """Return what is wrong with the name of a queue, '' if nothing is."""
    if len(name) > MAX_QUEUE_NAME:
        return (
            f"The queue {name[:40]!r}… has a name of {len(name)} characters: rows hold at most "
            f"{MAX_QUEUE_NAME}"
        )
    if _LANE_SUFFIX.search(name):
        return (
            f"The queue {name!r} has the name of a priority lane: it would share its jobs with "
            f"{_LANE_SUFFIX.sub('', name)!r}. Rename it"
        )
    return ""


def rq_setting(name: str, default: Any = None) -> Any:
    """Return one entry of django-rq's ``RQ``."""
    return getattr(settings, "RQ", {}).get(name, default)


def django_setting(name: str, default: Any = None) -> Any:
    """Return a setting of Django or of another app."""
    return getattr(settings, name, default)


def user_model() -> str:
    """Return the label of the project's user model."""
    return str(settings.AUTH_USER_MODEL)


def hook(path: str | None) -> Callable[..., Any] | None:
    """Import a function named in a setting."""
    return None if path is None else import_string(path)


def _reset(*, setting: str, **_: Any) -> None:
    if setting in {"WELLOS_JOBS", "RQ_QUEUES", "STORAGES", "USE_TZ", "DATABASES"}:
        _current.cache_clear()


setting_changed.connect(_reset, dispatch_uid="wellos_jobs.conf")
