"""Organizations: the owners of all other data."""
