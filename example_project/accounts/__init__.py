"""Accounts: users, their trials, their access tokens."""
