"""URLs of a project that registers only the list of jobs, on a site of its own."""

from __future__ import annotations

from django.contrib.admin import AdminSite
from django.urls import path

from wellos_jobs.admin import JobRecordAdmin
from wellos_jobs.models import JobRecord

site = AdminSite("small")
site.register(JobRecord, JobRecordAdmin)
urlpatterns = [path("small/", site.urls)]
