"""The audit log, its export, and bulk operations with their progress."""
