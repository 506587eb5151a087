"""Access control: views about an organization are for its members and for staff."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404

from .models import Organization


def for_members(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Pass the view the organization whose ``slug`` is in the URL; others than members get a 404.

    The view has to read only that organization's rows, so that ids of other rows are a 404, too.
    """

    @login_required
    @wraps(view)
    def checked(request: HttpRequest, slug: str, **arguments: Any) -> HttpResponse:
        organization = get_object_or_404(Organization.objects.visible_to(request.user), pk=slug)
        return view(request, organization, **arguments)

    return checked
