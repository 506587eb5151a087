"""Jobs and their failed attempts: lists, job page, actions. Imports ``groups`` and ``ui``."""
