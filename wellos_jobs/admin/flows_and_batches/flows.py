"""The list of flows, and the page of one flow with its jobs."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from ... import operations
from ...definitions import ids
from ...models import AuditEntry, JobRecord
from ...monitoring.flows_and_batches import FlowLine, as_tree, newest_flows, tallies
from ...operations.verbs import VERBS
from ..ui import display, organization_scope
from ..ui.action_page import PageVerb, PageWithActions, ReasonForm
from ..ui.page import Page, Text
from . import graph
from .batches import counts_shown

FLOWS = 50
"""Flows per page."""
JOBS = 500
"""Maximum number of jobs shown on the page of a flow."""


def rows(request: HttpRequest) -> QuerySet[JobRecord]:
    """Return the jobs the user may see."""
    return organization_scope.visible(request, JobRecord.objects.all())


class FlowsPage(Page):
    """Flows, newest first, with pages."""

    name = "flows"
    path = "flows/"
    title = _("Flows")
    permission = "wellos_jobs.view_jobrecord"
    template = "admin/wellos_jobs/parts/flows.html"
    is_organization_scoped = True
    styles = ("wellos_jobs/boards.css",)

    def answer(self, request: HttpRequest, **values: Any) -> HttpResponse:
        flow_id = ids.parse_id(request.GET.get("id", "").strip())
        if flow_id is not None and request.method == "GET":
            self.require(request, self.permission)
            return self.redirect_to(request, "wellos_jobs_flow", flow_id)
        return super().answer(request, **values)

    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        before = ids.parse_id(request.GET.get("before", ""))

        found = newest_flows(rows(request), FLOWS + 1, before)
        organizations = display.organizations(
            line.root.organization_id for line in found if line.root is not None
        )

        return {
            "flows": [
                (line, counts_shown(line.tally), self._organization(line, organizations))
                for line in found[:FLOWS]
            ],
            "older": found[FLOWS - 1].id if len(found) > FLOWS else None,
            "is_first": before is None,
            "search": request.GET.get("id", ""),
        }

    def _organization(self, line: FlowLine, shown: Mapping[str, Any]) -> Any:
        if line.root is None:
            return display.NOTHING
        return shown.get(line.root.organization_id, display.NOTHING)


class FlowPage(PageWithActions):
    """The jobs of one flow, parents before their children."""

    name = "flow"
    path = "flows/<uuid:flow_id>/"
    title = _("Flow")
    permission = "wellos_jobs.view_jobrecord"
    template = "admin/wellos_jobs/parts/flow_board.html"
    is_organization_scoped = True
    styles = ("wellos_jobs/boards.css", "wellos_jobs/job.css")

    verbs: ClassVar[Mapping[str, PageVerb]] = {
        "retry": PageVerb(
            VERBS["retry_flow"],
            _("Failed jobs are retried, and then the jobs that ended only because these failed."),
        ),
        "cancel": PageVerb(
            VERBS["cancel_flow"],
            _("All unfinished jobs of this flow are canceled; running jobs are stopped."),
        ),
    }

    def context(self, request: HttpRequest, **values: Any) -> dict[str, Any]:
        flow_id: uuid.UUID = values["flow_id"]
        tally = tallies(rows(request), "flow_id", [flow_id])[flow_id]
        if not tally.total:
            raise Http404(f"Flow {flow_id} does not exist")
        jobs = list(
            rows(request).filter(flow_id=flow_id).order_by("pk").defer("data", "result")[:JOBS]
        )

        refusal = self.refusal(request, flow_id)
        picture = graph.picture(self.site, jobs[0], rows(request), is_its_page=False)

        return {
            "flow_id": flow_id,
            "tally": tally,
            "counts": counts_shown(tally),
            "started": ids.moment_of(flow_id),
            "jobs": [self._line(depth, job) for depth, job in as_tree(jobs)],
            "picture": picture.svg if picture is not None else "",
            "more": max(0, tally.total - JOBS),
            "audit_entries": list(
                AuditEntry.objects.filter(target_type="flow", target_id=str(flow_id))
            ),
            "may": {} if refusal else self.allowed_verbs(request),
            "refusal": refusal,
        }

    def heading(self, request: HttpRequest, **values: Any) -> Text:
        return gettext("Flow %(flow)s") % {"flow": values["flow_id"]}

    def target(self, request: HttpRequest, verb: str, **values: Any) -> uuid.UUID:
        flow_id: uuid.UUID = values["flow_id"]
        if not rows(request).filter(flow_id=flow_id).exists():
            raise Http404(f"Flow {flow_id} does not exist")
        return flow_id

    def refusal(self, request: HttpRequest, target: uuid.UUID) -> str:
        """Refuse actions on a flow with jobs of organizations that the user may not see."""
        jobs = JobRecord.objects.filter(flow_id=target)
        if not organization_scope.hidden(request, jobs).exists():
            return ""

        return gettext(
            "This flow has jobs that you may not see, so you cannot act on the whole flow. You can"
            " act on your jobs one by one."
        )

    def target_name(self, target: uuid.UUID) -> Text:
        return gettext("flow %(flow)s") % {"flow": target}

    def perform(self, verb: str, target: uuid.UUID, form: ReasonForm, **who: Any) -> Text:
        match verb:
            case "retry":
                n = len(operations.retry_flow(target, **who))
                return ngettext("%d job retried", "%d jobs retried", n) % n
            case "cancel":
                n = operations.cancel_flow(target, **who)
                return ngettext("%d job canceled", "%d jobs canceled", n) % n

        raise self.not_implemented(verb)

    def _line(self, depth: int, job: JobRecord) -> dict[str, Any]:
        return {
            "job": job,
            "link": display.link(self.site, "jobrecord", job.pk, job.name),
            "depth": range(min(depth, 8)),
            "wait": display.wait_time(job),
            "run": display.run_time(job),
            "error": display.shortened(job.error),
        }
