"""HTTP endpoints for one job: status JSON, event stream, cancel."""

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
from ..operations import texts
from ..operations.verbs import VERBS
from ..permissions import (
    address_of,
    has_permission,
    is_requester,
    may_see_job,
    may_see_payload,
    user_of,
)
from . import sse

logger = logging.getLogger("wellos_jobs")

Response = TypeVar("Response", bound=HttpResponseBase)
View = Callable[[HttpRequest, str], HttpResponseBase]
RETRY_AFTER = "5"
"""Seconds after which a client may retry when a database was unavailable."""


def _unavailable_as_503(view: View) -> View:
    """Respond 503, not 404, when a database that may have the job is unavailable."""

    @functools.wraps(view)
    def answer(request: HttpRequest, job_id: str) -> HttpResponseBase:
        try:
            return view(request, job_id)
        except (DatabaseUnavailable, OperationalError, InterfaceError) as error:
            logger.warning("a job cannot be looked up: %s", error)
            response = _refused(
                503,
                "A database is unavailable, so the job cannot be looked up. Try again later.",
            )
            response["Retry-After"] = RETRY_AFTER
            return response

    return answer


@require_safe
@_unavailable_as_503
def job_status(request: HttpRequest, job_id: str) -> HttpResponse:
    """Return the job's status as JSON.

    Users who may not see it get the same 404 as for an unknown id.
    """
    record = _visible(request, job_id)
    if record is None:
        return _not_found()
    answer = status.job_status(record)
    if not may_see_payload(request, record):
        answer["data"] = answer["result"] = None
    return _private(JsonResponse(answer))


@require_safe
@_unavailable_as_503
def job_events(request: HttpRequest, job_id: str) -> HttpResponseBase:
    """Stream the job's status until it has ended (see ``sse``); 404 as in ``job_status``.

    Under WSGI, where a stream would occupy a thread, the response is one snapshot and a ``poll``
    event. A page that reconnects after the end gets a 204, which stops the browser's reconnects.
    """
    record = _visible(request, job_id)
    if record is None:
        return _not_found()

    visible = sse.VisibleJob(record, may_see_payload(request, record))
    now = sse.snapshot(visible, status.job_status(record))
    last_id = request.headers.get("Last-Event-ID", "")
    if now.is_final and now.id == last_id:
        return _private(HttpResponse(status=204))

    response: HttpResponseBase
    if _can_stream(request) and not now.is_final:
        stream = sse.JobStream(visible, now, partial(_reload, request, job_id), last_id)
        response = StreamingHttpResponse(stream, content_type="text/event-stream")
        # GZipMiddleware would compress each event on its own, which browsers cannot read.
        response["Content-Encoding"] = "identity"
    else:
        response = HttpResponse(sse.short(now, last_id), content_type="text/event-stream")
    response["X-Accel-Buffering"] = "no"
    return _private(response)


@require_POST
@csrf_protect
@_unavailable_as_503
def job_cancel(request: HttpRequest, job_id: str) -> HttpResponse:
    """Cancel the job: allowed for its requester and holders of ``cancel_job``."""
    record = status.find(job_id)
    may_cancel = record is not None and has_permission(request, VERBS["cancel"].permission, record)
    if record is None or not (may_cancel or may_see_job(request, record)):
        return _not_found()
    if not may_cancel and not is_requester(request, record):
        return _refused(403, "You may see this job, but not cancel it.")

    reason = request.POST.get("reason", "")
    if len(reason) > texts.MAX_REASON:
        return _refused(400, f"Give a reason of at most {texts.MAX_REASON:,} characters.")

    try:
        state = operations.cancel(
            record,
            by=request.user,
            reason=reason,
            address=address_of(request),
        )
    except InvalidOperation as error:
        return _refused(409, str(error))
    except RedisUnavailable as error:
        return _refused(503, str(error))
    return _private(JsonResponse({"id": str(record.pk), "state": state}))


def _can_stream(request: HttpRequest) -> bool:
    return request.method != "HEAD" and isinstance(request, ASGIRequest) and not sse.is_full()


def _visible(request: HttpRequest, job_id: str) -> JobRecord | None:
    record = status.find(job_id)
    return record if record is not None and may_see_job(request, record) else None


def _reload(request: HttpRequest, job_id: str) -> sse.VisibleJob | None:
    """Reload user and row: the user may have logged out or lost a permission since."""
    request.user = _user_now(request)
    record = _visible(request, job_id)
    return None if record is None else sse.VisibleJob(record, may_see_payload(request, record))


def _user_now(request: HttpRequest) -> Any:
    session = getattr(request, "session", None)
    if session is not None and auth.SESSION_KEY in session:
        request.session = type(session)(session.session_key)
        return auth.get_user(request)
    users = auth.get_user_model()._default_manager
    pk = user_of(request).pk
    user = users.filter(pk=pk).first() if pk else None
    return user if user is not None and user.is_active else AnonymousUser()


def _not_found() -> HttpResponse:
    return _private(HttpResponseNotFound("Job not found", content_type="text/plain; charset=utf-8"))


def _refused(code: int, text: str) -> HttpResponse:
    return _private(JsonResponse({"error": text}, status=code))


def _private(response: Response) -> Response:
    """Keep a response out of caches; all 404s have the same headers, so none reveals a job."""
    response["Cache-Control"] = "no-store"
    patch_vary_headers(response, ["Cookie"])
    return response
