"""The example's own tests: ``pytest example_project --ds example_project.settings``, with a Redis
of their own."""
