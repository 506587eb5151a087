"""The test project with django-unfold: for processes of their own, since unfold changes Django's
admin for all."""

from ..settings import *  # noqa: F403
from ..settings import INSTALLED_APPS as THEIRS
from ..settings import MIDDLEWARE as EACH

INSTALLED_APPS = ["unfold", *THEIRS]
MIDDLEWARE = EACH[1:]  # without the policy: unfold itself needs inline scripts
ROOT_URLCONF = "tests.support.unfold_site"
CSRF_TRUSTED_ORIGINS = ["http://127.0.0.1"]
