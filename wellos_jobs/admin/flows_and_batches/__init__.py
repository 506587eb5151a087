"""Batches, flows and the graph of a flow. Imports only ``ui``."""
