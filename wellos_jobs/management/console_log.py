"""Where the log of a command goes when the project's LOGGING has not said so."""

from __future__ import annotations

import logging


def to_terminal(verbosity: int) -> None:
    """Give the log of this package a place on the terminal, unless a handler sees it: its own, or the root's.

    ``verbosity`` is Django's: 0 warnings, 1 info, 2 debug.
    """
    logger = logging.getLogger("wellos_jobs")
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)-7s %(process)d %(message)s")
        )
        logger.addHandler(handler)
        logger.propagate = False
    if logger.level == logging.NOTSET:
        logger.setLevel({0: logging.WARNING, 1: logging.INFO}.get(verbosity, logging.DEBUG))
