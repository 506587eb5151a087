"""Middleware: each request has an id, which the jobs it enqueues and their log lines carry on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

from .enqueueing import tracing

HEADER = "X-Request-ID"


class RequestIdMiddleware:
    """Take the request's ``X-Request-ID``, or make one; answer with it, and let jobs and log lines have it.

    A ``traceparent`` header gives them the id of the trace, too. Put it first in ``MIDDLEWARE``.
    The header is taken from whoever sends it: an id is a name to search for, not a proof of
    anything.
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
            return self._answer_async(request)
        token = tracing.begin(_origin(request))
        try:
            return _signed(self.get_response(request))
        finally:
            tracing.end(token)

    async def _answer_async(self, request: HttpRequest) -> HttpResponseBase:
        token = tracing.begin(_origin(request))
        try:
            return _signed(await self.get_response(request))
        finally:
            tracing.end(token)


def _origin(request: HttpRequest) -> tracing.Origin:
    return tracing.of_headers(
        request.headers.get(HEADER, ""), request.headers.get("traceparent", "")
    )


def _signed(response: HttpResponseBase) -> HttpResponseBase:
    response[HEADER] = tracing.origin()["request_id"]
    return response
