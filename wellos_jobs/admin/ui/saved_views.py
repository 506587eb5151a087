"""Saved views: named filters of a change list, private or shared."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth import get_user_model
from django.core.exceptions import BadRequest, PermissionDenied
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
    QueryDict,
)
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ...models import SavedView
from ...operations import texts
from ...organizations import visible_organizations
from . import organization_scope, search_window

NOT_FILTERS = (
    frozenset({"p", "all", "e", "_changelist_filters", "_facets"}) | search_window.PARAMETERS
)
"""Query parameters that are not filters."""


class ViewForm(forms.Form):
    """Name and visibility of the current filters."""

    name = forms.CharField(label=_("View name"), max_length=80)
    shared = forms.BooleanField(label=_("Share with everyone"), required=False)
    query = forms.CharField(widget=forms.HiddenInput, max_length=texts.MAX_QUERY, required=False)


class SavedViews:
    """Mixin for a ``ModelAdmin``, listed before it in the bases."""

    def get_urls(self) -> list[URLPattern]:
        site: Any = self.admin_site  # type: ignore[attr-defined]
        name = f"wellos_jobs_{self._page}_views"
        return [path("views/", site.admin_view(self.views_view), name=name), *super().get_urls()]  # type: ignore[misc]

    @property
    def _page(self) -> str:
        return str(self.opts.model_name)  # type: ignore[attr-defined]

    def saved_views(self, request: HttpRequest) -> dict[str, Any]:
        """Return the context of the list. One query, two for users limited to organizations."""
        query = filter_query(request.GET)
        views = _visible_views(request, self._page)
        return {
            "saved_views": [
                (view, view.query == query, view.owner_id == request.user.pk) for view in views
            ],
            "view_form": ViewForm(initial={"query": query}),
            "views_url": self._url("views"),
        }

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        shown = self.saved_views(request) if request.method == "GET" else {}
        return super().changelist_view(request, shown | (extra_context or {}))  # type: ignore[misc,no-any-return]

    def views_view(self, request: HttpRequest) -> HttpResponse:
        """Save, rename, overwrite, share or delete a view, depending on ``action``."""
        if not self.has_view_permission(request):  # type: ignore[attr-defined]
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        if request.POST.get("action") == "save":
            query = self._save(request)
        else:
            query = self._change(request)
        url = self._url("changelist")
        return HttpResponseRedirect(f"{url}?{query}" if query else url)

    def _url(self, kind: str) -> str:
        site: Any = self.admin_site  # type: ignore[attr-defined]
        return reverse(f"admin:wellos_jobs_{self._page}_{kind}", current_app=site.name)

    def _save(self, request: HttpRequest) -> str:
        form = ViewForm(request.POST)
        if not form.is_valid():
            messages.error(request, gettext("Enter a name of at most 80 characters for the view"))
            return filter_query(QueryDict(request.POST.get("query", "")))

        query = filter_query(QueryDict(form.cleaned_data["query"]))
        name = form.cleaned_data["name"]
        SavedView.objects.update_or_create(
            owner_id=request.user.pk,
            page=self._page,
            name=name,
            defaults={"query": query, "shared": form.cleaned_data["shared"]},
        )

        messages.success(request, gettext("The view “%(name)s” was saved") % {"name": name})
        return query

    def _change(self, request: HttpRequest) -> str:
        pk = request.POST.get("view", "")
        mine = SavedView.objects.filter(page=self._page, owner=request.user.pk)
        view = (
            mine.filter(pk=pk).first() if pk.isascii() and pk.isdigit() and len(pk) < 19 else None
        )
        if view is None:
            raise Http404

        here = filter_query(QueryDict(request.POST.get("query", "")))
        match request.POST.get("action"):
            case "delete":
                view.delete()
                text = gettext("The view “%(name)s” was deleted")
                messages.success(request, text % {"name": view.name})
                return here
            case "rename":
                self._rename(request, view, mine)
                return here
            case "overwrite":
                view.query = here
                text = gettext("The view “%(name)s” now has the current filters")
                messages.success(request, text % {"name": view.name})
            case "share":
                view.shared = not view.shared
            case other:
                raise BadRequest(f"Unknown action on a view: {other!r}")

        view.save(update_fields=["query", "shared"])
        return view.query

    def _rename(self, request: HttpRequest, view: SavedView, mine: QuerySet[SavedView]) -> None:
        form = ViewForm(request.POST)
        if not form.is_valid():
            messages.error(request, gettext("Enter a name of at most 80 characters for the view"))
            return

        former, name = view.name, form.cleaned_data["name"]
        try:
            with transaction.atomic(using=mine.db):
                mine.filter(pk=view.pk).update(name=name)
        except IntegrityError:
            text = gettext("You already have a view named “%(name)s”")
            messages.error(request, text % {"name": name})
            return

        text = gettext("The view “%(former)s” was renamed to “%(name)s”")
        messages.success(request, text % {"former": former, "name": name})


def filter_query(query: QueryDict) -> str:
    """Return the filters in a query string, sorted."""
    kept = sorted(
        (texts.cleaned(key), texts.cleaned(value))
        for key, values in query.lists()
        if key not in NOT_FILTERS
        for value in values
    )
    filters = QueryDict(mutable=True)
    for key, value in kept:
        filters.appendlist(key, value)
    encoded = filters.urlencode()
    if len(encoded) > texts.MAX_QUERY:
        raise BadRequest(f"The filters have more than {texts.MAX_QUERY:,} characters")
    return encoded


def _visible_views(request: HttpRequest, page: str) -> list[SavedView]:
    """Return the user's own views, and the shared ones that cross no border of organizations.

    A view's name and filters can name what its owner sees. So a user who is limited to
    organizations sees the shared views of owners without a limit, who share with everyone, and of
    owners who see no other organizations than this user.
    """
    mine = Q(owner=request.user.pk)
    views = list(SavedView.objects.filter(mine | Q(shared=True), page=page))
    allowed = organization_scope.organizations(request)
    if allowed is None:
        return views

    others = {view.owner_id for view in views} - {request.user.pk}
    owners = get_user_model()._default_manager.filter(pk__in=others, is_active=True)
    shown = {request.user.pk, *(owner.pk for owner in owners if _sees_no_more(owner, allowed))}
    return [view for view in views if view.owner_id in shown]


def _sees_no_more(owner: Any, allowed: frozenset[str]) -> bool:
    organizations = visible_organizations(owner)
    return organizations is None or organizations <= allowed
