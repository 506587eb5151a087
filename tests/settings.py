"""The test project: the app, Django's admin, seven queues on a Redis of its own, two databases.

Importing this makes a test bed (``tests.support.test_run``) unless the process was started in one.
"""

from __future__ import annotations

import base64
import json
import os
from importlib.util import find_spec

import django

from .support import test_run
from .support.project import ADMIN_APPS
from .support.project import TEMPLATES as TEMPLATES

IS_CHILD = test_run.is_made()
if not IS_CHILD:
    test_run.make()
REDIS_URL = os.environ["REDIS_URL"]
FOLDER = test_run.folder()

SECRET_KEY = "only for tests"
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"

INSTALLED_APPS = [
    "wellos_jobs",  # before django_rq: its rqworker command is the one that runs
    "wellos_jobs.contrib",
    "django_htmx",
    "django_rq",
    "tests",
    *ADMIN_APPS,
]
SECURE_CSP = {
    "default-src": ["'self'"],
    "img-src": ["'self'", "data:"],
    "object-src": ["'none'"],
    "base-uri": ["'none'"],
    "frame-ancestors": ["'none'"],
}
"""No inline script, no inline style, nothing from elsewhere."""
_POLICY = "django.middleware.csp.ContentSecurityPolicyMiddleware"
MIDDLEWARE = [
    _POLICY if django.VERSION >= (6, 0) else "tests.support.browser.StrictPolicy",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "tests.urls"
STATIC_URL = "/static/"
MEDIA_ROOT = os.environ.get("WELLOS_TEST_MEDIA") or FOLDER / "media"
MEDIA_URL = "/media/"
if S3_URL := os.environ.get("WELLOS_TEST_S3"):
    from .support.s3 import storage

    STORAGES = {
        "default": storage(S3_URL),
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.MD5PasswordHasher"
]  # fast, and safe enough for nobody

DATABASES = test_run.databases(for_child=IS_CHILD)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Redis: database 0 has the jobs, 1 the cache of pages, 2 a cache that queues may share --------


def _cache(number: int) -> dict[str, object]:
    location = f"{REDIS_URL.rpartition('/')[0]}/{number}"
    return {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location}


CACHES = {"default": _cache(1), "jobs": _cache(2)}

RQ_QUEUES = {
    name: {"URL": REDIS_URL, "SERIALIZER": "rq.serializers.JSONSerializer"}
    for name in (
        "default",
        "email",
        "reports",
        "notifications",
        "cleanup",
        "dynamic",
        "slow",
        "low",
        "tasks",
    )
}
if SENTINELS := os.environ.get("WELLOS_TEST_SENTINELS"):
    RQ_QUEUES = dict.fromkeys(RQ_QUEUES, json.loads(SENTINELS))
RQ = {
    "QUEUE_CLASS": "wellos_jobs.queues.LaneQueue",
    "SCHEDULER_CLASS": "wellos_jobs.scheduler.Scheduler",
}
WELLOS_JOBS = {
    "JOB_DATABASES": list(DATABASES),
    "ENCRYPTION_KEYS": [base64.urlsafe_b64encode(b"thirty-two bytes, only for tests").decode()],
}

# --- Django's Tasks, on Django 5.2 with the package django-tasks ----------------------------------

if django.VERSION < (6, 0) and find_spec("django_tasks"):
    INSTALLED_APPS.append("django_tasks")
if django.VERSION >= (6, 0) or find_spec("django_tasks"):
    TASKS = {
        "default": {"BACKEND": "wellos_jobs.task_backend.JobsBackend", "QUEUES": []},
        "capped": {
            "BACKEND": "wellos_jobs.task_backend.JobsBackend",
            "QUEUES": ["default", "tasks"],
            "OPTIONS": {"max_attempts": 1},
        },
    }

# --- mail: pytest collects it in memory; child processes write files, or send it to the SMTP server

ADMINS = (
    ["ops@wellos.example"] if django.VERSION >= (6, 0) else [("Operations", "ops@wellos.example")]
)
MAIL_FOLDER = FOLDER / "mail"
_FILES = "django.core.mail.backends.filebased.EmailBackend"
if django.VERSION >= (6, 1):
    MAILERS = {"default": {"BACKEND": _FILES, "OPTIONS": {"file_path": MAIL_FOLDER}}}
else:
    EMAIL_BACKEND = _FILES
    EMAIL_FILE_PATH = MAIL_FOLDER
if SMTP_PORT := os.environ.get("WELLOS_TEST_SMTP_PORT"):
    WELLOS_JOBS["MAIL_WAITS"] = {"deferred": 0.3, "unreachable": 0.2}
    _SMTP = "django.core.mail.backends.smtp.EmailBackend"
    if django.VERSION >= (6, 1):
        MAILERS = {
            "default": {"BACKEND": _SMTP, "OPTIONS": {"host": "127.0.0.1", "port": int(SMTP_PORT)}}
        }
    else:
        EMAIL_BACKEND, EMAIL_HOST, EMAIL_PORT = _SMTP, "127.0.0.1", int(SMTP_PORT)

if IS_CHILD:
    LOGGING = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {"format": "%(asctime)s %(process)d %(levelname)s %(name)s %(message)s"}
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": {
            "wellos_jobs": {"level": os.environ.get("WELLOS_TEST_LOG_LEVEL", "INFO")},
            "rq": {"level": "INFO"},
        },
        "root": {"handlers": ["console"], "level": "WARNING"},
    }
