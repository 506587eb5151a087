"""Serves the files that jobs made to whoever holds a signed link that has not expired."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import IO, TypeVar
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.core import signing
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import FileSystemStorage
from django.core.handlers.asgi import ASGIRequest
from django.http import (
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
)
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from .files import own_url, read_token, storage

Response = TypeVar("Response", bound=HttpResponseBase)


@require_safe
def file(request: HttpRequest, token: str, filename: str) -> HttpResponseBase:
    """Send the file that ``token`` names, as a download; ``filename`` is only for people to read.

    A file in S3, or wherever else the storage has URLs of its own, is not passed through here: the
    answer leads to its URL, signed just now. 410 for a link that has expired, 404 for one that
    nobody here made or whose file is gone.
    """
    try:
        name = read_token(token)
        if (elsewhere := _url_elsewhere(name)) is not None:
            return _guarded(HttpResponseRedirect(elsewhere))
        content = storage().open(name)
    except signing.SignatureExpired:
        return HttpResponse(
            _("This link has expired."), status=410, content_type="text/plain; charset=utf-8"
        )
    except (signing.BadSignature, FileNotFoundError, IsADirectoryError, SuspiciousFileOperation):
        return HttpResponse(
            _("File not found"), status=404, content_type="text/plain; charset=utf-8"
        )
    response = FileResponse(content, as_attachment=True, filename=name.rpartition("/")[2])
    if isinstance(
        request, ASGIRequest
    ):  # else Django reads the whole file into memory, with a warning
        response.streaming_content = _pieces(content, response.block_size)
    return _guarded(response)


async def _pieces(content: IO[bytes], size: int) -> AsyncIterator[bytes]:
    while piece := await sync_to_async(content.read)(size):
        yield piece


def _url_elsewhere(name: str) -> str | None:
    """Return the URL of a file that is kept by another server; None if this one has it.

    Raises:
        FileNotFoundError: it is gone.
    """
    if isinstance(storage(), FileSystemStorage) or not urlsplit(url := own_url(name)).scheme:
        return None
    if not storage().exists(name):
        raise FileNotFoundError(name)
    return url


def _guarded(response: Response) -> Response:
    """What a job stored is data, whatever it looks like: no browser is to run it, keep it, or pass the link on."""
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["Cache-Control"] = "private, no-store"
    response["Referrer-Policy"] = "no-referrer"
    return response
