"""The HTTP doors of a job: its status as JSON or as a stream of events, and its cancellation."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from django.contrib import auth
from django.contrib.auth.models import AnonymousUser
from django.core.handlers.asgi import ASGIRequest
from django.db import InterfaceError, OperationalError
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotFound,
    JsonResponse,
    StreamingHttpResponse,
)
from django.utils.cache import patch_vary_headers
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST, require_safe

from .. import operations, status
from ..errors import DatabaseUnavailable, InvalidOperation, RedisUnavailable
from ..models import JobRecord
from ..operations.verbs import VERBS
from . import sse
from .permissions import address_of, has_permission, is_requester, may_see_job, may_see_payload

logger = logging.getLogger("wellos_jobs")

Response = TypeVar("Response", bound=HttpResponseBase)
View = Callable[[HttpRequest, str], HttpResponseBase]
RETRY_AFTER = "5"
"""Seconds after which a client may ask again when a database was away."""


def _unless_away(view: View) -> View:
    """Answer 503 when a database that may hold the job is away: the job may be there all the same."""

    @functools.wraps(view)
    def answer(request: HttpRequest, job_id: str) -> HttpResponseBase:
        try:
            return view(request, job_id)
        except (DatabaseUnavailable, OperationalError, InterfaceError) as error:
            logger.warning("a job cannot be looked up: %s", error)
            response = _refused(
                503,
                "A database is away, so the job cannot be looked up. Try again in some seconds.",
            )
            response["Retry-After"] = RETRY_AFTER
            return response

    return answer


@require_safe
@_unless_away
def job_status(request: HttpRequest, job_id: str) -> HttpResponse:
    """Answer with the job's status as JSON; 404 for everybody who may not see it, as for ids that do not exist."""
    record = _visible(request, job_id)
    if record is None:
        return _not_found()
    answer = status.job_status(record)
    if not may_see_payload(request, record):
        answer["data"] = answer["result"] = None
    return _private(JsonResponse(answer))


@require_safe
@_unless_away
def job_events(request: HttpRequest, job_id: str) -> HttpResponseBase:
    """Stream the job's status until it has ended (see ``live``); 404 for whom ``job_status`` refuses.

    Under WSGI, where a stream would hold a thread, the answer is one snapshot and the advice to
    poll. A page that comes back although it has had the end gets a 204, which tells the browser not
    to come again.
    """
    record = _visible(request, job_id)
    if record is None:
        return _not_found()
    seen = sse.Seen(record, may_see_payload(request, record))
    now = sse.snapshot(seen, status.job_status(record))
    last_id = request.headers.get("Last-Event-ID", "")
    if now.is_final and now.id == last_id:
        return _private(HttpResponse(status=204))
    response: HttpResponseBase
    if (
        request.method == "HEAD"
        or now.is_final
        or sse.is_full()
        or not isinstance(request, ASGIRequest)
    ):
        response = HttpResponse(sse.short(now, last_id), content_type="text/event-stream")
    else:
        stream = sse.JobStream(seen, now, partial(_look_again, request, job_id), last_id)
        response = StreamingHttpResponse(stream, content_type="text/event-stream")
        response["Content-Encoding"] = (
            "identity"  # GZipMiddleware makes an archive of each event; browsers read one
        )
    response["X-Accel-Buffering"] = "no"
    return _private(response)


@require_POST
@csrf_protect
@_unless_away
def job_cancel(request: HttpRequest, job_id: str) -> HttpResponse:
    """Cancel the job: for the person who asked for it, and for holders of the permission ``cancel_job``."""
    record = status.find(job_id)
    may_cancel = record is not None and has_permission(request, VERBS["cancel"].permission, record)
    if record is None or not (may_cancel or may_see_job(request, record)):
        return _not_found()
    if not may_cancel and not is_requester(request, record):
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


def _visible(request: HttpRequest, job_id: str) -> JobRecord | None:
    record = status.find(job_id)
    return record if record is not None and may_see_job(request, record) else None


def _look_again(request: HttpRequest, job_id: str) -> sse.Seen | None:
    """Read a job's row, and who asks, anew: the person may have logged out or lost a permission meanwhile."""
    request.user = _user_now(request)
    record = _visible(request, job_id)
    return None if record is None else sse.Seen(record, may_see_payload(request, record))


def _user_now(request: HttpRequest) -> Any:
    session = getattr(request, "session", None)
    if session is not None and auth.SESSION_KEY in session:
        request.session = type(session)(session.session_key)
        return auth.get_user(request)
    users = auth.get_user_model()._default_manager
    user = users.filter(pk=request.user.pk).first() if request.user.pk else None
    return user if user is not None and user.is_active else AnonymousUser()


def _not_found() -> HttpResponse:
    return _private(HttpResponseNotFound("Job not found", content_type="text/plain; charset=utf-8"))


def _refused(code: int, text: str) -> HttpResponse:
    return _private(JsonResponse({"error": text}, status=code))


def _private(response: Response) -> Response:
    """Keep an answer out of caches; all 404s have the same headers, so that none tells whether a job exists."""
    response["Cache-Control"] = "no-store"
    patch_vary_headers(response, ["Cookie"])
    return response
