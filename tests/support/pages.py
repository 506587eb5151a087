"""Pages of a project that uses wellos_jobs, for browsers."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine

from wellos_jobs import status

PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Jobs</title>
<meta name="viewport" content="width=device-width"></head><body><main><h1>Jobs</h1>
{% for job in jobs %}{% include "wellos_jobs/progress.html" %}{% endfor %}</main></body></html>"""


def progress(request: HttpRequest) -> HttpResponse:
    """Show the jobs that the address names, whoever asks: what a script then learns of them is
    another thing."""
    engine = Engine(
        app_dirs=True, libraries={name: f"django.{path}" for name, path in LIBRARIES.items()}
    )
    found = [status.find(job_id) for job_id in request.GET.getlist("job")]
    context = Context({"jobs": found, "result_url": request.GET.get("result_url", "")})
    return HttpResponse(engine.from_string(PAGE).render(context))


LIBRARIES = {"i18n": "templatetags.i18n", "static": "templatetags.static"}
