"""Tells people: mails about failures, alerts about a backlog."""
