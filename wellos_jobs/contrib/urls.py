"""URLs that serve files by signed links.

Include them with ``path("files/", include("wellos_jobs.contrib.urls"))``.
"""

from django.urls import path

from . import views

app_name = "wellos_jobs_contrib"
urlpatterns = [path("<str:token>/<str:filename>", views.file, name="file")]
