"""Template filters of the site."""

from django import template
from django.utils.text import capfirst

from wellos_jobs.contrib import report_types

register = template.Library()


@register.filter
def in_words(name: str) -> str:
    """Format a job's name: ``generate-report`` becomes ``Generate report``."""
    return capfirst(name.replace("-", " "))


@register.filter
def hours(minutes: int) -> str:
    """Format minutes as hours: ``90`` becomes ``1.50``."""
    return f"{minutes / 60:,.2f}"


@register.filter
def thousands(number: int) -> str:
    """Format a number with thousands separators: ``10,000``."""
    return f"{number:,}"


@register.filter
def report_title(name: str) -> str:
    """Return the title of a report type, or its name in words if it is not registered any more."""
    titles = {kind.name: kind.title for kind in report_types.for_organizations()}
    return titles.get(name) or in_words(name or "report")
