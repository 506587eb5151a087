"""Checks of the settings and the declared jobs.

E001 to E008, E011, E102, W001, W005, W006 and I001.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cryptography.fernet import Fernet
from django.apps import apps
from django.core.checks import CheckMessage, Error, Info, Warning, register
from django.utils.module_loading import import_string

from .. import conf
from ..alerts import failure_mail
from ..definitions import registry
from ..errors import ConfigurationError
from ..operations import bulk

LANE_QUEUE = "wellos_jobs.queues.LaneQueue"
SCHEDULER = "wellos_jobs.scheduler.Scheduler"
JSON_SERIALIZER = "rq.serializers.JSONSerializer"
GENERATE_KEY = (
    "Generate one: `python -c 'from cryptography.fernet import Fernet; "
    "print(Fernet.generate_key().decode())'`."
)
IMPORT_HINT = "Fix the import, or leave the app out: WELLOS_JOBS['IGNORED_APPS']."
ON_ANY_QUEUE = {*failure_mail.OWN_NAMES, bulk.JOB_NAME}
"""This package's own jobs, which use any queue that exists."""
_JSON_SERIALIZERS = frozenset({"json", JSON_SERIALIZER})


def valid_settings() -> conf.Conf | None:
    """Return the settings; None if they are invalid (``check_settings`` reports why)."""
    try:
        return conf.current()
    except ConfigurationError:
        return None


def configured_queues() -> Mapping[str, Mapping[str, Any]]:
    """Return ``RQ_QUEUES``; empty if it is missing (``check_queues`` reports that)."""
    try:
        return conf.queues()
    except ConfigurationError:
        return {}


@register
def check_settings(**_: Any) -> list[CheckMessage]:
    try:
        problems = list(conf.problems())
    except ConfigurationError as error:
        problems = [str(error)]

    return [Error(problem, hint="Fix the setting.", id="wellos_jobs.E001") for problem in problems]


@register
def check_app_order(**_: Any) -> list[CheckMessage]:
    names = [config.name for config in apps.get_app_configs()]
    if "django_rq" not in names or names.index("wellos_jobs") < names.index("django_rq"):
        return []
    return [
        Error(
            "'django_rq' comes before 'wellos_jobs' in INSTALLED_APPS, so `manage.py rqworker` "
            "starts django-rq's worker.",
            hint="Put 'wellos_jobs' before 'django_rq' in INSTALLED_APPS.",
            id="wellos_jobs.E002",
        )
    ]


@register
def check_imports(**_: Any) -> list[CheckMessage]:
    """A warning, so that `migrate` goes on. With ``--deploy`` it is an error, too."""
    return [
        Warning(_failed_import(app, error), hint=IMPORT_HINT, id="wellos_jobs.W006")
        for app, error in registry.failed_imports().items()
    ]


@register(deploy=True)
def check_imports_before_deployment(**_: Any) -> list[CheckMessage]:
    return [
        Error(_failed_import(app, error), hint=IMPORT_HINT, id="wellos_jobs.E102")
        for app, error in registry.failed_imports().items()
    ]


def _failed_import(app: str, error: str) -> str:
    return (
        f"The jobs of app {app!r} cannot be imported: {error}. They are unknown, and workers and "
        "schedulers refuse to start."
    )


@register
def check_htmx(**_: Any) -> list[CheckMessage]:
    if not apps.is_installed("django.contrib.admin") or apps.is_installed("django_htmx"):
        return []
    return [
        Info(
            "'django_htmx' is not in INSTALLED_APPS, so the admin pages of jobs do not refresh "
            "themselves.",
            hint="Add 'django_htmx' to INSTALLED_APPS. It is installed with wellos_jobs.",
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
                str(error),
                hint="Set RQ_QUEUES as described in django-rq's documentation.",
                id="wellos_jobs.E003",
            )
        ]
    return [
        *_serializer_messages(queues),
        *_queue_class_messages(queues),
        *_queue_name_messages(queues),
    ]


def _queue_name_messages(queues: Mapping[str, Mapping[str, Any]]) -> Iterator[CheckMessage]:
    for name in queues:
        if problem := conf.queue_name_problem(name):
            yield Error(
                problem,
                hint="Rename the queue in RQ_QUEUES. Jobs for it are refused.",
                id="wellos_jobs.E015",
            )


def _serializer_messages(queues: Mapping[str, Mapping[str, Any]]) -> Iterator[CheckMessage]:
    settings = valid_settings()

    for name, config in queues.items():
        serializer = config.get("SERIALIZER")
        if _path(serializer) in _JSON_SERIALIZERS:
            continue

        shown = "not set, which means pickle" if serializer is None else f"{_path(serializer)!r}"
        if settings is not None and settings.allow_pickle:
            yield Warning(
                f"RQ_QUEUES[{name!r}]: SERIALIZER is {shown}, and ALLOW_PICKLE permits it: anyone "
                "who can write to this Redis can run any code in your workers.",
                hint=f"Use {JSON_SERIALIZER!r} and remove ALLOW_PICKLE.",
                id="wellos_jobs.W001",
            )
        else:
            yield Error(
                f"RQ_QUEUES[{name!r}]: SERIALIZER is {shown}, but jobs must be JSON.",
                hint=f'Add "SERIALIZER": "{JSON_SERIALIZER}" to RQ_QUEUES[{name!r}].',
                id="wellos_jobs.E004",
            )


