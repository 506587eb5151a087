"""Serves the files that jobs made to whoever holds a signed link that has not expired."""

from __future__ import annotations

from django.core import signing
from django.core.exceptions import SuspiciousFileOperation
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from .files import read_token, storage


@require_safe
def file(request: HttpRequest, token: str, filename: str) -> HttpResponseBase:
    """Send the file that ``token`` names, as a download; ``filename`` is only for people to read.

    410 for a link that has expired, 404 for one that nobody here made and for a file that is gone.
    """
    try:
        name = read_token(token)
        content = storage().open(name)
    except signing.SignatureExpired:
        return HttpResponse(_("This link has expired."), status=410, content_type="text/plain; charset=utf-8")
    except (signing.BadSignature, FileNotFoundError, IsADirectoryError, SuspiciousFileOperation):
        return HttpResponse(_("File not found"), status=404, content_type="text/plain; charset=utf-8")
    response = FileResponse(content, as_attachment=True, filename=name.rpartition("/")[2])
    # What a job stored is data, whatever it looks like: no browser is to run it, keep it, or pass the link on.
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["Cache-Control"] = "private, no-store"
    response["Referrer-Policy"] = "no-referrer"
    return response
