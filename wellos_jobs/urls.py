"""The URLs of jobs: ``path("jobs/", include("wellos_jobs.urls"))``."""

from __future__ import annotations

from django.urls import path

from . import health_views, views

app_name = "wellos_jobs"

urlpatterns = [
    path("health/live", health_views.live, name="health-live"),
    path("health/ready", health_views.ready, name="health-ready"),
    path("health/backlog", health_views.backlog, name="health-backlog"),
    path("<str:job_id>/status", views.job_status, name="job-status"),
    path("<str:job_id>/events", views.job_events, name="job-events"),
    path("<str:job_id>/cancel", views.job_cancel, name="job-cancel"),
]
