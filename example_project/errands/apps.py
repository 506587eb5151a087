from django.apps import AppConfig


class ErrandsConfig(AppConfig):
    name = "example_project.errands"
