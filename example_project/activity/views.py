"""A user's own jobs: list, page with live progress, cancel."""

from __future__ import annotations

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from example_project.invoices.jobs import generate_invoice
from example_project.organizations.membership import for_members
from example_project.organizations.models import Organization
from example_project.reporting.archive import MADE_BY
from wellos_jobs import operations
from wellos_jobs.errors import InvalidOperation, RedisUnavailable
from wellos_jobs.models import JobRecord
from wellos_jobs.states import OPEN_STATES

PAGE = 25


def own_jobs(request: HttpRequest, organization: Organization) -> QuerySet[JobRecord]:
    """Return the jobs that the user requested in this organization."""
    return JobRecord.objects.filter(requested_by=request.user, organization_id=organization.pk)


@for_members
@require_safe
def job_list(request: HttpRequest, organization: Organization) -> HttpResponse:
    return render(request, "activity/list.html", _listed(request, organization))


@for_members
@require_safe
def job_rows(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Return the part of the list that is refreshed."""
    return render(request, "activity/parts/rows.html", _listed(request, organization))


@for_members
@require_safe
def job_page(request: HttpRequest, organization: Organization, pk: object) -> HttpResponse:
    """Show a job with live progress, by ``wellos_jobs/progress.html``."""
    job = get_object_or_404(own_jobs(request, organization), pk=pk)
    context = {
        "organization": organization,
        "job": job,
        "open": OPEN_STATES,
        "result_url": _result_url(job),
    }
    return render(request, "activity/job.html", context)


@for_members
@require_POST
def cancel_job(request: HttpRequest, organization: Organization, pk: object) -> HttpResponse:
    job = get_object_or_404(own_jobs(request, organization), pk=pk)
    try:
        state = operations.cancel(job, by=request.user, reason="canceled by the requester")
    except (InvalidOperation, RedisUnavailable) as error:
        messages.error(request, str(error))
    else:
        is_running = state == "stopping"
        text = "The job is being stopped." if is_running else "The job is canceled."
        messages.success(request, text)
    return redirect("job", organization.pk, job.pk)


def _result_url(job: JobRecord) -> str:
    """Return our URL for the job's file. It checks permissions each time it is opened."""
    if job.name in MADE_BY:
        return reverse("open-report", args=[job.organization_id, job.pk])
    if job.name == generate_invoice.name:
        return reverse("open-pdf", args=[job.organization_id, job.data["invoice_id"]])
    return ""


def _listed(request: HttpRequest, organization: Organization) -> dict[str, object]:
    jobs = own_jobs(request, organization).order_by("-created_at")
    page = Paginator(jobs, PAGE).get_page(request.GET.get("page"))
    running = any(job.state in OPEN_STATES for job in page)
    return {"organization": organization, "page": page, "open": OPEN_STATES, "running": running}
