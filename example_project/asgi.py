"""The ASGI application: ``uvicorn example_project.asgi:application``. Live progress is streamed.

Set ``REDIS_URL``: only manage.py starts the embedded server.
"""

import os

from django.conf import settings
from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")

application = get_asgi_application()
if settings.DEBUG:  # in production the web server has the static files
    application = ASGIStaticFilesHandler(application)
