"""Settings for the benchmarks, with SQLite and REDIS_URL."""

import os

SECRET_KEY = "for measuring only"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "wellos_jobs",
    "django_rq",
    "benchmarks",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ["BENCHMARK_DATABASE"],
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        },
    }
}
RQ_QUEUES = {
    name: {"URL": os.environ["REDIS_URL"], "SERIALIZER": "rq.serializers.JSONSerializer"}
    for name in ("default", "fair")
}
WELLOS_JOBS = {"FAIR_QUEUES": ["fair"]}
RQ = {"QUEUE_CLASS": "wellos_jobs.queues.LaneQueue"}
LEVEL = {"level": os.environ.get("BENCHMARK_LOG_LEVEL", "WARNING")}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "loggers": {"wellos_jobs": LEVEL, "rq.worker": LEVEL},
}
