"""Flows and batches, with the graph of a flow."""
