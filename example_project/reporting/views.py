"""Reports of an organization: request, open and schedule them."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from example_project.organizations.membership import for_members
from example_project.organizations.models import Organization
from wellos_jobs import cron
from wellos_jobs.contrib.files import url_of
from wellos_jobs.contrib.reports import generate_report
from wellos_jobs.schedules import (
    remove_schedule,
    run_now,
    schedule_organization_reports,
    update_schedule,
)

from .archive import reports_of, schedule_of
from .forms import ReportForm, ScheduleForm, initial, last_month

LATEST = 20
RUNS = 5


@for_members
@require_http_methods(["GET", "HEAD", "POST"])
def report_list(request: HttpRequest, organization: Organization) -> HttpResponse:
    """List the reports; enqueue a new one and redirect to the page with its progress."""
    form = ReportForm(request.POST or None, initial=last_month())
    if request.method == "POST" and form.is_valid():
        wanted = form.cleaned_data
        handle = generate_report.using(
            organization=organization, requested_by=request.user
        ).enqueue(
            report_type=wanted["report_type"],
            date_range={"start": wanted["start"], "end": wanted["end"]},
        )
        return redirect("job", organization.pk, handle.id)
    context = {
        "organization": organization,
        "form": form,
        "reports": reports_of(organization).select_related("requested_by")[:LATEST],
        "schedule": schedule_of(organization),
    }
    return render(request, "reporting/list.html", context)


@for_members
@require_safe
def open_report(request: HttpRequest, organization: Organization, pk: object) -> HttpResponse:
    """Redirect to the file of a report."""
    job = get_object_or_404(reports_of(organization), pk=pk)
    return redirect(url_of(f"reports/{job.pk}.{job.data.get('format', 'pdf')}"))


@for_members
@require_http_methods(["GET", "HEAD", "POST"])
def schedule(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Show and set when the organization's report is made."""
    row = schedule_of(organization)
    form = ScheduleForm(organization, request.POST or None, initial=initial(row))
    if request.method == "POST" and form.is_valid():
        _save(organization, form.cleaned_data)
        messages.success(request, "The schedule is set.")
        return redirect("report-schedule", organization.pk)
    shown = (
        form if form.is_bound else ScheduleForm(organization, form.initial, initial=form.initial)
    )
    context = {"organization": organization, "form": form, "schedule": row, **preview_of(shown)}
    return render(request, "reporting/schedule.html", context)


@for_members
@require_safe
def schedule_preview(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Answer with the next runs for what is in the form so far."""
    form = ScheduleForm(organization, request.GET)
    return render(request, "reporting/parts/preview.html", preview_of(form))


@for_members
@require_POST
def remove(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Remove the schedule."""
    if remove_schedule(f"org-report:{organization.pk}"):
        messages.success(
            request, "The schedule was removed: no more reports are made until you add another."
        )
    return redirect("report-schedule", organization.pk)


@for_members
@require_POST
def run_schedule(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Make the scheduled report now, as an extra run."""
    row = schedule_of(organization)
    if row is None:
        raise Http404
    handle = run_now(row, requested_by=request.user)
    return redirect("job", organization.pk, handle.id)


def preview_of(form: ScheduleForm) -> dict[str, Any]:
    """Return the schedule of a form in words, with its next runs; empty if it is invalid."""
    form.full_clean()
    line = form.cleaned_data.get("cron")
    if not line:
        return {}
    runs = cron.next_runs(line, form.zone, timezone.now(), RUNS)
    return {"words": cron.describe(line), "runs": runs, "zone": form.zone.key}


def _save(organization: Organization, wanted: dict[str, Any]) -> None:
    options = {
        "report_type": wanted["report_type"],
        "format": wanted["format"],
        "recipients": wanted["recipients"],
        "tz": wanted["time_zone"],
        "enabled": wanted["enabled"],
    }
    if schedule_of(organization) is None:
        schedule_organization_reports(organization.pk, wanted["cron"], **options)
    else:
        update_schedule(organization.pk, wanted["cron"], **options)
