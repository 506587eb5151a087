"""What a change list accepts from the query string: its own filters, clean texts, few words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import BadRequest, ValidationError
from django.db import DataError
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.translation import gettext as _

from ...operations import texts

if TYPE_CHECKING:  # only the stubs are generic
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = object

MAX_VALUE = 1_000
"""Maximum characters of a value in the query string."""
MAX_WORDS = 20
"""Maximum words of a search; each is a condition of its own."""
LARGEST_ID = 2**63 - 1

LOOKUPS = frozenset({"exact", "in", "isnull", "gt", "gte", "lt", "lte", "id__exact", "pk__exact"})
"""What the query string may append to a field that the list filters by."""


class SafeList(_ModelAdmin):
    """Mixin: refuses lookups that are not filters of the list, and invalid values.

    Otherwise ``?data__iban__startswith=DE1`` would show to users without ``view_payload``, letter
    by letter, what the data of a job are.
    """

    further_lookups: ClassVar[frozenset[str]] = frozenset()
    """Lookups that links of our pages use, besides those of ``list_filter``."""

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        """Allow the lookups of ``list_filter``, ``date_hierarchy`` and ``further_lookups``."""
        if lookup in self.further_lookups:
            return True
        if self.date_hierarchy and lookup.rpartition("__")[0] == self.date_hierarchy:
            return True

        filters: Iterable[Any] = (
            self.list_filter if request is None else self.get_list_filter(request)
        )
        return any(_belongs_to(lookup, chosen) for chosen in filters)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list; a query that the database refuses is a redirect with a message."""
        clean_query(request)
        try:
            return super().get_changelist_instance(request)
        except (DataError, OverflowError, RecursionError, ValueError) as error:
            text = _("The filters are invalid: %(error)s") % {"error": str(error)[:200]}
            messages.warning(request, text, fail_silently=True)
            raise IncorrectLookupParameters(str(error)) from error
        except IncorrectLookupParameters:
            messages.warning(request, _("The filters are invalid."), fail_silently=True)
            raise

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[Any, bool]:
        if len(search_term.split()) <= MAX_WORDS:
            return super().get_search_results(request, queryset, search_term)

        text = _("Search for at most %(n)s words") % {"n": MAX_WORDS}
        messages.warning(request, text, fail_silently=True)
        return queryset.none(), False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        is_used = request.POST.get("select_across") != "1"
        for key in request.POST.getlist(ACTION_CHECKBOX_NAME):
            if is_used and not self._is_key(key):
                raise BadRequest(f"{key[:50]!r} is not the id of a row")
        return super().changelist_view(request, extra_context)

    def _is_key(self, text: str) -> bool:
        try:
            key = self.opts.pk.to_python(text)
        except ValidationError:
            return False
        return not isinstance(key, int) or 0 <= key <= LARGEST_ID


def clean_query(request: HttpRequest) -> None:
    """Clean the query string of what databases refuse, and shorten long values."""
    if all(map(_is_clean, request.GET)) and all(
        map(_is_clean, (value for values in request.GET.lists() for value in values[1]))
    ):
        return

    query = QueryDict(mutable=True)
    for name, values in request.GET.lists():
        query.setlist(
            texts.cleaned(name, MAX_VALUE), [texts.cleaned(one, MAX_VALUE) for one in values]
        )
    request.GET = query  # type: ignore[assignment]  # the stubs expect an immutable one


def _is_clean(text: str) -> bool:
    return len(text) <= MAX_VALUE and texts.is_clean(text)


def _belongs_to(lookup: str, chosen: Any) -> bool:
    """Return whether a lookup belongs to an item of ``list_filter``."""
    if isinstance(chosen, type):
        names = [field.name for field in getattr(chosen, "fields", ())]
        parameter = str(getattr(chosen, "parameter_name", None) or "").removesuffix("__exact")
        return lookup in {parameter, f"{parameter}__exact", *names}

    if isinstance(chosen, str):
        path, _sep, rest = lookup.partition(f"{chosen}__")
        return lookup == chosen or (not path and rest in LOOKUPS)

    path = chosen[0]  # with a filter class of the project's choice
    return lookup == path or lookup.startswith(f"{path}__")
