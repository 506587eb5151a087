"""Request ids: each request has one, which its jobs and their log lines carry on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

from .enqueueing.context import Origin, current_origin, origin_of_headers, working_for

HEADER = "X-Request-ID"


class RequestIdMiddleware:
    """Read the request's ``X-Request-ID``, or create one, and return it in the response.

    Jobs enqueued in the request and their log lines get the id, and the trace id of a
    ``traceparent`` header. Put it first in ``MIDDLEWARE``. Clients can send any id: it is for
    searching logs and proves nothing.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self._call_async(request)
        with working_for(_origin(request)):
            return _with_request_id(self.get_response(request))

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        with working_for(_origin(request)):
            return _with_request_id(await self.get_response(request))


def _origin(request: HttpRequest) -> Origin:
    headers = request.headers
    return origin_of_headers(headers.get(HEADER, ""), headers.get("traceparent", ""))


def _with_request_id(response: HttpResponseBase) -> HttpResponseBase:
    response[HEADER] = current_origin()["request_id"]
    return response
