"""Project, which is done for a customer, and TimeEntry, a piece of work on one."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models


class Project(models.Model):
    """Work for one customer of an organization, at one rate an hour."""

    organization = models.ForeignKey("organizations.Organization", on_delete=models.CASCADE, related_name="projects")
    name = models.CharField(max_length=120)
    customer_name = models.CharField(max_length=120)
    customer_address = models.TextField(blank=True)
    hourly_rate = models.DecimalField(max_digits=10, decimal_places=2, validators=[MinValueValidator(Decimal(0))])

    class Meta:
        ordering = ["organization", "name"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "name"], name="timesheets_project_name"),
        ]

    def __str__(self) -> str:
        return f"{self.name} for {self.customer_name}"


class TimeEntry(models.Model):
    """Minutes worked on one day. ``external_id`` is its key in the system it was imported from."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="entries")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="entries"
    )
    description = models.CharField(max_length=200)
    day = models.DateField()
    minutes = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    billable = models.BooleanField(default=True)
    external_id = models.CharField(max_length=64, null=True, blank=True)  # noqa: DJ001  # null: not imported
    invoice_line = models.ForeignKey(
        "invoices.InvoiceLine", on_delete=models.SET_NULL, null=True, blank=True, related_name="entries"
    )

    class Meta:
        ordering = ["day", "pk"]
        verbose_name_plural = "time entries"
        constraints = [
            models.UniqueConstraint(fields=["project", "external_id"], name="timesheets_entry_external"),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.description}"
