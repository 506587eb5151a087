from django.apps import AppConfig


class OrganizationsConfig(AppConfig):
    name = "example_project.organizations"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import signals  # noqa: F401
