"""The console of commands: the log, unless the project's LOGGING has a handler; open streams."""

from __future__ import annotations

import logging
import os
import sys


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


def open_standard_streams() -> None:
    """Connect closed standard streams to the null device.

    Else the next socket gets the number of stdout, and programs that jobs start print into it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number, so this one
            os.set_inheritable(opened, True)

    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for the process's lifetime
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
