"""Invoices: made from time worked, and their PDFs."""
