"""How things are written on the site."""

from django import template
from django.utils.text import capfirst

from wellos_jobs.contrib import report_types

register = template.Library()


@register.filter
def in_words(name: str) -> str:
    """Write a job's name for people: ``generate-report`` as ``Generate report``."""
    return capfirst(name.replace("-", " "))


@register.filter
def hours(minutes: int) -> str:
    """Write minutes as hours: ``90`` as ``1.50``."""
    return f"{minutes / 60:,.2f}"


@register.filter
def thousands(number: int) -> str:
    """Return a number with its thousands apart: ``10,000``."""
    return f"{number:,}"


@register.filter
def report_title(name: str) -> str:
    """Return what a report is called where one asks for it; of one that is registered no more, its
    name in words."""
    titles = {kind.name: kind.title for kind in report_types.for_organizations()}
    return titles.get(name) or in_words(name or "report")
