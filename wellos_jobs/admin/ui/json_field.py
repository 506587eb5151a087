"""A form field for JSON that refuses what Python can read but no database or job can store."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput
from django.utils.translation import gettext_lazy as _

from ...payload.values import MAX_LEVELS, storable

MAX_CHARACTERS = 1_000_000


class BoundedJSONField(forms.JSONField):
    """Refuses texts that are too long or too deep, NUL, lone surrogates, NaN and Infinity."""

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str) and len(value) > MAX_CHARACTERS:
            text = _("Enter at most %(n)s characters.")
            raise ValidationError(text, params={"n": f"{MAX_CHARACTERS:,}"})

        try:
            parsed = super().to_python(value)
        except RecursionError as error:
            raise _too_deep() from error
        except ValueError as error:  # such as a number of 5,000 digits
            raise ValidationError(str(error)) from error

        if _levels(parsed) > MAX_LEVELS + 1:
            raise _too_deep()
        if storable(parsed) != parsed:
            raise ValidationError(
                _("The JSON contains NaN, Infinity, a NUL character or a lone surrogate.")
            )
        return parsed

    def bound_data(self, data: Any, initial: Any) -> Any:
        """Return the text as it was submitted if it is invalid."""
        try:
            self.to_python(data)
        except ValidationError:
            return InvalidJSONInput(data)
        return super().bound_data(data, initial)


def _too_deep() -> ValidationError:
    return ValidationError(
        _("The JSON is nested deeper than %(n)s levels."), params={"n": MAX_LEVELS}
    )


def _levels(value: Any) -> int:
    """Return how deep lists and objects are nested; no recursion."""
    level, row = 0, [value]
    while row := [one for one in row if isinstance(one, (dict, list))]:
        level += 1
        if level > MAX_LEVELS + 1:
            break
        row = [inner for one in row for inner in (one.values() if isinstance(one, dict) else one)]
    return level
