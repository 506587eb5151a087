from django.contrib import admin

from .models import CsvImport, Project, TimeEntry


@admin.register(Project)
class ProjectAdmin(admin.ModelAdmin):
    list_display = ["name", "organization", "customer_name", "hourly_rate"]
    list_filter = ["organization"]
    list_select_related = ["organization"]


@admin.register(TimeEntry)
class TimeEntryAdmin(admin.ModelAdmin):
    list_display = ["day", "project", "description", "minutes", "billable"]
    list_filter = ["billable", "project__organization"]
    list_select_related = ["project"]
    date_hierarchy = "day"
    raw_id_fields = ["invoice_line"]


@admin.register(CsvImport)
class CsvImportAdmin(admin.ModelAdmin):
    list_display = [
        "file_name",
        "organization",
        "uploaded_by",
        "lines",
        "imported",
        "known",
        "rejected",
        "finished_at",
    ]
    list_filter = ["organization"]
    list_select_related = ["organization", "uploaded_by"]

    def has_add_permission(self, request) -> bool:
        return False  # made by an upload

    def has_change_permission(self, request, obj=None) -> bool:
        return False
