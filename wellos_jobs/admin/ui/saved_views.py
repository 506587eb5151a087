"""Saved views: a person's filters of a list under names, shared with others or not."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
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
from . import search_window

PASSING = frozenset({"p", "all", "e", "_changelist_filters", "_facets"}) | search_window.PARAMETERS
"""Parts of an address that are no filter."""


class ViewForm(forms.Form):
    """The name under which the present filter is kept."""

    name = forms.CharField(label=_("Name of this view"), max_length=80)
    shared = forms.BooleanField(label=_("Show it to all"), required=False)
    query = forms.CharField(widget=forms.HiddenInput, required=False)


class SavedViews:
    """For a list in the admin: ``admin.ModelAdmin`` stands behind it in the bases."""

    def get_urls(self) -> list[URLPattern]:
        site: Any = self.admin_site  # type: ignore[attr-defined]
        name = f"wellos_jobs_{self._page}_views"
        return [path("views/", site.admin_view(self.views_view), name=name), *super().get_urls()]  # type: ignore[misc]

    @property
    def _page(self) -> str:
        return str(self.opts.model_name)  # type: ignore[attr-defined]

    def saved_views(self, request: HttpRequest) -> dict[str, Any]:
        """Return what the list shows of them: one query."""
        query = filter_query(request.GET)
        views = list(SavedView.objects.filter(page=self._page).filter(_mine_or_shared(request)))
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
        """Keep, rename, overwrite, share or delete a view, by ``action``."""
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
            messages.error(request, gettext("A view needs a name of at most 80 characters"))
            return filter_query(QueryDict(request.POST.get("query", "")))
        query = filter_query(QueryDict(form.cleaned_data["query"]))
        values = {"query": query, "shared": form.cleaned_data["shared"]}
        SavedView.objects.update_or_create(
            owner_id=request.user.pk,
            page=self._page,
            name=form.cleaned_data["name"],
            defaults=values,
        )
        messages.success(
            request, gettext("View “%(name)s” is kept") % {"name": form.cleaned_data["name"]}
        )
        return query

    def _change(self, request: HttpRequest) -> str:
        chosen = request.POST.get("view", "")
        mine = SavedView.objects.filter(page=self._page, owner=request.user.pk)
        view = mine.filter(pk=chosen).first() if chosen.isdigit() else None
        if view is None:
            raise Http404
        here = filter_query(QueryDict(request.POST.get("query", "")))
        match request.POST.get("action"):
            case "delete":
                view.delete()
                messages.success(
                    request, gettext("View “%(name)s” is deleted") % {"name": view.name}
                )
                return here
            case "rename":
                self._rename(request, view, mine)
                return here
            case "overwrite":
                view.query = here
                messages.success(
                    request,
                    gettext("View “%(name)s” has the present filters") % {"name": view.name},
                )
            case "share":
                view.shared = not view.shared
            case other:
                raise BadRequest(f"There is no such act on a view: {other!r}")
        view.save(update_fields=["query", "shared"])
        return view.query

    def _rename(self, request: HttpRequest, view: SavedView, mine: QuerySet[SavedView]) -> None:
        form = ViewForm(request.POST)
        if not form.is_valid():
            messages.error(request, gettext("A view needs a name of at most 80 characters"))
            return
        former, name = view.name, form.cleaned_data["name"]
        try:
            with transaction.atomic(using=mine.db):
                mine.filter(pk=view.pk).update(name=name)
        except IntegrityError:
            messages.error(request, gettext("You have a view “%(name)s” already") % {"name": name})
            return
        messages.success(
            request,
            gettext("View “%(former)s” is called “%(name)s” now")
            % {"former": former, "name": name},
        )


def filter_query(query: QueryDict) -> str:
    """Return the part of an address that chooses rows, in an order of its own."""
    kept = sorted(
        (key, value) for key, values in query.lists() if key not in PASSING for value in values
    )
    chosen = QueryDict(mutable=True)
    for key, value in kept:
        chosen.appendlist(key, value)
    return chosen.urlencode()


def _mine_or_shared(request: HttpRequest) -> Q:
    return Q(owner=request.user.pk) | Q(shared=True)
