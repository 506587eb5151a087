"""The tests of the example: ``pytest example_project --ds example_project.settings``."""
