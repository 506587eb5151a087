from django.contrib import admin

from .models import Project, TimeEntry


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
