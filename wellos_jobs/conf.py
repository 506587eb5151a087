"""The settings: one frozen object made from ``settings.WELLOS_JOBS``, and the one door to Django's settings.

``current()`` is read at use, never at import, and made anew after ``override_settings``.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from .errors import ConfigurationError, UnknownQueue

DEFAULT_RETENTION: Mapping[str, timedelta | None] = {
    "completed": timedelta(days=30),
    "canceled": timedelta(days=30),
    "failed": timedelta(days=180),
    "dead_letters": None,
    "statistics": timedelta(days=90),
    "audit": None,
}
DEFAULT_BACKLOG: Mapping[str, float] = {"waiting": 1_000, "oldest_wait": 300.0}
DEFAULT_MAIL_WAITS: Mapping[str, float] = {"deferred": 300.0, "unreachable": 30.0}


@dataclass(frozen=True)
class Conf:
    """``WELLOS_JOBS`` with its defaults. Field names are the setting keys in lower case; times are seconds."""

    encryption_keys: tuple[str, ...] = field(default=(), repr=False)
    """Fernet keys: the first encrypts, all decrypt."""
    max_payload_bytes: int = 65_536
    """The largest data, and the largest result, of a job, as JSON."""
    default_timeout: float = 300.0
    """How long a run may take when neither the job nor its queue says so."""
    retention: Mapping[str, timedelta | None] = field(
        default_factory=lambda: dict(DEFAULT_RETENTION)
    )
    """How long rows are kept, by a job's state or by kind; None keeps them for ever. ``dead_letters``: open ones."""
    lease: float = 20.0
    """How long a claim lasts without renewal; a machine that dies is noticed after this."""
    notify_admins: bool = True
    """Whether ``settings.ADMINS`` get a mail for each dead letter."""
    can_view_job: str | None = None
    """Dotted path of ``(request, record) -> bool`` that lets further people see a job's status."""
    organization_resolver: str | None = None
    """Dotted path of ``(organization_id) -> {"label", "url", "time_zone", "sender", "reply_to"}``."""
    admin_organizations: str | None = None
    """Dotted path of ``(user) -> organization ids, None for all``: how far permissions of a member of staff reach."""
    operations_queue: str | None = None
    """The queue of the jobs that do bulk operations of the admin; None: ``default``, or the first there is."""
    stream_max: int = 1_000_000
    """How many events may wait for the ledger before an alert fires and enqueue slows down."""
    fair_queues: frozenset[str] = frozenset()
    """Queues in which the organizations take turns."""
    schedules: Mapping[str, Any] = field(default_factory=dict)
    """Schedules by name: ``{"job", "cron", "tz", "data"}`` and options of a schedule."""
    backlog_alerts: Mapping[str, float] | None = field(
        default_factory=lambda: dict(DEFAULT_BACKLOG)
    )
    """When a queue has built up: more jobs ``waiting``, or the oldest waiting longer than ``oldest_wait`` seconds."""
    health_token: str | None = field(default=None, repr=False)
    """What a monitor sends as a bearer token to be told the details of the health URLs."""
    job_log_level: str | None = "INFO"
    """The lowest level of the log lines of a run that are kept as ``JobLog``; None keeps none."""
    allow_pickle: bool = False
    """Whether foreign jobs with pickled payloads are run."""
    base_url: str = ""
    """What goes before the links in mails, such as ``https://wellos.example``."""
    files_storage: str = "default"
    """The entry of ``STORAGES`` for the files that ``wellos_jobs.contrib`` makes."""
    file_link_age: float = 7 * 86_400.0
    """How long a signed link to a file is good."""
    mail_waits: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_MAIL_WAITS))
    """How long a mail waits that the server has ``deferred`` (4xx), and while no server is to be reached."""


def current() -> Conf:
    """Return the settings in force.

    Raises:
        ConfigurationError: a key is unknown or a value cannot be meant; the text names all of them.
    """
    return _current()


@functools.cache
def _current() -> Conf:
    if faults := list(problems()):
        raise ConfigurationError("; ".join(faults))
    given = _given()
    values = {key.lower(): _CLEAN.get(key, _same)(value) for key, value in given.items()}
    return Conf(**values)


def problems() -> Iterator[str]:
    """Yield what is wrong with ``settings.WELLOS_JOBS``, or with what it stands on, a sentence each."""
    if not getattr(settings, "USE_TZ", True):
        yield "USE_TZ is False: jobs have aware times, which Django then cannot store everywhere; set USE_TZ = True"
    known = {option.name.upper() for option in dataclasses.fields(Conf)}
    for key, value in _given().items():
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = (
                f": did you mean {close[0]!r}?"
                if close
                else f"; known keys are {', '.join(sorted(known))}"
            )
            yield f"WELLOS_JOBS has an unknown key {key!r}{hint}"
            continue
        try:
            _CLEAN.get(key, _same)(value)
        except (TypeError, ValueError, OverflowError) as error:
            yield f"WELLOS_JOBS[{key!r}] is {_shown(key, value)}: {error}"


def _given() -> Mapping[str, Any]:
    given = getattr(settings, "WELLOS_JOBS", {})
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"WELLOS_JOBS must be a dict, not {type(given).__name__}")
    return given


