"""The URLs of jobs: ``path("jobs/", include("wellos_jobs.urls"))``."""

from __future__ import annotations

from django.urls import path

from .views import health, jobs

app_name = "wellos_jobs"

urlpatterns = [
    path("health/live", health.live, name="health-live"),
    path("health/ready", health.ready, name="health-ready"),
    path("health/backlog", health.backlog, name="health-backlog"),
    path("<str:job_id>/status", jobs.job_status, name="job-status"),
    path("<str:job_id>/events", jobs.job_events, name="job-events"),
    path("<str:job_id>/cancel", jobs.job_cancel, name="job-cancel"),
]
