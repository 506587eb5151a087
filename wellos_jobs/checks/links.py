"""W106: a check of the base URL of links in mails."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Warning, register

from .jobs import valid_settings


@register(deploy=True)
def check_base_url(**_: Any) -> list[CheckMessage]:
    settings = valid_settings()
    if settings is None or settings.base_url or not apps.is_installed("wellos_jobs.contrib"):
        return []

    return [
        Warning(
            "WELLOS_JOBS has no BASE_URL: links to files in mails are relative, and broken.",
            hint='Set WELLOS_JOBS["BASE_URL"], such as "https://wellos.example".',
            id="wellos_jobs.W106",
        )
    ]
