"""The test project as an ASGI application, for a real server, with its static files."""

from __future__ import annotations

import os

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
application = ASGIStaticFilesHandler(get_asgi_application())
