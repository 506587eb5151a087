from django.contrib import admin

from .jobs import generate_invoice
from .models import Invoice, InvoiceLine


class InvoiceLineInline(admin.TabularInline):
    model = InvoiceLine
    extra = 0


@admin.register(Invoice)
class InvoiceAdmin(admin.ModelAdmin):
    list_display = ["number", "organization", "customer_name", "status", "issued_on", "due_on", "document"]
    list_filter = ["status", "organization"]
    list_select_related = ["organization"]
    search_fields = ["number", "customer_name"]
    readonly_fields = ["document"]
    inlines = [InvoiceLineInline]
    actions = ["make_documents"]

    @admin.action(description="Make the PDFs of the selected invoices", permissions=["change"])
    def make_documents(self, request, invoices) -> None:
        for invoice in invoices:
            generate_invoice.using(organization=invoice.organization_id, requested_by=request.user).enqueue(
                invoice_id=str(invoice.pk)
            )
        self.message_user(request, f"{len(invoices)} PDFs are being made.")
