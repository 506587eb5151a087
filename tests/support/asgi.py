"""The test project as an ASGI application for a real server, with static files, a strict policy and
compression."""

from __future__ import annotations

from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

settings.MIDDLEWARE.insert(0, "django.middleware.gzip.GZipMiddleware")
application = ASGIStaticFilesHandler(get_asgi_application())
