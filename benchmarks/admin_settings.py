"""Settings for measuring the admin, with DATABASE_URL (or SQLite) and REDIS_URL."""

import os

from example_project.database import from_url
from tests.support.project import ADMIN_APPS
from tests.support.project import TEMPLATES as TEMPLATES

from .settings import *  # noqa: F403
from .settings import DATABASES, RQ_QUEUES

QUEUES = int(os.environ.get("BENCHMARK_QUEUES", "200"))

if "DATABASE_URL" in os.environ:
    DATABASES["default"] = from_url(os.environ["DATABASE_URL"])
RQ_QUEUES = {**RQ_QUEUES, **{f"queue-{n:03}": RQ_QUEUES["default"] for n in range(QUEUES - 1)}}
INSTALLED_APPS = [
    "wellos_jobs",
    "django_htmx",
    "django_rq",
    "benchmarks",
    *ADMIN_APPS,
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "benchmarks.admin_urls"
ALLOWED_HOSTS = ["testserver"]
STATIC_URL = "/static/"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
