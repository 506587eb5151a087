"""Triggers: a signal enqueues a job or a flow, in the transaction and on the database of whoever sent it."""

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
from ..database import default_database, job_databases
from ..errors import BadOption, TriggerError
from . import replacement
from .context import current_job
from .decorator import Job, JobCall
from .enqueue import JobOptions, build
from .flows import Flow
from .handle import JobHandle
from .insertion import insert

if TYPE_CHECKING:
    from ..models import JobRecord

logger = logging.getLogger("wellos_jobs")

LONGEST_CHAIN = 20
"""How many triggers may set off one another, each in a job of the one before, until that is taken for a loop."""
_CHAIN = "triggers"
_triggers: dict[str, Trigger] = {}


@dataclass(frozen=True)
class Trigger:
    """One declared trigger. Made by ``enqueue_on``."""

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
        """The name of its job, or of the function that makes what it enqueues."""
        return (
            self.job.name
            if self.job is not None
            else f"{getattr(self.makes, '__name__', self.makes)}()"
        )

    def receive(self, sender: Any, **sent: Any) -> JobHandle | None:
        """Answer the signal: enqueue the job, if it is to be. What ``when`` and the like raise says which trigger."""
        if (
            sent.get("raw") and not self.raw
        ):  # a fixture is loaded: its rows have been through this already
            return None
        return next(iter(self._fire([{"sender": sender, **sent}], sent.get("using"))), None)

    def fire_for(self, instances: Iterable[Any], **sent: Any) -> list[JobHandle]:
        """Do for many rows at once what their signals would have done: ``bulk_create`` and ``update`` send none.

        ``sent`` is what the signal would bring along, such as ``created=True``. The jobs are
        written in one batch.
        """
        rows = list(instances)
        using = sent.get("using") or (rows[0]._state.db if rows else None)
        return self._fire([{"sender": type(row), "instance": row, **sent} for row in rows], using)

    def _fire(self, sendings: Iterable[Mapping[str, Any]], using: str | None) -> list[JobHandle]:
        database = _database(using)
        with transaction.atomic(using=database):
            if self.replaces is None:
                records = [
                    record for sent in sendings for record in self._records(sent, database) or ()
                ]
            else:
                records = replacement.make_room(
                    self._keyed(self.replaces, sendings, database), database
                )
            return insert(records) if records else []

    def _keyed(
        self, key_of: Callable[..., object], sendings: Iterable[Mapping[str, Any]], database: str
    ) -> dict[str, JobRecord | None]:
        """Return the job for each key, None if nobody is to have it. Of several with one key the last counts."""
        keyed: dict[str, JobRecord | None] = {}
        for sent in sendings:
            records = self._records(sent, database)
            if records is not None:
                key = f"{self.name}:{self._asked('replaces', key_of, sent)}"
                keyed[key] = next(iter(records), None)
        return keyed

    def _records(self, sent: Mapping[str, Any], database: str) -> list[JobRecord] | None:
        """Return the jobs that a sending of the signal asks for, not yet inserted; None if it does not count."""
        if self.when is not None and not self._asked("when", self.when, sent):
            return None
        return self._built(self._meant(sent), sent, database)

    def _meant(self, sent: Mapping[str, Any]) -> Flow | JobCall | None:
        """Return what is to be enqueued this time, if anything."""
        if self.job is not None:
            data = self._asked("data", self.data, sent) if callable(self.data) else self.data
            return None if data is None else JobCall(self.job, data)
        made = self._asked("makes", self.makes, sent) if self.makes is not None else None
        if made is not None and not isinstance(made, Flow | JobCall):
            raise TriggerError(
                f"{self}: makes returned {made!r}: it must be a Flow, a job.with_data(...) or None"
            )
        return made

    def _built(
        self, meant: Flow | JobCall | None, sent: Mapping[str, Any], database: str
    ) -> list[JobRecord] | None:
        if meant is None:
            return []
        given = (
            self._asked("options", self.options, sent) if callable(self.options) else self.options
        )
        try:
            options = JobOptions.of(str(self), {"database": database, **given})
            calls = [
                _bound(call) for call in ([meant] if isinstance(meant, JobCall) else meant.calls())
            ]
            records = (
                meant.records(options) if isinstance(meant, Flow) else [_record(calls[0], options)]
            )
        except (TypeError, ValueError) as error:
            raise TriggerError(f"{self}: {error}") from error
        chain = self._chain(calls)
        if chain is None:
            return None
        for record in records:
            record.context[_CHAIN] = chain
        return records

    def _chain(self, calls: Sequence[JobCall]) -> list[str] | None:
        """Return the marks of the triggers that led here, with this one; None when this one is among them already.

        A flow's mark is that of its root. A run of one of its other jobs, too, does not set it off
        again.
        """
        run = current_job(None)
        chain: list[str] = list(run.context.get(_CHAIN, ())) if run else []
        marks = [_mark(call.job.name, call.data) for call in calls]
        names = {call.job.name for call in calls}
        if run and run.name in names and (its := _mark(run.name, run.data)) not in chain:
            chain.append(its)
        if not self.reentrant and any(mark in chain for mark in marks):
            logger.info("%s: not fired within a run that it led to", self)
            return None
        if len(chain) >= LONGEST_CHAIN:
            logger.error(
                "%s: not fired: %d triggers in a row have set off one another", self, len(chain)
            )
            return None
        return [*chain, marks[0]]

    def _asked(self, what: str, function: Callable[..., Any], sent: Mapping[str, Any]) -> Any:
        try:
            return function(**_taken(function, sent))
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
    """Enqueue a job whenever a signal is sent: a decorator above ``@job``, or, with ``job=`` or ``makes=``, a call.

    The functions get by name what they ask for of ``sender`` and what the signal brings along, such
    as ``instance``.

    Args:
        makes: in the place of job and data: returns what is to be enqueued, a ``Flow`` or a
            ``job.with_data(...)``;
            None: nothing this time.
        sender: whose signals count; the senders of a model's signals may be named, "app.Model".
        when: whether to enqueue.
        data: the job's data; None from the function: no job this time.
        options: those of ``.using()``: delay, run_at, organization ...
        replaces: a key, such as the instance's. A job of this trigger that is still open under the
            key is cancelled;
            it stays if nothing is different.
        raw: whether rows of fixtures count.
        reentrant: whether it fires, too, in a run that it has led to itself, with the same data.
        name: needed when a job has two triggers of one signal and sender.

    Returns the job as a decorator, else the ``Trigger``.

    Raises:
        BadOption: something cannot be meant.
    """
    if not isinstance(signal, Signal):
        raise BadOption(f"enqueue_on: {signal!r} is not a signal")
    if isinstance(sender, str) and not isinstance(signal, ModelSignal):
        raise BadOption(
            f"enqueue_on: sender is {sender!r}: only a model's signals take a name, give the class"
        )
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
    given |= {
        key: value for key, value in (("data", data), ("options", options)) if value is not None
    }

    def declare(declared: Job[..., Any] | None) -> Trigger:
        trigger = Trigger(signal=signal, job=declared, name=name, declared_at=declared_at, **given)
        own = name or f"{trigger.enqueues} on {signal_name(signal)} of {sender_name(sender)}"
        trigger = dataclasses.replace(trigger, name=own)
        _register(trigger)
        return trigger

    if makes is not None:
        for argument, value in (("job", job), ("data", data), ("replaces", replaces)):
            if value is not None:
                raise BadOption(
                    f"enqueue_on: {argument}= does not go with makes=, which says by itself what there is"
                )
        return declare(None)
    if job is not None:
        return declare(_checked(job))

    def decorate(declared: Job[..., Any]) -> Job[..., Any]:
        declare(_checked(declared))
        return declared

    return decorate


