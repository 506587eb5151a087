"""Invoice and its lines. They copy names and rates, so later changes do not affect them."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models

CENT = Decimal("0.01")


def cents(amount: Decimal) -> Decimal:
    """Round an amount of money, half a cent up."""
    return amount.quantize(CENT, rounding=ROUND_HALF_UP)


class IncompleteInvoice(ValidationError):
    """The invoice has no customer or no lines. Retrying a job does not help."""

    def __str__(self) -> str:
        return " ".join(self.messages)


class InvoiceQuerySet(models.QuerySet["Invoice"]):
    def open(self) -> InvoiceQuerySet:
        """Return the issued invoices that are not paid."""
        return self.filter(status=Invoice.Status.ISSUED)


class Invoice(models.Model):
    """``document`` is the name of the PDF in the storage, or '' before a job has made it."""

    class Status(models.TextChoices):
        DRAFT = "draft", "draft"
        ISSUED = "issued", "issued"
        PAID = "paid", "paid"

    organization = models.ForeignKey(
        "organizations.Organization", on_delete=models.PROTECT, related_name="invoices"
    )
    project = models.ForeignKey(
        "timesheets.Project",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="invoices",
    )
    number = models.CharField(max_length=32)
    customer_name = models.CharField(max_length=120)
    customer_address = models.TextField(blank=True)
    customer_email = models.EmailField(blank=True)
    status = models.CharField(max_length=6, choices=Status.choices, default=Status.DRAFT)
    issued_on = models.DateField()
    due_on = models.DateField()
    currency = models.CharField(max_length=3, default="EUR")
    tax_rate = models.DecimalField(
        max_digits=5,
        decimal_places=2,
        default=Decimal(0),
        help_text="percent",
        validators=[MinValueValidator(0)],
    )
    document = models.CharField(max_length=200, blank=True, editable=False)

    objects = InvoiceQuerySet.as_manager()

    class Meta:
        ordering = ["organization", "number"]
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "number"], name="invoices_invoice_number"
            ),
        ]

    def __str__(self) -> str:
        return self.number

    @property
    def subtotal(self) -> Decimal:
        return sum((line.amount for line in self.lines.all()), Decimal(0))

    @property
    def tax(self) -> Decimal:
        return cents(self.subtotal * self.tax_rate / 100)

    @property
    def total(self) -> Decimal:
        return self.subtotal + self.tax

    def check_complete(self) -> None:
        """Raise IncompleteInvoice unless there are a customer and lines."""
        if not self.customer_name.strip():
            raise IncompleteInvoice(
                f"Invoice {self.number} has no customer: enter one, then make the PDF again"
            )
        if not self.lines.exists():
            raise IncompleteInvoice(
                f"Invoice {self.number} has no lines: add some, then make the PDF again"
            )


class InvoiceLine(models.Model):
    """Hours at a rate."""

    invoice = models.ForeignKey(Invoice, on_delete=models.CASCADE, related_name="lines")
    position = models.PositiveSmallIntegerField()
    description = models.CharField(max_length=200)
    hours = models.DecimalField(max_digits=8, decimal_places=2)
    rate = models.DecimalField(max_digits=10, decimal_places=2)

    class Meta:
        ordering = ["invoice", "position"]
        constraints = [
            models.UniqueConstraint(fields=["invoice", "position"], name="invoices_line_position"),
        ]

    def __str__(self) -> str:
        return self.description

    @property
    def amount(self) -> Decimal:
        return cents(self.hours * self.rate)
