"""SavedView: a user's named filter of an admin list."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from .. import conf
from .fields import FreeChar
from .rows import Row
from .users import UserKey, delete_with_user


class SavedView(Row):
    """A named filter of one admin list, private or shared with everyone who may view the list."""

    owner = UserKey(conf.user_model(), delete_with_user, verbose_name=_("owner"))
    page = models.CharField(_("page"), max_length=30)
    name = FreeChar(_("name"), max_length=80)
    query = models.TextField(_("query string"), blank=True, default="")
    shared = models.BooleanField(_("shared"), default=False)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("saved view")
        verbose_name_plural = _("saved views")
        ordering: ClassVar[list[str]] = ["page", "name", "pk"]
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["owner", "page", "name"], name="wellos_view_name"),
        ]

    def __str__(self) -> str:
        return self.name
