"""Small jobs: four priorities in one queue, rate-limited calls, items of a batch."""
