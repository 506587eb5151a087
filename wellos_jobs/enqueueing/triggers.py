"""Triggers: a signal enqueues a job or a flow, in the transaction and database of its sender."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.db import transaction
from django.db.models.signals import ModelSignal
from django.dispatch import Signal

from .. import conf, payload
from ..database import default_database, job_databases, retry_conflicts
from ..errors import BadOption, TriggerError
from . import replacement
from .context import current_job
from .decorator import Job, JobCall
from .enqueue import JobOptions, build_bound
from .flows import Flow
from .handle import JobHandle
from .insertion import insert

if TYPE_CHECKING:
    from ..models import JobRecord

logger = logging.getLogger("wellos_jobs")

MAX_CHAIN = 20
"""How many triggers may fire in a row, each in a job of the one before, before it is a loop."""
_CHAIN = "triggers"
_triggers: dict[str, Trigger] = {}


@dataclass(frozen=True)
class Trigger:
    """A declared trigger, made by ``enqueue_on``."""

    signal: Signal
    job: Job[..., Any] | None = None
    makes: Callable[..., Flow | JobCall | None] | None = None
    sender: Any = None
    when: Callable[..., Any] | None = None
    data: Callable[..., Mapping[str, Any] | None] | Mapping[str, Any] = field(default_factory=dict)
    options: Callable[..., Mapping[str, Any]] | Mapping[str, Any] = field(default_factory=dict)
    replaces: Callable[..., object] | None = None
    raw: bool = False
    reentrant: bool = False
    name: str = ""
    declared_at: str = ""

    def __str__(self) -> str:
        return f"trigger {self.name} ({self.declared_at})"

    @property
    def enqueues(self) -> str:
        """The name of its job, or of its ``makes`` function."""
        if self.job is not None:
            return self.job.name
        return f"{getattr(self.makes, '__name__', self.makes)}()"

    def receive(self, sender: Any, **sent: Any) -> JobHandle | None:
        """Receive the signal: enqueue the job, unless ``when`` or ``data`` says no.

        Raises:
            TriggerError: a function of the trigger raised, or what it returned is invalid.
        """
        if sent.get("raw") and not self.raw:
            return None  # a fixture is being loaded, whose rows are not new

        handles = self._fire([{"sender": sender, **sent}], sent.get("using"))
        return handles[0] if handles else None

    def fire_for(self, instances: Iterable[Any], **sent: Any) -> list[JobHandle]:
        """Fire for many rows at once: for ``bulk_create`` and ``update``, which send no signals.

        ``sent`` are the arguments that the signal would have, such as ``created=True``. The jobs
        are inserted together.
        """
        rows = list(instances)
        using = sent.get("using") or (rows[0]._state.db if rows else None)
        return self._fire([{"sender": type(row), "instance": row, **sent} for row in rows], using)

    def _fire(self, signals: Iterable[Mapping[str, Any]], using: str | None) -> list[JobHandle]:
        """Enqueue the jobs for the arguments of several signals, in one transaction."""
        database, known = _database(using), list(signals)
        return retry_conflicts(database, lambda: self._insert(known, database))

    def _insert(self, signals: Iterable[Mapping[str, Any]], database: str) -> list[JobHandle]:
        with transaction.atomic(using=database):
            if self.replaces is None:
                records = []
                for sent in signals:
                    records += self._records(sent, database) or []
            else:
                by_key = self._records_by_key(self.replaces, signals, database)
                records = replacement.make_room(by_key, database)

            return insert(records) if records else []

    def _records_by_key(
        self, key_of: Callable[..., object], signals: Iterable[Mapping[str, Any]], database: str
    ) -> dict[str, JobRecord | None]:
        """Return the new job for each key, None to free it. The last signal of a key counts."""
        by_key: dict[str, JobRecord | None] = {}
        for sent in signals:
            records = self._records(sent, database)
            if records is not None:
                key = f"{self.name}:{self._call('replaces', key_of, sent)}"
                by_key[key] = records[0] if records else None
        return by_key

    def _records(self, sent: Mapping[str, Any], database: str) -> list[JobRecord] | None:
        """Return the unsaved rows for one signal; None if the signal is ignored."""
        if self.when is not None and not self._call("when", self.when, sent):
            return None

        target = self._target(sent)
        if target is None:
            return []
        return self._build(target, sent, database)

    def _target(self, sent: Mapping[str, Any]) -> Flow | JobCall | None:
        """Return the flow or job to enqueue this time, if any."""
        if self.job is not None:
            data = self._call("data", self.data, sent) if callable(self.data) else self.data
            return None if data is None else JobCall(self.job, data)

        target = self._call("makes", self.makes, sent) if self.makes is not None else None
        if target is not None and not isinstance(target, Flow | JobCall):
            raise TriggerError(
                f"{self}: makes returned {target!r}: it must be a Flow, a job.with_data(...) or "
                "None"
            )
        return target

    def _build(
        self, target: Flow | JobCall, sent: Mapping[str, Any], database: str
    ) -> list[JobRecord] | None:
        """Return the unsaved rows of a flow or job; None if the trigger must not fire again."""
        given = self.options
        if callable(given):
            given = self._call("options", given, sent)

        try:
            options = JobOptions.of(str(self), {"database": database, **given})
            if isinstance(target, Flow):
                calls = [_bound(call) for call in target.calls()]
                records = target.records(options)
            else:
                calls = [_bound(target)]
                records = [_record(calls[0], options)]
        except (TypeError, ValueError) as error:
            raise TriggerError(f"{self}: {error}") from error

        chain = self._chain(calls)
        if chain is None:
            return None
        for record in records:
            record.context[_CHAIN] = chain
        return records

    def _chain(self, calls: Sequence[JobCall]) -> list[str] | None:
        """Return the marks of the triggers that led here and of this one; None if it must not fire.

        It does not fire again in a run that it has led to, unless it is ``reentrant``. The mark of
        a flow is that of its root; a run of its other jobs does not fire it again either.
        """
        run = current_job(None)
        chain: list[str] = list(run.context.get(_CHAIN, ())) if run else []
        marks = [_mark(call.job.name, call.data) for call in calls]

        if run and run.name in {call.job.name for call in calls}:
            own_mark = _mark(run.name, run.data)
            if own_mark not in chain:
                chain.append(own_mark)

        if not self.reentrant and any(mark in chain for mark in marks):
            logger.info("%s: not fired in a run that it has led to", self)
            return None
        if len(chain) >= MAX_CHAIN:
            logger.error("%s: not fired: %d triggers fired in a row, a loop", self, len(chain))
            return None
        return [*chain, marks[0]]

    def _call(self, what: str, function: Callable[..., Any], sent: Mapping[str, Any]) -> Any:
        try:
            return function(**_accepted(function, sent))
        except Exception as error:
            raise TriggerError(f"{self}: {what} raised {type(error).__name__}: {error}") from error


def enqueue_on(
    signal: Signal,
    *,
    sender: Any = None,
    job: Job[..., Any] | None = None,
    makes: Callable[..., Flow | JobCall | None] | None = None,
    when: Callable[..., Any] | None = None,
    data: Callable[..., Mapping[str, Any] | None] | Mapping[str, Any] | None = None,
    options: Callable[..., Mapping[str, Any]] | Mapping[str, Any] | None = None,
    replaces: Callable[..., object] | None = None,
    raw: bool = False,
    reentrant: bool = False,
    name: str = "",
) -> Any:
    """Enqueue a job whenever a signal is sent.

    A decorator above ``@job``; with ``job=`` or ``makes=`` a plain call. The functions get the
    arguments they name out of ``sender`` and the arguments of the signal, such as ``instance``.

    Args:
        makes: instead of job and data: returns a ``Flow`` or ``job.with_data(...)`` to enqueue, or
            None for nothing.
        sender: whose signals count; for a model's signals also by name, "app.Model".
        when: whether to enqueue.
        data: the job's data; a function may return None for no job.
        options: those of ``.using()``: delay, run_at, organization ...
        replaces: returns a key, such as the instance's. The open job of this trigger with the same
            key is canceled, unless the new one is identical.
        raw: whether rows of fixtures count.
        reentrant: whether it also fires in a run that it has led to, with the same data.
        name: required if a job has two triggers of one signal and sender.

    Returns the job as a decorator, else the ``Trigger``.

    Raises:
        BadOption: an argument is invalid.
    """
    _check_signal(signal, sender)
    frame = sys._getframe(1)
    declared_at = f"{frame.f_globals.get('__name__', '')}:{frame.f_lineno}"
    given = {
        "sender": sender,
        "makes": makes,
        "when": when,
        "replaces": replaces,
        "raw": raw,
        "reentrant": reentrant,
    }
    optional = {"data": data, "options": options}
    given |= {argument: value for argument, value in optional.items() if value is not None}

    def declare(declared: Job[..., Any] | None) -> Trigger:
        trigger = Trigger(signal=signal, job=declared, name=name, declared_at=declared_at, **given)
        default_name = f"{trigger.enqueues} on {signal_name(signal)} of {sender_name(sender)}"
        trigger = dataclasses.replace(trigger, name=name or default_name)
        _register(trigger)
        return trigger

    if makes is not None:
        _check_absent(job=job, data=data, replaces=replaces)
        return declare(None)
    if job is not None:
        return declare(_checked(job))

    def decorate(declared: Job[..., Any]) -> Job[..., Any]:
        declare(_checked(declared))
        return declared

    return decorate


@contextmanager
def isolated() -> Iterator[None]:
    """Remove, at the end of the block, all triggers declared inside it: for tests."""
    before = dict(_triggers)
    try:
        yield
    finally:
        for name in _triggers.keys() - before.keys():
            trigger = _triggers.pop(name)
            trigger.signal.disconnect(sender=trigger.sender, dispatch_uid=_uid(name))


def all_triggers() -> list[Trigger]:
    """Return all declared triggers, sorted by name."""
    return sorted(_triggers.values(), key=lambda trigger: trigger.name)


def sender_name(sender: Any) -> str:
    """Return a name for a sender: the label of a model."""
    if sender is None:
        return "any sender"
    if isinstance(sender, str):
        return sender

    meta = getattr(sender, "_meta", None)
    return str(meta.label) if meta else getattr(sender, "__name__", repr(sender))


def signal_name(signal: Signal) -> str:
    """Return the name of a signal in the first module that has it."""
    for module in list(sys.modules.values()):
        for key, value in list(vars(module).items()) if hasattr(module, "__dict__") else ():
            if value is signal:
                return key
    return repr(signal)


def _check_signal(signal: object, sender: object) -> None:
    if not isinstance(signal, Signal):
        raise BadOption(f"enqueue_on: {signal!r} is not a signal: give a django.dispatch.Signal")
    if isinstance(sender, str) and not isinstance(signal, ModelSignal):
        raise BadOption(
            f"enqueue_on: sender is {sender!r}: only a model's signals take a name, give the class"
        )


def _check_absent(**arguments: object) -> None:
    """Check that no argument is given besides ``makes``."""
    for argument, value in arguments.items():
        if value is not None:
            raise BadOption(
                f"enqueue_on: {argument}= does not go with makes=, whose return value decides: "
                "leave it out"
            )


def _checked(declared: Job[..., Any]) -> Job[..., Any]:
    if not isinstance(declared, Job):
        raise BadOption(
            f"enqueue_on: {declared!r} is not a job: put @enqueue_on above @job, or use makes="
        )
    return declared


def _bound(call: JobCall) -> JobCall:
    """Return a job with its data, checked against its parameters."""
    return JobCall(call.job, call.job.definition.bind((), call.data))


def _record(call: JobCall, options: JobOptions) -> JobRecord:
    return build_bound(call.job.name, call.data, options, call.job.definition)


def _register(trigger: Trigger) -> None:
    known = _triggers.get(trigger.name)
    if known is not None and known.declared_at != trigger.declared_at:
        raise BadOption(
            f"{trigger}: another trigger has this name, at {known.declared_at}: "
            "give one of them a name="
        )
    _triggers[trigger.name] = trigger
    uid = _uid(trigger.name)
    if known is not None:  # its module was imported again
        trigger.signal.disconnect(sender=trigger.sender, dispatch_uid=uid)
    trigger.signal.connect(trigger.receive, sender=trigger.sender, weak=False, dispatch_uid=uid)


def _uid(name: str) -> str:
    return f"wellos_jobs.trigger:{name}"


def _database(using: str | None) -> str:
    """Return the database for the job's row: that of the signal, if it may hold jobs."""
    return using if using in job_databases() else default_database()


def _accepted(function: Callable[..., Any], sent: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of a signal that a function accepts."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return sent
    return {key: value for key, value in sent.items() if key in parameters}


def _mark(name: str, data: Mapping[str, Any]) -> str:
    """Return the mark of a job with its data in the chain: keyed, because data may be secret."""
    key = str(conf.django_setting("SECRET_KEY")).encode()
    plain = f"{name}\n{payload.canonical(data)}".encode()
    return hashlib.blake2b(plain, key=key[:64], digest_size=8).hexdigest()
