from django.apps import AppConfig


class InvoicesConfig(AppConfig):
    name = "example_project.invoices"
    default_auto_field = "django.db.models.BigAutoField"
