"""Helpers for tests, of this package and of projects. Nothing else of the package imports them."""
