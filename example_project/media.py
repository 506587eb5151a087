"""Files that jobs made, for those who may see them."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import default_storage
from django.http import FileResponse, Http404, HttpRequest

from .invoices.models import Invoice


@login_required
def media(request: HttpRequest, name: str) -> FileResponse:
    """Send a file of the default storage: any to the staff, to others the invoices of their organization."""
    try:
        if not _may_see(request.user, name) or not default_storage.exists(name):
            raise Http404
        return FileResponse(default_storage.open(name), filename=name.rsplit("/", 1)[-1])
    except (SuspiciousFileOperation, IsADirectoryError):
        raise Http404 from None


def _may_see(user, name: str) -> bool:
    if user.is_staff:
        return True
    own = Invoice.objects.filter(organization=user.organization_id, document=name)
    return user.organization_id is not None and own.exists()
