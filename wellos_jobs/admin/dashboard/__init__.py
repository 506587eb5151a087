"""Overview of queues, workers, limits and statistics. Imports ``groups`` and ``ui``."""
