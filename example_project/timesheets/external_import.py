"""The job that imports a project's time entries from another system over HTTP."""

from __future__ import annotations

import json
from datetime import date
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from wellos_jobs import Discard, exponential, job, report_progress

from .models import Project, TimeEntry

REQUEST_TIMEOUT = 10.0


@job("import-time-entries", queue="default", max_attempts=5, backoff=exponential(1), timeout=120)
def import_time_entries(project_id: int, url: str) -> dict[str, int]:
    """Import a project's entries page by page; entries that exist already are skipped.

    So an interrupted run can simply be repeated.
    """
    project = Project.objects.filter(pk=project_id).first()
    if project is None:
        raise Discard(f"There is no project {project_id}")

    page, pages, imported = 1, 1, 0
    while page <= pages:
        answer = _fetch(url, page)
        pages = answer["pages"]
        imported += sum(_store(project, entry) for entry in answer["entries"])
        report_progress(100 * page / pages, f"page {page} of {pages}")
        page += 1

    return {"pages": pages, "imported": imported}


def _fetch(url: str, page: int) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise Discard(f"Invalid URL {url!r}: it must start with http:// or https://")
    with urlopen(f"{url}?{urlencode({'page': page})}", timeout=REQUEST_TIMEOUT) as response:
        return json.load(response)


def _store(project: Project, entry: dict[str, Any]) -> bool:
    _, created = TimeEntry.objects.get_or_create(
        project=project,
        external_id=entry["id"],
        defaults={
            "description": entry["description"],
            "day": date.fromisoformat(entry["day"]),
            "minutes": entry["minutes"],
        },
    )
    return created