@contextmanager
def isolated() -> Iterator[None]:
    """Forget, at the end of the block, the triggers that were declared in it: for tests."""
    before = dict(_triggers)
    try:
        yield
    finally:
        for name in _triggers.keys() - before.keys():
            trigger = _triggers.pop(name)
            trigger.signal.disconnect(sender=trigger.sender, dispatch_uid=_uid(name))


def all_triggers() -> list[Trigger]:
    """Return every declared trigger, by name."""
    return sorted(_triggers.values(), key=lambda trigger: trigger.name)


def sender_name(sender: Any) -> str:
    """Return how a sender is told: a model by its label."""
    if sender is None:
        return "anybody"
    meta = getattr(sender, "_meta", None)
    if isinstance(sender, str):
        return sender
    return str(meta.label) if meta else getattr(sender, "__name__", repr(sender))


def signal_name(signal: Signal) -> str:
    """Return the name under which some module has a signal."""
    for module in list(sys.modules.values()):
        for key, value in list(vars(module).items()) if hasattr(module, "__dict__") else ():
            if value is signal:
                return key
    return repr(signal)


def _checked(declared: Job[..., Any]) -> Job[..., Any]:
    if not isinstance(declared, Job):
        raise BadOption(
            f"enqueue_on: {declared!r} is not a job: put @enqueue_on above @job, or use makes="
        )
    return declared


def _bound(call: JobCall) -> JobCall:
    """Return a job with its data as they are enqueued: checked against its signature, with what it has by default."""
    return JobCall(call.job, call.job.definition.bind((), call.data))


def _record(call: JobCall, options: JobOptions) -> JobRecord:
    return build(call.job.name, call.data, options, call.job.definition)


def _register(trigger: Trigger) -> None:
    known = _triggers.get(trigger.name)
    if known is not None and known.declared_at != trigger.declared_at:
        raise BadOption(
            f"{trigger}: there is one of that name at {known.declared_at}: give one of them a name="
        )
    _triggers[trigger.name] = trigger
    uid = _uid(trigger.name)
    if known is not None:  # its module was imported again
        trigger.signal.disconnect(sender=trigger.sender, dispatch_uid=uid)
    trigger.signal.connect(trigger.receive, sender=trigger.sender, weak=False, dispatch_uid=uid)


def _uid(name: str) -> str:
    return f"wellos_jobs.trigger:{name}"


def _database(using: str | None) -> str:
    """Return where the job's row goes: to the database of the signal, if jobs may be there."""
    return using if using in job_databases() else default_database()


def _taken(function: Callable[..., Any], sent: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what a function asks for of what was sent."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return sent
    return {key: value for key, value in sent.items() if key in parameters}


def _mark(name: str, data: Mapping[str, Any]) -> str:
    """Return what stands for a job with its data in the chain; data may be secret, so it is keyed."""
    key = str(conf.django_setting("SECRET_KEY")).encode()
    plain = f"{name}\n{payload.canonical(data)}".encode()
    return hashlib.blake2b(plain, key=key[:64], digest_size=8).hexdigest()
