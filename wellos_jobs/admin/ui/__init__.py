"""What the pages share: base classes, action pages, filters, paginator, charts, formatting. Imports no page."""
