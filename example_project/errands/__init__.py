"""Small jobs: four urgencies in one queue, calls that are limited, items of a batch."""
