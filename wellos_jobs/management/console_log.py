"""Log to the console from commands, unless the project's LOGGING already has a handler."""

from __future__ import annotations

import logging


def configure(verbosity: int) -> None:
    """Add a console handler to this package's logger, unless it or the root logger has one.

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