def _queue_class_messages(queues: Mapping[str, Mapping[str, Any]]) -> Iterator[CheckMessage]:
    common = conf.rq_setting("QUEUE_CLASS")
    if not _is_a(common, LANE_QUEUE):
        yield Error(
            f"RQ's QUEUE_CLASS is {_path(common)!r}: RQ and django-rq would see only one of a "
            "queue's five lanes.",
            hint=f'Set RQ = {{"QUEUE_CLASS": "{LANE_QUEUE}"}}.',
            id="wellos_jobs.E005",
        )

    for name, config in queues.items():
        if "QUEUE_CLASS" in config and not _is_a(config["QUEUE_CLASS"], LANE_QUEUE):
            yield Error(
                f"RQ_QUEUES[{name!r}]: QUEUE_CLASS is {_path(config['QUEUE_CLASS'])!r}, which sees "
                "only one lane.",
                hint=f'Remove it, or use "{LANE_QUEUE}" or a subclass of it.',
                id="wellos_jobs.E005",
            )


@register
def check_scheduler_class(**_: Any) -> list[CheckMessage]:
    chosen = conf.rq_setting("SCHEDULER_CLASS")
    if chosen is None or _is_a(chosen, SCHEDULER):
        return []
    return [
        Warning(
            f"RQ's SCHEDULER_CLASS is {_path(chosen)!r}: django_rq.get_scheduler() then accepts "
            "naive times and invalid cron lines, and rounds times to the second.",
            hint=f'Set RQ["SCHEDULER_CLASS"] to "{SCHEDULER}" or a subclass of it.',
            id="wellos_jobs.W005",
        )
    ]


def _is_a(given: Any, wanted: str) -> bool:
    """Return whether a class or dotted path is the wanted class or a subclass of it."""
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
    settings = valid_settings()
    if settings is None:
        return []

    messages: list[CheckMessage] = [
        Error(
            f"WELLOS_JOBS['ENCRYPTION_KEYS'][{place}] is not a Fernet key (value not shown).",
            hint=GENERATE_KEY,
            id="wellos_jobs.E007",
        )
        for place, key in enumerate(settings.encryption_keys)
        if not _is_fernet_key(key)
    ]
    if not settings.encryption_keys:
        messages += [
            Error(
                f"Job {job.name!r} has sensitive arguments ({', '.join(job.sensitive)}), but "
                "WELLOS_JOBS['ENCRYPTION_KEYS'] is empty.",
                hint=f"Set it to a list of at least one Fernet key. {GENERATE_KEY}",
                id="wellos_jobs.E006",
            )
            for job in registry.all_jobs()
            if job.sensitive
        ]
    return messages


def _is_fernet_key(key: str) -> bool:
    try:
        Fernet(key)
    except ValueError:
        return False
    return True


@register
def check_declared_queues(**_: Any) -> list[CheckMessage]:
    queues = configured_queues()
    unknown: dict[str, list[str]] = {}

    for job in registry.all_jobs():
        if queues and job.queue not in queues and job.name not in ON_ANY_QUEUE:
            unknown.setdefault(job.queue, []).append(f"{job.name!r} ({job.path})")

    return [
        Error(
            f"Queue {queue!r} is not in RQ_QUEUES, but is used by {', '.join(jobs)}.",
            hint=f"Add {queue!r} to RQ_QUEUES, or use one of {', '.join(sorted(queues))}.",
            id="wellos_jobs.E008",
        )
        for queue, jobs in unknown.items()
    ]


@register
def check_hooks(**_: Any) -> list[CheckMessage]:
    settings = valid_settings()
    if settings is None:
        return []

    hooks = {
        "CAN_VIEW_JOB": settings.can_view_job,
        "ORGANIZATION_RESOLVER": settings.organization_resolver,
        "ADMIN_ORGANIZATIONS": settings.admin_organizations,
    }
    messages: list[CheckMessage] = []

    for key, path in hooks.items():
        try:
            function = conf.hook(path)
        except ImportError as error:
            problem = f"WELLOS_JOBS[{key!r}] is {path!r}, which cannot be imported: {error}."
        else:
            if function is None or callable(function):
                continue
            problem = f"WELLOS_JOBS[{key!r}] is {path!r}, which is not callable."

        messages.append(
            Error(problem, hint="Use the dotted path of a function.", id="wellos_jobs.E011")
        )
    return messages
