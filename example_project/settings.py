"""Settings of the example project. README.md lists the environment variables and their defaults."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import Any

import django
from cryptography.fernet import Fernet
from django.core.management.utils import get_random_secret_key

from . import database, embedded, keyring, redis_urls

PROJECT = keyring.PROJECT
DEMO = keyring.folder()

SECRET_KEY = os.environ.get("SECRET_KEY") or keyring.secret("secret-key", get_random_secret_key)
DEBUG = os.environ.get("DEBUG", "1") != "0"
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]").split(",")

INSTALLED_APPS = [
    "wellos_jobs",  # before django_rq, to override its rqworker command
    "wellos_jobs.contrib",
    "django_htmx",  # refreshes the admin pages
    "django_rq",
    "example_project.organizations",
    "example_project.accounts",
    "example_project.timesheets",
    "example_project.invoices",
    "example_project.errands",
    "example_project.demo",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    # passes the request's id to its jobs and their log lines
    "wellos_jobs.middleware.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
SECURE_CSP = {
    "default-src": ["'self'"],
    "img-src": ["'self'", "data:"],
    "object-src": ["'none'"],
    "base-uri": ["'none'"],
    "frame-ancestors": ["'none'"],
    "form-action": ["'self'"],
}
HAS_CSP = django.VERSION >= (6, 0)
MIDDLEWARE.insert(
    2,
    "django.middleware.csp.ContentSecurityPolicyMiddleware"
    if HAS_CSP
    else "example_project.policy.SecurityPolicy",
)

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
ASGI_APPLICATION = "example_project.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [PROJECT / "example_project" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# --- the database ---------------------------------------------------------------------------------

_DATABASE_URL = os.environ.get("DATABASE_URL")
DATABASE_IS_EMBEDDED = not _DATABASE_URL
DATABASES = {
    "default": database.from_url(_DATABASE_URL)
    if _DATABASE_URL
    else database.sqlite(DEMO / "db.sqlite3"),
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Redis: pages and jobs in separate logical databases, since cache.clear() empties a whole one -

REDIS_IS_EMBEDDED = not os.environ.get("REDIS_URL")
if REDIS_IS_EMBEDDED:
    embedded.start_for(sys.argv)
REDIS_URL = os.environ.get("REDIS_URL") or embedded.url()
JOBS_REDIS_URL = os.environ.get("JOBS_REDIS_URL") or redis_urls.next_database(REDIS_URL)

CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "OPTIONS": {"IGNORE_EXCEPTIONS": True},  # pages work without the cache
    },
    "jobs": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": JOBS_REDIS_URL,
    },
}
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"

# --- jobs -----------------------------------------------------------------------------------------

QUEUES = (
    "default",
    "email",
    "reports",
    "invoicing",
    "calculations",
    "notifications",
    "cleanup",
    "scheduled-tasks",
    "dynamic",
    "tasks",
    "rate-limited",
    "batch",
)
RQ_QUEUES = {
    name: {
        "USE_REDIS_CACHE": "jobs",
        "SERIALIZER": "rq.serializers.JSONSerializer",
        "DEFAULT_TIMEOUT": 300,
    }
    for name in QUEUES
}
RQ = {
    "QUEUE_CLASS": "wellos_jobs.queues.LaneQueue",
    "SCHEDULER_CLASS": "wellos_jobs.scheduler.Scheduler",
}

if django.VERSION < (6, 0) and find_spec("django_tasks"):
    INSTALLED_APPS.append("django_tasks")  # Django's Tasks on Django 5.2
TASKS = {
    "default": {
        "BACKEND": "wellos_jobs.task_backend.JobsBackend",
        "QUEUES": [],  # all queues of RQ_QUEUES
    },
}

_ENCRYPTION_KEYS = os.environ.get("ENCRYPTION_KEYS") or keyring.secret(
    "encryption-key", lambda: Fernet.generate_key().decode()
)
WELLOS_JOBS = {
    "ENCRYPTION_KEYS": _ENCRYPTION_KEYS.split(","),
    "ORGANIZATION_RESOLVER": "example_project.organizations.resolver.resolve",
    "BASE_URL": os.environ.get("BASE_URL", "http://127.0.0.1:8000"),
}
TIME_ENTRIES_URL = os.environ.get("TIME_ENTRIES_URL", "")  # where sync-time-entries looks

# --- users, email, files --------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "login"

# Django 6 expects addresses, Django 5.2 pairs of name and address.
ADMINS = (
    ["ops@wellos.example"] if django.VERSION >= (6, 0) else [("Operations", "ops@wellos.example")]
)
DEFAULT_FROM_EMAIL = "WellOS <hello@wellos.example>"
SERVER_EMAIL = "WellOS jobs <jobs@wellos.example>"
MAIL_FOLDER = DEMO / "mail"
if django.VERSION >= (6, 1):
    MAILERS = {
        "default": {
            "BACKEND": "example_project.mail.FolderBackend",
            "OPTIONS": {"file_path": MAIL_FOLDER},
        },
    }
else:
    EMAIL_BACKEND = "example_project.mail.FolderBackend"
    EMAIL_FILE_PATH = MAIL_FOLDER

STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
S3_BUCKET = os.environ.get("S3_BUCKET")
if S3_BUCKET:  # boto3 reads its credentials from the environment
    STORAGES["default"] = {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {"bucket_name": S3_BUCKET, "endpoint_url": os.environ.get("S3_ENDPOINT_URL")},
    }
MEDIA_ROOT = DEMO / "media"
MEDIA_URL = "/media/"  # not served: users get signed links to files
STATIC_URL = "/static/"
STATIC_ROOT = DEMO / "static"
STATICFILES_DIRS = [PROJECT / "example_project" / "static"]

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"job": {"()": "wellos_jobs.structured_logs.JobFilter"}},
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)-7s %(name)s %(message)s"},
        "json": {"()": "wellos_jobs.structured_logs.JsonFormatter"},
    },
    "handlers": {
        "console": {
            "class": "logging.StreamHandler",
            "filters": ["job"],
            "formatter": os.environ.get("WELLOS_LOG_FORMAT", "line"),
        },
    },
    "root": {"level": "INFO"},  # captures log lines of jobs from this level
    "loggers": {
        "wellos_jobs": {
            "handlers": ["console"],
            "level": os.environ.get("WELLOS_LOG_LEVEL", "INFO"),
        },
    },
}
