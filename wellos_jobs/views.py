"""The HTTP doors of a job: its status as JSON, and its cancellation."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseNotFound, JsonResponse
from django.utils.cache import patch_vary_headers
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST, require_safe

from . import conf, operations, status
from .errors import InvalidOperation, RedisUnavailable
from .models import JobRecord


@require_safe
def job_status(request: HttpRequest, job_id: str) -> HttpResponse:
    """Answer with the job's status as JSON; 404 for everybody who may not see it, as for ids that do not exist."""
    record = _visible(request, job_id)
    if record is None:
        return _not_found()
    answer = status.job_status(record)
    if not may_see_payload(request, record):
        answer["data"] = answer["result"] = None
    return _private(JsonResponse(answer))


@require_POST
@csrf_protect
def job_cancel(request: HttpRequest, job_id: str) -> HttpResponse:
    """Cancel the job: for the person who asked for it, and for holders of the permission ``cancel_job``."""
    record = _visible(request, job_id)
    may_cancel = request.user.has_perm("wellos_jobs.cancel_job")
    if record is None and may_cancel:
        record = status.find(job_id)
    if record is None:
        return _not_found()
    if not may_cancel and not _is_requester(request, record):
        return _refused(403, "You may see this job, but not cancel it.")
    try:
        state = operations.cancel(
            record,
            by=request.user,
            reason=request.POST.get("reason", ""),
            address=address_of(request),
        )
    except InvalidOperation as error:
        return _refused(409, str(error))
    except RedisUnavailable as error:
        return _refused(503, str(error))
    return _private(JsonResponse({"id": str(record.pk), "state": state}))


def may_see_payload(request: HttpRequest, record: JobRecord) -> bool:
    """Tell whether data and result may be shown (masked): to the requester and with ``view_payload``."""
    return _is_requester(request, record) or request.user.has_perm("wellos_jobs.view_payload")


def address_of(request: HttpRequest) -> str:
    """Return the address the request came from, as the server in front of Django hands it on."""
    return str(request.META.get("REMOTE_ADDR", ""))


def _visible(request: HttpRequest, job_id: str) -> JobRecord | None:
    record = status.find(job_id)
    if record is None:
        return None
    if _is_requester(request, record) or request.user.has_perm("wellos_jobs.view_jobrecord"):
        return record
    hook = conf.hook(conf.current().can_view_job)
    return record if hook is not None and hook(request, record) else None


def _is_requester(request: HttpRequest, record: JobRecord) -> bool:
    return record.requested_by_id is not None and record.requested_by_id == request.user.pk


def _not_found() -> HttpResponse:
    return _private(HttpResponseNotFound("Job not found", content_type="text/plain; charset=utf-8"))


def _refused(code: int, text: str) -> HttpResponse:
    return _private(JsonResponse({"error": text}, status=code))


def _private(response: HttpResponse) -> HttpResponse:
    """Keep an answer out of caches; all 404s have the same headers, so that none tells whether a job exists."""
    response["Cache-Control"] = "no-store"
    patch_vary_headers(response, ["Cookie"])
    return response
