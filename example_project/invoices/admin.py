from django.contrib import admin, messages
from django.core.exceptions import ValidationError

from .issuing import issue
from .jobs import generate_invoice
from .models import Invoice, InvoiceLine


class InvoiceLineInline(admin.TabularInline):
    model = InvoiceLine
    extra = 0


@admin.register(Invoice)
class InvoiceAdmin(admin.ModelAdmin):
    list_display = [
        "number",
        "organization",
        "customer_name",
        "status",
        "issued_on",
        "due_on",
        "document",
    ]
    list_filter = ["status", "organization"]
    list_select_related = ["organization"]
    search_fields = ["number", "customer_name"]
    readonly_fields = ["status", "document"]  # issuing is an act, not a field
    inlines = [InvoiceLineInline]
    actions = ["issue_invoices", "make_documents"]

    @admin.action(description="Issue the selected invoices", permissions=["change"])
    def issue_invoices(self, request, invoices) -> None:
        for invoice in invoices:
            try:
                issue(invoice, requested_by=request.user)
            except ValidationError as error:
                self.message_user(request, error.messages[0], messages.ERROR)
            else:
                self.message_user(request, f"{invoice.number} is issued: its PDF is being made.")

    @admin.action(description="Make the PDFs of the selected invoices", permissions=["change"])
    def make_documents(self, request, invoices) -> None:
        for invoice in invoices:
            generate_invoice.using(
                organization=invoice.organization_id, requested_by=request.user
            ).enqueue(invoice_id=str(invoice.pk))
        self.message_user(request, f"{len(invoices)} PDFs are being made.")
