"""Checks of the settings and of what is declared: E001 to E008, E011, W001, W005 and I001."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cryptography.fernet import Fernet
from django.apps import apps
from django.core.checks import CheckMessage, Error, Info, Warning, register
from django.utils.module_loading import import_string

from .. import conf
from ..definitions import registry
from ..errors import ConfigurationError
from ..ledger import failure_mail
from ..operations import bulk

LANE_QUEUE = "wellos_jobs.queues.LaneQueue"
SCHEDULER = "wellos_jobs.scheduler.Scheduler"
JSON_SERIALIZER = "rq.serializers.JSONSerializer"
MAKE_A_KEY = "Make one with `python -c 'from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())'`."
OF_ANY_QUEUE = {*failure_mail.OWN_NAMES, bulk.JOB_NAME}
"""Jobs of our own, which go to whatever queue there is."""
_JSON_SERIALIZERS = frozenset({"json", JSON_SERIALIZER})


def settings_in_force() -> conf.Conf | None:
    """Return the settings, or None when they are faulty (``check_settings`` then says why)."""
    try:
        return conf.current()
    except ConfigurationError:
        return None


def configured_queues() -> Mapping[str, Mapping[str, Any]]:
    """Return ``RQ_QUEUES``, or nothing when it is missing (``check_queues`` then says so)."""
    try:
        return conf.queues()
    except ConfigurationError:
        return {}


@register
def check_settings(**_: Any) -> list[CheckMessage]:
    try:
        faults = list(conf.problems())
    except ConfigurationError as error:
        faults = [str(error)]
    return [Error(fault, hint="Correct the settings.", id="wellos_jobs.E001") for fault in faults]


@register
def check_app_order(**_: Any) -> list[CheckMessage]:
    names = [config.name for config in apps.get_app_configs()]
    if "django_rq" not in names or names.index("wellos_jobs") < names.index("django_rq"):
        return []
    return [
        Error(
            "'django_rq' stands before 'wellos_jobs' in INSTALLED_APPS, so `manage.py rqworker` starts the worker "
            "of django-rq.",
            hint="Put 'wellos_jobs' before 'django_rq' in INSTALLED_APPS.",
            id="wellos_jobs.E002",
        )
    ]


@register
def check_htmx(**_: Any) -> list[CheckMessage]:
    if not apps.is_installed("django.contrib.admin") or apps.is_installed("django_htmx"):
        return []
    return [
        Info(
            "'django_htmx' is not in INSTALLED_APPS, so the admin pages of jobs do not refresh themselves.",
            hint="Add 'django_htmx' to INSTALLED_APPS: it is installed with wellos_jobs and only serves a script.",
            id="wellos_jobs.I001",
        )
    ]


@register
def check_queues(**_: Any) -> list[CheckMessage]:
    try:
        queues = conf.queues()
    except ConfigurationError as error:
        return [
            Error(
                str(error), hint="Set RQ_QUEUES as django-rq documents it.", id="wellos_jobs.E003"
            )
        ]
    return [*_serializer_faults(queues), *_queue_class_faults(queues)]


def _serializer_faults(queues: Mapping[str, Mapping[str, Any]]) -> Iterator[CheckMessage]:
    settings = settings_in_force()
    for name, config in queues.items():
        serializer = config.get("SERIALIZER")
        if _path(serializer) in _JSON_SERIALIZERS:
            continue
        shown = "not set, which means pickle" if serializer is None else f"{_path(serializer)!r}"
        if settings is not None and settings.allow_pickle:
            yield Warning(
                f"RQ_QUEUES[{name!r}]: SERIALIZER is {shown}, and ALLOW_PICKLE lets such jobs run: whoever can "
                "write to this Redis can run any code in your workers.",
                hint=f"Move to {JSON_SERIALIZER!r} and take ALLOW_PICKLE out.",
                id="wellos_jobs.W001",
            )
        else:
            yield Error(
                f"RQ_QUEUES[{name!r}]: SERIALIZER is {shown}; jobs are carried as JSON only.",
                hint=f'Add "SERIALIZER": "{JSON_SERIALIZER}" to RQ_QUEUES[{name!r}].',
                id="wellos_jobs.E004",
            )


def _queue_class_faults(queues: Mapping[str, Mapping[str, Any]]) -> Iterator[CheckMessage]:
    common = conf.rq_setting("QUEUE_CLASS")
    if not _is_a(common, LANE_QUEUE):
        yield Error(
            f"RQ's QUEUE_CLASS is {_path(common)!r}: RQ and django-rq would see only one of the five lanes of a queue.",
            hint=f'Set RQ = {{"QUEUE_CLASS": "{LANE_QUEUE}"}}.',
            id="wellos_jobs.E005",
        )
    for name, config in queues.items():
        if "QUEUE_CLASS" in config and not _is_a(config["QUEUE_CLASS"], LANE_QUEUE):
            yield Error(
                f"RQ_QUEUES[{name!r}]: QUEUE_CLASS is {_path(config['QUEUE_CLASS'])!r}, which sees only one lane.",
                hint=f'Take it out, or use "{LANE_QUEUE}" or a subclass of it.',
                id="wellos_jobs.E005",
            )


@register
def check_scheduler_class(**_: Any) -> list[CheckMessage]:
    chosen = conf.rq_setting("SCHEDULER_CLASS")
    if chosen is None or _is_a(chosen, SCHEDULER):
        return []
    return [
        Warning(
            f"RQ's SCHEDULER_CLASS is {_path(chosen)!r}: django_rq.get_scheduler() then takes naive times and wrong "
            "cron lines, and rounds times to the second.",
            hint=f'Set RQ["SCHEDULER_CLASS"] to "{SCHEDULER}" or a subclass of it.',
            id="wellos_jobs.W005",
        )
    ]


def _is_a(given: Any, wanted: str) -> bool:
    """Tell whether a class, or its dotted path, is the wanted one or a subclass of it."""
    if given is None or given == wanted:
        return given is not None
    try:
        found = import_string(given) if isinstance(given, str) else given
    except ImportError:
        return False
    return isinstance(found, type) and issubclass(found, import_string(wanted))


def _path(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return f"{getattr(value, '__module__', '?')}.{getattr(value, '__qualname__', repr(value))}"


@register
def check_encryption(**_: Any) -> list[CheckMessage]:
    settings = settings_in_force()
    if settings is None:
        return []
    faults: list[CheckMessage] = [
        Error(
            f"WELLOS_JOBS['ENCRYPTION_KEYS'][{place}] is not a Fernet key (its value is not shown).",
            hint=MAKE_A_KEY,
            id="wellos_jobs.E007",
        )
        for place, key in enumerate(settings.encryption_keys)
        if not _is_fernet_key(key)
    ]
    if not settings.encryption_keys:
        faults += [
            Error(
                f"Job {job.name!r} has sensitive arguments ({', '.join(job.sensitive)}), but there is no key to "
                "encrypt them with.",
                hint=f"Set WELLOS_JOBS['ENCRYPTION_KEYS'] to a list of at least one Fernet key. {MAKE_A_KEY}",
                id="wellos_jobs.E006",
            )
            for job in registry.all_jobs()
            if job.sensitive
        ]
    return faults


def _is_fernet_key(key: str) -> bool:
    try:
        Fernet(key)
    except ValueError:
        return False
    return True


@register
def check_declared_queues(**_: Any) -> list[CheckMessage]:
    queues = configured_queues()
    lost: dict[str, list[str]] = {}
    for job in registry.all_jobs():
        if queues and job.queue not in queues and job.name not in OF_ANY_QUEUE:
            lost.setdefault(job.queue, []).append(f"{job.name!r} ({job.path})")
    return [
        Error(
            f"{'Job' if len(jobs) == 1 else 'Jobs'} {', '.join(jobs)} {'goes' if len(jobs) == 1 else 'go'} to queue "
            f"{queue!r}, which RQ_QUEUES does not have.",
            hint=f"Add {queue!r} to RQ_QUEUES, or name one of {', '.join(sorted(queues))}.",
            id="wellos_jobs.E008",
        )
        for queue, jobs in lost.items()
    ]


@register
def check_hooks(**_: Any) -> list[CheckMessage]:
    settings = settings_in_force()
    if settings is None:
        return []
    hooks = {
        "CAN_VIEW_JOB": settings.can_view_job,
        "ORGANIZATION_RESOLVER": settings.organization_resolver,
        "ADMIN_ORGANIZATIONS": settings.admin_organizations,
    }
    faults: list[CheckMessage] = []
    for key, path in hooks.items():
        try:
            function = conf.hook(path)
        except ImportError as error:
            fault = f"WELLOS_JOBS[{key!r}] is {path!r}, which cannot be imported: {error}."
        else:
            if function is None or callable(function):
                continue
            fault = f"WELLOS_JOBS[{key!r}] is {path!r}, which is not a function."
        faults.append(
            Error(fault, hint="Give the dotted path of a function.", id="wellos_jobs.E011")
        )
    return faults
