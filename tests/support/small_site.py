"""URLs of a project that registers only jobs and dead letters, on a site of its own."""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.urls import path

from wellos_jobs.admin import DeadLetterAdmin, JobRecordAdmin
from wellos_jobs.models import DeadLetter, JobRecord

site = AdminSite("small")
site.register(JobRecord, JobRecordAdmin)
site.register(DeadLetter, DeadLetterAdmin)
urlpatterns = [path("small/", site.urls)]
