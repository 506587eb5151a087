"""Overview, queues, workers, limits and statistics."""
