"""Shows the demo's accounts on the login page."""

from django import template

from example_project.demo import accounts

register = template.Library()


@register.simple_tag
def demo_accounts() -> list[accounts.Account]:
    """Return the accounts to show; none unless DEBUG is on."""
    return accounts.shown()
