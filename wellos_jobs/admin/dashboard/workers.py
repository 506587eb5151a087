"""Workers page: current jobs; quiet, resume and stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.models import Q
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from ... import operations
from ...definitions import ids
from ...models import JobRecord
from ...monitoring import workers as live_workers
from ...monitoring.workers import Task, WorkerLine
from ...operations.verbs import VERBS
from ...operations.workers import Kind
from ...version import __version__
from ..ui import display
from ..ui.action_page import PageVerb, PageWithActions, ReasonForm
from ..ui.page import Text

KINDS = ("worker", "supervisor", "job")


class WorkersPage(PageWithActions):
    """Supervisors and schedulers with their workers.

    The target of a button is ``worker:<name>``, ``supervisor:<token>`` or ``job:<id>``.
    """

    name = "workers"
    path = "workers/"
    title = _("Workers")
    template = "admin/wellos_jobs/parts/workers.html"
    styles = ("wellos_jobs/boards.css",)

    verbs: ClassVar[Mapping[str, PageVerb]] = {
        "quiet": PageVerb(
            VERBS["quiet_workers"],
            _("Takes no more jobs until it is resumed. The current job continues."),
        ),
        "resume": PageVerb(VERBS["resume_workers"], _("Takes jobs again.")),
        "stop": PageVerb(
            VERBS["stop_workers"],
            _(
                "Ends after its current job, and is not replaced. A supervisor ends with its last"
                " worker; a process manager may restart it."
            ),
        ),
        "stop_job": PageVerb(
            VERBS["cancel"],
            _("The running job is stopped and canceled."),
            text=_("Stop job"),
        ),
    }

    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        found = live_workers.workforce()
        workers = found.workers

        return {
            "found": found,
            "supervisors": [
                (line, [self._line(worker) for worker in line.workers])
                for line in found.supervisors
            ],
            "alone": [self._line(worker) for worker in found.alone],
            "sums": {
                "workers": len(workers),
                "busy": sum(worker.is_busy for worker in workers),
                "quiet": sum(worker.is_quiet for worker in workers),
                "memory": filesizeformat(sum(worker.memory or 0 for worker in workers)),
            },
            "versions": sorted(
                {line.version for line in found.supervisors if line.is_other_version}
            ),
            "version": __version__,
            "may": self.allowed_verbs(request),
        }

    def target(self, request: HttpRequest, verb: str, **values: Any) -> str:
        target = request.POST.get("target", "")
        kind, _colon, name = target.partition(":")
        if kind not in KINDS or not name or (kind == "job") != (verb == "stop_job"):
            raise self.bad_request(gettext("Unknown target: %(target)s") % {"target": target})
        return target

    def target_name(self, target: str) -> Text:
        kind, _colon, name = target.partition(":")
        if kind == "supervisor":
            return gettext("all workers of supervisor %(name)s") % {"name": self._process(name)}
        return gettext("job %(name)s") % {"name": name} if kind == "job" else name

    def perform(self, verb: str, target: str, form: ReasonForm, **who: Any) -> Text:
        kind, _colon, name = target.partition(":")
        if verb == "stop_job":
            operations.cancel(self._job(name), **who)
            return gettext("Job %(job)s is being stopped") % {"job": name}

        chosen: Kind = "worker" if kind == "worker" else "supervisor"
        label = self._label(kind, name)
        match verb:
            case "stop":
                n = operations.stop_workers(chosen, name, **who)
                text = ngettext(
                    "%(n)d worker ends after its job", "%(n)d workers end after their jobs", n
                )
                return text % {"n": n}
            case "quiet":
                operations.quiet_workers(chosen, name, **who)
                return gettext("%(name)s takes no more jobs") % {"name": label}
            case "resume":
                operations.resume_workers(chosen, name, **who)
                return gettext("%(name)s takes jobs again") % {"name": label}
        raise self.not_implemented(verb)

    def _label(self, kind: str, name: str) -> str:
        if kind == "worker":
            return gettext("Worker %(name)s") % {"name": name}
        return gettext("Supervisor %(name)s") % {"name": self._process(name)}

    def _process(self, token: str) -> str:
        line = next(
            (line for line in live_workers.workforce().supervisors if line.token == token), None
        )
        return f"{line.host}:{line.pid}" if line is not None else token

    def _job(self, name: str) -> JobRecord:
        job_id = ids.parse_id(name)
        query = Q(rq_id=name) if job_id is None else Q(pk=job_id)
        job = JobRecord.objects.filter(query).first()
        if job is None:
            raise self.bad_request(gettext("Job %(job)s is not in the database") % {"job": name})
        return job

    def _line(self, worker: WorkerLine) -> dict[str, Any]:
        return {
            "worker": worker,
            "state": _state(worker),
            "job": self._job_link(worker.task),
            "memory": display.NOTHING if worker.memory is None else filesizeformat(worker.memory),
        }

    def _job_link(self, task: Task | None) -> SafeString | str:
        if task is None:
            return display.NOTHING
        job_id = ids.parse_id(task.id)
        if job_id is None:
            return display.search_link(self.site, "jobrecord", task.id, task.name)
        return display.link(self.site, "jobrecord", job_id, task.name)


def _state(worker: WorkerLine) -> list[SafeString]:
    if worker.is_busy:
        badges = [display.badge("active", gettext("busy"))]
    else:
        badges = [display.badge("off", gettext("idle"))]

    if worker.is_quiet:
        badges.append(display.badge("delayed", gettext("quiet")))
    return badges
