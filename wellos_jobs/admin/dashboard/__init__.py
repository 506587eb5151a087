"""Overview of queues, workers, limits and statistics. Imports ``flows_and_batches`` and ``ui``."""
