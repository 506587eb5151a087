"""Finding the one row that a page is about, among those that the person may see."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import Http404, HttpRequest
from django.utils.translation import gettext

from ...definitions import ids
from ...models import DeadLetter, JobRecord
from . import long_text, organization_scope

_KEPT = "_wellos_jobs_found"


def find_job(request: HttpRequest, job_id: str) -> JobRecord:
    """Return the row of a job, read once a request. Raises Http404, also for what this person may not see."""
    rows = JobRecord.objects.select_related("batch", "schedule")
    found: JobRecord = _once(
        request, rows, ids.parse_id(job_id), gettext("There is no job %s") % job_id
    )
    return found


def find_dead_letter(request: HttpRequest, dead_letter_id: str) -> DeadLetter:
    """Return a dead letter with its job and a cut traceback, read once a request. Raises Http404, as ``find_job``."""
    rows = long_text.with_cut(DeadLetter.objects.select_related("job"), "traceback")
    chosen = (
        int(dead_letter_id) if dead_letter_id.isdecimal() and len(dead_letter_id) < 19 else None
    )
    found: DeadLetter = _once(
        request, rows, chosen, gettext("There is no dead letter %s") % dead_letter_id
    )
    return found


def _once(request: HttpRequest, rows: QuerySet[Any], pk: Any, missing: str) -> Any:
    kept: dict[Any, Any] = vars(request).setdefault(_KEPT, {})
    if pk is not None and pk not in kept:
        kept[pk] = organization_scope.visible(request, rows).filter(pk=pk).first()
    if kept.get(pk) is None:
        raise Http404(missing)
    return kept[pk]
