"""Mail to ADMINS about the jobs themselves, from the housekeeping: a mail server that fails costs a line in the log."""

from __future__ import annotations

import logging
from smtplib import SMTPException

from django.core.mail import mail_admins

logger = logging.getLogger("wellos_jobs")


def tell_admins(subject: str, text: str) -> None:
    """Mail ADMINS; what hinders that is logged, and nothing else."""
    try:
        mail_admins(subject, text)
    except (SMTPException, OSError) as error:
        logger.error("ADMINS could not be told %r: %s", subject, error)
