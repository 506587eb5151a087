from django.apps import AppConfig


class TimesheetsConfig(AppConfig):
    name = "example_project.timesheets"
    default_auto_field = "django.db.models.BigAutoField"
