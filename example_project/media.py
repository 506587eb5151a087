"""Files that jobs made, for those who may see them."""

from __future__ import annotations

import re

from django.contrib.auth.decorators import login_required
from django.core.exceptions import SuspiciousFileOperation
from django.core.files.storage import default_storage
from django.http import FileResponse, Http404, HttpRequest

from wellos_jobs import ids
from wellos_jobs.models import JobRecord

from .invoices.models import Invoice

REPORT = re.compile(r"reports/([0-9a-f-]{36})\.(?:pdf|csv)")


@login_required
def media(request: HttpRequest, name: str) -> FileResponse:
    """Send a file of the default storage: any to the staff, to others what is their organization's."""
    try:
        if not _may_see(request.user, name) or not default_storage.exists(name):
            raise Http404
        return FileResponse(default_storage.open(name), filename=name.rsplit("/", 1)[-1])
    except (SuspiciousFileOperation, IsADirectoryError):
        raise Http404 from None


def _may_see(user, name: str) -> bool:
    if user.is_staff:
        return True
    if user.organization_id is None:
        return False
    if (report := REPORT.fullmatch(name)) is not None:
        made_by = ids.parse_id(report[1])
        own = JobRecord.objects.filter(pk=made_by, name="org-report", organization_id=user.organization_id)
    else:
        own = Invoice.objects.filter(organization=user.organization_id, document=name)
    return own.exists()
