"""The invoice as a PDF."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from wellos_jobs.contrib import pdf

from .models import Invoice


def render(invoice: Invoice) -> bytes:
    """Return the PDF of an invoice."""
    spacer = pdf.reportlab("platypus").Spacer
    organization = invoice.organization
    parts = [
        _header(invoice),
        spacer(1, 22),
        pdf.paragraph("Bill to", "small"),
        pdf.paragraph(invoice.customer_name, "strong"),
        pdf.paragraph(invoice.customer_address),
        spacer(1, 18),
        _lines(invoice),
        spacer(1, 8),
        _totals(invoice),
        spacer(1, 24),
        pdf.paragraph(
            f"Please pay {_money(invoice.total, invoice)} by {_day(invoice.due_on)}.", "text"
        ),
    ]
    footer = " · ".join(part for part in (organization.name, organization.email) if part)
    return pdf.document(
        parts, title=f"Invoice {invoice.number}", author=organization.name, footer=footer
    )


def _header(invoice: Invoice) -> Any:
    organization = invoice.organization
    left = [
        pdf.paragraph("Invoice", "title"),
        pdf.paragraph(organization.name, "strong"),
        pdf.paragraph(organization.address),
    ]
    facts = [
        ("Number", invoice.number),
        ("Issued", _day(invoice.issued_on)),
        ("Due", _day(invoice.due_on)),
    ]
    right = [
        [pdf.paragraph(name, "small"), pdf.paragraph(value, "strong-right")]
        for name, value in facts
    ]
    table = pdf.reportlab("platypus").Table
    return table(
        [[left, table(right, colWidths=[60, 120])]],
        colWidths=["*", 180],
        style=[
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("RIGHTPADDING", (0, 0), (-1, -1), 0),
        ],
    )


def _lines(invoice: Invoice) -> Any:
    rows = [
        [
            line.position,
            line.description,
            line.hours,
            _money(line.rate, invoice),
            _money(line.amount, invoice),
        ]
        for line in invoice.lines.all()
    ]
    headings = ["#", "Description", "Hours", "Rate", "Amount"]
    return pdf.table(headings, rows, frozenset({2, 3, 4}), widths=[0.5, 5, 1.2, 1.9, 1.9])


def _totals(invoice: Invoice) -> Any:
    rows = [
        [
            pdf.paragraph("Subtotal", "right"),
            pdf.paragraph(_money(invoice.subtotal, invoice), "right"),
        ],
        [
            pdf.paragraph(f"Tax {invoice.tax_rate:f} %", "right"),
            pdf.paragraph(_money(invoice.tax, invoice), "right"),
        ],
        [
            pdf.paragraph("Total", "strong-right"),
            pdf.paragraph(_money(invoice.total, invoice), "strong-right"),
        ],
    ]
    ink = pdf.reportlab("lib.colors").HexColor(pdf.ACCENT)
    style = [("LINEABOVE", (0, -1), (-1, -1), 1, ink), ("TOPPADDING", (0, 0), (-1, -1), 2)]
    return pdf.reportlab("platypus").Table(rows, colWidths=[110, 110], hAlign="RIGHT", style=style)


def _money(amount: Decimal, invoice: Invoice) -> str:
    return f"{amount:,.2f} {invoice.currency}"


def _day(value: Any) -> str:
    return f"{value:%d %B %Y}"
