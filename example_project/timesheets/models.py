"""Project, TimeEntry, and CsvImport with its results."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone


class Project(models.Model):
    """Work for a customer of an organization, at an hourly rate."""

    organization = models.ForeignKey(
        "organizations.Organization", on_delete=models.CASCADE, related_name="projects"
    )
    name = models.CharField(max_length=120)
    customer_name = models.CharField(max_length=120)
    customer_address = models.TextField(blank=True)
    customer_email = models.EmailField(blank=True)
    hourly_rate = models.DecimalField(
        max_digits=10, decimal_places=2, validators=[MinValueValidator(Decimal(0))]
    )

    class Meta:
        ordering = ["organization", "name"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "name"], name="timesheets_project_name"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} for {self.customer_name}"


class TimeEntry(models.Model):
    """Minutes worked on a day. ``external_id`` is the key in the system it was imported from."""

    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="entries")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="entries",
    )
    description = models.CharField(max_length=200)
    day = models.DateField()
    minutes = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    billable = models.BooleanField(default=True)
    external_id = models.CharField(max_length=64, null=True, blank=True)  # noqa: DJ001  # null: not imported
    invoice_line = models.ForeignKey(
        "invoices.InvoiceLine",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="entries",
    )

    class Meta:
        ordering = ["day", "pk"]
        verbose_name_plural = "time entries"
        constraints = [
            models.UniqueConstraint(
                fields=["project", "external_id"], name="timesheets_entry_external"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.day} {self.description}"


class CsvImport(models.Model):
    """An uploaded file of time entries, imported by a batch of jobs with a chunk of lines each.

    The counters are written at the end of the batch. Before that, ``so_far`` adds up the chunks.
    """

    organization = models.ForeignKey(
        "organizations.Organization", on_delete=models.CASCADE, related_name="csv_imports"
    )
    uploaded_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    file_name = models.CharField(max_length=120)
    stored_as = models.CharField(max_length=200)
    batch_id = models.UUIDField(null=True, editable=False)
    lines = models.PositiveIntegerField()
    imported = models.PositiveIntegerField(default=0)
    known = models.PositiveIntegerField(default=0)
    rejected = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return self.file_name

    @property
    def left_out(self) -> int:
        """Number of lines that were not processed, because their job was canceled or failed."""
        return self.lines - self.imported - self.known - self.rejected

    def so_far(self) -> dict[str, int]:
        """Add up the results of the finished chunks."""
        names = ("imported", "known", "rejected")
        sums = self.chunks.aggregate(**{name: models.Sum(name, default=0) for name in names})
        return {name: int(value) for name, value in sums.items()}


class ImportedChunk(models.Model):
    """The result of a chunk of lines.

    It is written in the transaction that stores the entries, so that a repeated run finds it and
    does nothing.
    """

    csv_import = models.ForeignKey(CsvImport, on_delete=models.CASCADE, related_name="chunks")
    start = models.PositiveIntegerField()
    imported = models.PositiveIntegerField()
    known = models.PositiveIntegerField()
    rejected = models.PositiveIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["csv_import", "start"], name="timesheets_chunk_once"),
        ]

    def __str__(self) -> str:
        return f"{self.csv_import} from {self.start}"


class RejectedLine(models.Model):
    """A line that could not be imported, with the reason."""

    csv_import = models.ForeignKey(
        CsvImport, on_delete=models.CASCADE, related_name="rejected_lines"
    )
    number = models.PositiveIntegerField()
    fault = models.CharField(max_length=300)

    class Meta:
        ordering = ["csv_import", "number"]

    def __str__(self) -> str:
        return f"line {self.number}: {self.fault}"
