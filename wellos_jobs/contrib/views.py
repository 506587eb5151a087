"""Serve stored files to holders of a signed link that has not expired."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import IO, TypeVar
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_not_required
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


@login_not_required
@require_safe
def file(request: HttpRequest, token: str, filename: str) -> HttpResponseBase:
    """Send the file named in ``token`` as a download. ``filename`` only makes the URL readable.

    If the storage has its own URLs, as S3 has, redirect to a freshly signed one. An expired link
    gets 410; a link with an invalid signature or without a file gets 404.
    """
    try:
        name = read_token(token)
        external_url = _external_url(name)
        if external_url is not None:
            return _with_security_headers(HttpResponseRedirect(external_url))
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
    if isinstance(request, ASGIRequest):
        # With a synchronous iterator Django would read the whole file into memory, with a warning.
        response.streaming_content = _chunks(content, response.block_size)
    return _with_security_headers(response)


async def _chunks(content: IO[bytes], size: int) -> AsyncIterator[bytes]:
    while chunk := await sync_to_async(content.read)(size):
        yield chunk


def _external_url(name: str) -> str | None:
    """Return the URL of a file on another server, or None if this server has to send it.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    if isinstance(storage(), FileSystemStorage) or not urlsplit(url := own_url(name)).scheme:
        return None
    if not storage().exists(name):
        raise FileNotFoundError(name)
    return url


def _with_security_headers(response: Response) -> Response:
    """Keep browsers from executing or caching a stored file, and from leaking its link."""
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["Cache-Control"] = "private, no-store"
    response["Referrer-Policy"] = "no-referrer"
    return response
