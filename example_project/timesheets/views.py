"""Time entries: list, and CSV import with its progress."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from example_project.organizations.membership import for_members
from example_project.organizations.models import Organization
from wellos_jobs import Batch, operations
from wellos_jobs.errors import InvalidOperation, JobNotFound, RedisUnavailable

from . import csv_lines
from .csv_import import start_import
from .forms import CsvForm
from .models import CsvImport, TimeEntry

PAGE = 50
LATEST_IMPORTS = 5
FAULTS_SHOWN = 100
SAMPLES = {"small": 24, "big": 10_000}
"""Numbers of lines in the sample files."""


@for_members
@require_safe
def entry_list(request: HttpRequest, organization: Organization) -> HttpResponse:
    entries = TimeEntry.objects.filter(project__organization=organization)
    newest_first = entries.select_related("project", "user").order_by("-day", "-pk")
    context = {
        "organization": organization,
        "page": Paginator(newest_first, PAGE).get_page(request.GET.get("page")),
        "unbilled": entries.filter(billable=True, invoice_line=None).aggregate(
            sum=Sum("minutes", default=0)
        )["sum"],
        "imports": organization.csv_imports.select_related("uploaded_by")[:LATEST_IMPORTS],
    }
    return render(request, "timesheets/list.html", context)


@for_members
@require_http_methods(["GET", "HEAD", "POST"])
def import_entries(request: HttpRequest, organization: Organization) -> HttpResponse:
    """Upload a CSV file and start the batch that imports it."""
    form = CsvForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        csv_import = start_import(organization, request.user, form.cleaned_data["file"], form.lines)
        return redirect("csv-import", organization.pk, csv_import.pk)
    return render(
        request,
        "timesheets/import.html",
        {"organization": organization, "form": form, "samples": SAMPLES},
    )


@for_members
@require_safe
def sample_csv(request: HttpRequest, organization: Organization, size: str) -> HttpResponse:
    """Send a sample file for trying out the import."""
    if size not in SAMPLES:
        raise Http404
    lines = SAMPLES[size]
    content = "".join(csv_lines.sample(organization.projects.all(), lines))
    name = f'attachment; filename="time-entries-{lines}.csv"'
    return HttpResponse(
        content, content_type="text/csv; charset=utf-8", headers={"Content-Disposition": name}
    )


@for_members
@require_safe
def import_page(request: HttpRequest, organization: Organization, pk: int) -> HttpResponse:
    """Show the progress or the result of an import."""
    csv_import = get_object_or_404(organization.csv_imports.select_related("uploaded_by"), pk=pk)
    faults = csv_import.rejected_lines.all()[:FAULTS_SHOWN]
    context = {"organization": organization, "faults": faults, **_progress(csv_import)}
    return render(request, "timesheets/csv_import.html", context)


@for_members
@require_safe
def import_progress(request: HttpRequest, organization: Organization, pk: int) -> HttpResponse:
    """Return the part of the page that is refreshed."""
    csv_import = get_object_or_404(organization.csv_imports, pk=pk)
    context = {"organization": organization, **_progress(csv_import)}
    return render(request, "timesheets/parts/import_progress.html", context)


@for_members
@require_POST
def cancel_import(request: HttpRequest, organization: Organization, pk: int) -> HttpResponse:
    """Cancel the remaining jobs of an import. Imported entries are kept."""
    csv_import = get_object_or_404(organization.csv_imports, pk=pk)
    try:
        count = operations.cancel_batch(
            csv_import.batch_id, by=request.user, reason="canceled on its page"
        )
    except (InvalidOperation, JobNotFound, RedisUnavailable) as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"{count} jobs were canceled.")
    return redirect("csv-import", organization.pk, csv_import.pk)


def _progress(csv_import: CsvImport) -> dict[str, Any]:
    """Return the import and, while it is running, the progress of its chunks and its batch."""
    if csv_import.finished_at is not None:
        return {"csv_import": csv_import, "running": False}
    so_far = csv_import.so_far()
    for counter, number in so_far.items():
        setattr(csv_import, counter, number)
    batch = Batch.get(csv_import.batch_id).progress
    return {"csv_import": csv_import, "running": True, "done": sum(so_far.values()), "batch": batch}
