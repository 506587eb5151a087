"""The page of a job: timeline, attempts, logs, related jobs and actions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ... import broker, payload, status
from ...enqueueing.handle import JobHandle
from ...errors import JobNotFound
from ...models import AuditEntry, DeadLetter, JobAttempt, JobRecord
from ...monitoring import similar_jobs, timeline
from ...permissions import may_see_payload
from ...states import FINAL_STATES, JobState
from ..flows_and_batches import graph
from ..ui import display, long_text, organization_scope
from ..ui.lookup import find_job
from ..ui.page import Page, Text
from .actions import JobActionPage, buttons
from .copy import JobCopy
from .facts import facts
from .logs import logs

MAX_ATTEMPTS = 50
MAX_AUDIT_ENTRIES = 100
MAX_RELATIVES = 20
_LIVE = ("progress", "progress_message", "error", "attempts")
_LIVE_TIMES = ("started_at", "finished_at", "enqueued_at")


class JobPage(Page):
    """Served as the change page of ``JobRecordAdmin``."""

    name = "jobrecord_change"
    path = "<path:job_id>/change/"
    title = _("Job")
    permission = "wellos_jobs.view_jobrecord"
    template = "admin/wellos_jobs/parts/job.html"
    is_organization_scoped = True
    styles = ("wellos_jobs/job.css",)

    def heading(self, request: HttpRequest, **values: Any) -> Text:
        return find_job(request, values["job_id"]).name

    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        job = find_job(request, values["job_id"])
        live = self._update_from_redis(job)
        attempts, dead_letters, entries = self._history(job)
        may_see = may_see_payload(request, job)
        result = live["result"]

        return {
            "job": job,
            "problem": live.get("problem", ""),
            "state": display.badge(job.state, JobState(job.state).label),
            "error": long_text.cut(job.error),
            "why": waiting_reason(job),
            "buttons": buttons(self.site, request, job),
            "facts": facts(self.site, job),
            "moments": timeline.timeline(job, attempts, dead_letters, entries),
            "attempts": [self._attempt_line(attempt) for attempt in reversed(attempts)],
            "is_more": len(attempts) == MAX_ATTEMPTS,
            "dead_letters": [
                (dead_letter, self._dead_letter_link(dead_letter)) for dead_letter in dead_letters
            ],
            "may_see_payload": may_see,
            "data": display.as_json(payload.mask(job.data)) if may_see else "",
            "result": display.as_json(result) if may_see and result is not None else "",
            "run_context": display.as_json(job.context) if job.context else "",
            "entries": entries,
            "is_live": JobState(job.state) not in FINAL_STATES,
            **self._around(request, job),
            **logs(request, job),
        }

    def _update_from_redis(self, job: JobRecord) -> dict[str, Any]:
        """Overwrite the row with newer values from Redis; it is shown, never saved."""
        live = status.job_status(job)
        # In the same state, keep the times of the row, which match those of the attempts.
        is_ahead = live["state"] != job.state
        for name in (*_LIVE, "state", *(_LIVE_TIMES if is_ahead else ())):
            setattr(job, name, live[name])
        job.error = live["error"] or ""
        return live

    def _history(
        self, job: JobRecord
    ) -> tuple[list[JobAttempt], list[DeadLetter], list[AuditEntry]]:
        rows = long_text.with_cut(JobAttempt.objects.filter(job=job.pk), "traceback")
        attempts = list(rows.order_by("-pk")[:MAX_ATTEMPTS])[::-1]
        dead_letters = list(
            DeadLetter.objects.filter(job=job.pk).defer("traceback", "former_data").order_by("pk")
        )
        keys = [str(dead_letter.pk) for dead_letter in dead_letters]
        about = Q(target_type="job", target_id=str(job.pk)) | Q(
            target_type="dead_letter", target_id__in=keys
        )
        entries = AuditEntry.objects.filter(about).order_by("-at", "-pk")[:MAX_AUDIT_ENTRIES]
        return attempts, dead_letters, list(entries)[::-1]

    def _around(self, request: HttpRequest, job: JobRecord) -> dict[str, Any]:
        """Return the parent, children, flow and similar jobs."""
        visible = organization_scope.visible(request, JobRecord.objects.all())
        relatives = Q(parent=job.pk) | Q(pk=job.parent_id) if job.parent_id else Q(parent=job.pk)
        rows = visible.filter(relatives).order_by("created_at").only(*graph.COLUMNS)
        near = list(rows[: MAX_RELATIVES + 1])
        parents = self._linked(one for one in near if one.pk == job.parent_id)

        like = similar_jobs.similar_jobs(job, visible)
        sees_all = organization_scope.sees_everything(request)

        return {
            "parent": next(iter(parents), None),
            "children": self._linked(one for one in near if one.pk != job.parent_id),
            "flow": graph.picture(self.site, job, visible),
            "alike": like,
            "alike_jobs": [
                (self._link(one, one.pk), one, display.wait_time(one), display.run_time(one))
                for one in like.jobs
            ],
            "times": similar_jobs.run_times(job) if sees_all else None,
            "sees_everything": sees_all,
        }

    def _linked(self, jobs: Iterable[JobRecord]) -> list[tuple[Any, JobRecord]]:
        return [(self._link(job, job), job) for job in jobs]

    def _link(self, job: JobRecord, label: object) -> Any:
        return display.link(self.site, "jobrecord", job.pk, label)

    def _attempt_line(self, attempt: JobAttempt) -> tuple[JobAttempt, str, str]:
        """Return the attempt, its shortened traceback, and the URL of the full one."""
        return attempt, long_text.shown(attempt, "traceback"), self._traceback_url(attempt)

    def _traceback_url(self, attempt: JobAttempt) -> str:
        """Return the URL of the full traceback if the page shortens it."""
        if not long_text.is_cut(attempt, "traceback"):
            return ""
        name = "admin:wellos_jobs_job_traceback"
        return reverse(name, args=[attempt.job_id, attempt.pk], current_app=self.site.name)

    def _dead_letter_link(self, dead_letter: DeadLetter) -> Any:
        return display.link(
            self.site,
            "deadletter",
            dead_letter.pk,
            gettext("Dead letter %(n)s") % {"n": dead_letter.pk},
        )


class TracebackPage(JobPage):
    """The full traceback of one attempt as text."""

    name = "job_traceback"
    path = "<str:job_id>/attempts/<int:attempt>/traceback.txt"

    def answer(self, request: HttpRequest, **values: Any) -> HttpResponse:
        self.require(request, self.permission)
        job = find_job(request, values["job_id"])
        found = (
            JobAttempt.objects.filter(job=job.pk, pk=values["attempt"])
            .values_list("traceback", flat=True)
            .first()
        )
        if found is None:
            raise Http404(gettext("The attempt does not exist"))
        return long_text.as_file(found)


class JobPages:
    """Mixin for the job admin: its detail page and the pages of its buttons."""

    def get_urls(self) -> list[URLPattern]:
        below: Any = super()
        pages = (JobActionPage, JobCopy, TracebackPage)
        return [*(page.pattern(self) for page in pages), *below.get_urls()]  # type: ignore[arg-type]

    def change_view(
        self, request: HttpRequest, object_id: str, *args: Any, **options: Any
    ) -> HttpResponse:
        return JobPage(self).answer(request, job_id=object_id)  # type: ignore[arg-type]


def waiting_reason(job: JobRecord) -> str:
    """Explain what an open job is waiting for; '' for a finished or plain RQ job.

    If Redis cannot answer, the text says so.
    """
    if JobState(job.state) in FINAL_STATES or job.is_foreign:
        return ""

    try:
        return JobHandle(job.pk, job.queue, job._state.db or "default").explain()
    except broker.Unavailable as error:
        return gettext("Redis is unavailable, so the reason for waiting is unknown: %(error)s") % {
            "error": error
        }
    except (broker.Error, ValueError, JobNotFound) as error:
        return gettext("The reason for waiting is unknown: %(error)s") % {"error": error}


def redis_problem(job: JobRecord) -> str:
    """Return why Redis could not report the state of an open job; '' if it did."""
    if JobState(job.state) in FINAL_STATES:
        return ""
    return str(status.job_status(job).get("problem", ""))
