"""Jobs and their failed attempts: lists, job page, actions.

Imports ``flows_and_batches`` and ``ui``.
"""