def _shown(key: str, value: object) -> str:
    return "set" if key in {"ENCRYPTION_KEYS", "HEALTH_TOKEN"} else repr(value)


def _same(value: Any) -> Any:
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
        raise ValueError("it must be at least 5 seconds: a lease is renewed every quarter of it")
    return seconds


def _retention(value: Any) -> dict[str, timedelta | None]:
    if not isinstance(value, Mapping):
        raise TypeError(f"it must be a dict with the keys {', '.join(DEFAULT_RETENTION)}")
    kept = dict(DEFAULT_RETENTION)
    for state, age in value.items():
        if state not in DEFAULT_RETENTION:
            raise ValueError(f"{state!r} is not one of {', '.join(DEFAULT_RETENTION)}")
        if isinstance(age, (int, float)) and not isinstance(age, bool):
            age = timedelta(seconds=age)
        if age is not None and (not isinstance(age, timedelta) or age <= timedelta(0)):
            raise ValueError(
                f"{state!r} must be a timedelta, a number of seconds, or None to keep for ever"
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
        raise ValueError(f"RQ_QUEUES has no queue {min(unknown)!r}")
    return named


def _known_queue(value: Any) -> str | None:
    if value is not None and value not in queues():
        raise ValueError(f"RQ_QUEUES has no queue {value!r}")
    return None if value is None else str(value)


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


def _base_url(value: Any) -> str:
    if not isinstance(value, str) or (value and not value.startswith(("http://", "https://"))):
        raise ValueError("it must be empty or begin with http:// or https://")
    return value.rstrip("/")


def _files_storage(value: Any) -> str:
    if value not in settings.STORAGES:
        raise ValueError(f"STORAGES has {', '.join(sorted(settings.STORAGES))}")
    return str(value)


def _schedules(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise TypeError(
            'it must be a dict of schedules by name, such as {"nightly": {"job": "x", "cron": "0 2 * * *"}}'
        )
    return dict(value)


def _level(value: Any) -> str | None:
    known = logging.getLevelNamesMapping()
    if value is not None and (not isinstance(value, str) or value not in known):
        raise ValueError(f"it must be None or one of {', '.join(known)}")
    return value


_CLEAN: Mapping[str, Callable[[Any], Any]] = {
    "ENCRYPTION_KEYS": _keys,
    "MAX_PAYLOAD_BYTES": _positive(int),
    "DEFAULT_TIMEOUT": _positive(float),
    "RETENTION": _retention,
    "LEASE": _lease,
    "NOTIFY_ADMINS": _boolean,
    "CAN_VIEW_JOB": _path,
    "ORGANIZATION_RESOLVER": _path,
    "ADMIN_ORGANIZATIONS": _path,
    "OPERATIONS_QUEUE": _known_queue,
    "STREAM_MAX": _positive(int),
    "FAIR_QUEUES": _fair_queues,
    "BACKLOG_ALERTS": _backlog,
    "SCHEDULES": _schedules,
    "HEALTH_TOKEN": _token,
    "JOB_LOG_LEVEL": _level,
    "ALLOW_PICKLE": _boolean,
    "BASE_URL": _base_url,
    "FILES_STORAGE": _files_storage,
    "FILE_LINK_AGE": _positive(float),
    "MAIL_WAITS": _mail_waits,
}


# --- what other Django settings say that jobs depend on -------------------------------------------


def queues() -> Mapping[str, Mapping[str, Any]]:
    """Return django-rq's ``RQ_QUEUES``."""
    configured: Mapping[str, Mapping[str, Any]] | None = getattr(settings, "RQ_QUEUES", None)
    if not configured:
        raise ConfigurationError(
            'RQ_QUEUES is not set: name at least one queue, such as {"default": {"URL": "redis://localhost:6379/0"}}'
        )
    return configured


def queue(name: str) -> Mapping[str, Any]:
    """Return the configuration of one queue.

    Raises:
        UnknownQueue: ``RQ_QUEUES`` does not name it.
    """
    configured = queues()
    if name not in configured:
        close = difflib.get_close_matches(str(name), configured, n=1)
        hint = (
            f"did you mean {close[0]!r}?"
            if close
            else f"RQ_QUEUES has {', '.join(sorted(configured))}"
        )
        raise UnknownQueue(f"There is no queue {name!r}: {hint}")
    return configured[name]


def rq_setting(name: str, default: Any = None) -> Any:
    """Return one entry of django-rq's ``RQ``."""
    return getattr(settings, "RQ", {}).get(name, default)


def django_setting(name: str, default: Any = None) -> Any:
    """Return a setting of Django's or of another app's."""
    return getattr(settings, name, default)


def user_model() -> str:
    """Return the label of the project's user model."""
    return str(settings.AUTH_USER_MODEL)


def hook(path: str | None) -> Callable[..., Any] | None:
    """Import a function named in a setting."""
    return None if path is None else import_string(path)


def _reset(*, setting: str, **_: Any) -> None:
    if setting in {"WELLOS_JOBS", "RQ_QUEUES", "STORAGES", "USE_TZ"}:
        _current.cache_clear()


setting_changed.connect(_reset, dispatch_uid="wellos_jobs.conf")
