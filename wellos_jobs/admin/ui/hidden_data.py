"""What users without the permission ``view_payload`` do not see of data outside of jobs."""

from __future__ import annotations

from django.http import HttpRequest

from ...models import AuditEntry
from ...payload.redaction import MASK


def may_see_data(request: HttpRequest) -> bool:
    """Return whether the user may see the data of the rows that are shown to them."""
    return request.user.has_perm("wellos_jobs.view_payload")


def without_data(entry: AuditEntry) -> AuditEntry:
    """Mask the former and new data in an audit entry; it is shown, never saved."""
    changes = entry.detail.get("changes")
    if isinstance(changes, dict) and "data" in changes:
        entry.detail = {**entry.detail, "changes": {**changes, "data": [MASK, MASK]}}
    return entry
