"""Dead letters: by fault, as a list, and one by one. Imports ``jobs`` and ``ui``."""
