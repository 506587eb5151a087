"""AuditEntry: who changed what, when, from where and why. Append-only."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from ..states import AuditAction
from .fields import FreeChar, FreeText
from .rows import Row
from .users import user_key


class AuditEntry(Row):
    """One operator action on a job, queue or dead letter, or a job's final failure (no actor)."""

    at = models.DateTimeField(_("at"))
    action = models.CharField(_("action"), max_length=40)
    actor = user_key(_("actor"))
    actor_name = FreeChar(_("actor's name"), max_length=150, blank=True, default="")
    address = models.CharField(_("address"), max_length=64, blank=True, default="")
    target_type = models.CharField(_("target type"), max_length=20)
    target_id = FreeChar(_("target"), max_length=180)
    reason = FreeText(_("reason"), blank=True, default="")
    detail = models.JSONField(_("detail"), default=dict, blank=True)

    class Meta:
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit entries")
        ordering: ClassVar[list[str]] = ["-at", "-pk"]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["target_type", "target_id"], name="wellos_audit_target"),
            models.Index(fields=["-at"], name="wellos_audit_at"),
        ]
        permissions = [
            ("export_auditentry", _("Can export the audit log")),
            ("erase_person", _("Can erase a person")),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.target_type} {self.target_id}"

    @property
    def action_label(self) -> str:
        """Return the translated action; an unknown one as it is stored."""
        return str(dict(AuditAction.choices).get(self.action, self.action))
