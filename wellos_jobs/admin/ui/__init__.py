"""Shared by all pages: base classes, action pages, filters, charts. Imports no sub-package."""
