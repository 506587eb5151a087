"""The URLs of the test project."""

from django.contrib import admin
from django.urls import include, path

from .support.pages import progress

urlpatterns = [
    path("admin/", admin.site.urls),
    path("jobs/", include("wellos_jobs.urls")),
    path("progress", progress),
    path("django-rq/", include("django_rq.urls")),
]
