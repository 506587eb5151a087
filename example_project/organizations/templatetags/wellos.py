"""How things are written on the site."""

from django import template
from django.utils.text import capfirst

register = template.Library()


@register.filter
def in_words(name: str) -> str:
    """Write a job's name for people: ``generate-report`` as ``Generate report``."""
    return capfirst(name.replace("-", " "))


@register.filter
def hours(minutes: int) -> str:
    """Write minutes as hours: ``90`` as ``1.50``."""
    return f"{minutes / 60:,.2f}"
