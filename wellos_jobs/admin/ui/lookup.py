"""Find the row of a page among those the user may see."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from django.http import Http404, HttpRequest
from django.utils.translation import gettext

from ...definitions import ids
from ...models import DeadLetter, JobRecord
from . import long_text, organization_scope

_CACHE = "_wellos_jobs_found"


def find_job(request: HttpRequest, job_id: str) -> JobRecord:
    """Return a job, read once per request. Raises Http404, also if the user may not see it."""
    rows = JobRecord.objects.select_related("batch", "schedule")
    found: JobRecord = _once(
        request, rows, ids.parse_id(job_id), gettext("Job %s does not exist") % job_id
    )
    return found


def find_dead_letter(request: HttpRequest, dead_letter_id: str) -> DeadLetter:
    """Return a dead letter with its job and shortened traceback, as ``find_job`` does."""
    rows = long_text.with_cut(DeadLetter.objects.select_related("job"), "traceback")
    pk = int(dead_letter_id) if dead_letter_id.isdecimal() and len(dead_letter_id) < 19 else None
    found: DeadLetter = _once(
        request, rows, pk, gettext("Dead letter %s does not exist") % dead_letter_id
    )
    return found


def _once(request: HttpRequest, rows: QuerySet[Any], pk: Any, missing: str) -> Any:
    cache: dict[Any, Any] = vars(request).setdefault(_CACHE, {})
    if pk is not None and pk not in cache:
        cache[pk] = organization_scope.visible(request, rows).filter(pk=pk).first()
    if cache.get(pk) is None:
        raise Http404(missing)
    return cache[pk]
