"""What the helpers raise themselves."""

from __future__ import annotations


class JobFailed(Exception):
    """A job has raised an error of the database, which is the cause of this one.

    Raised at the end of an ``atomic`` block, Django would take the error itself for one of that
    block's own.
    """


class NeverDone(AssertionError):
    """Draining does not come to an end: jobs go on enqueueing, or snooze without a pause."""
