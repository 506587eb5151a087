"""The connection to the mail server. A worker keeps it open from one mail job to the next.

So a thousand mails, a job each, go in chunks of ``MAILS_PER_CONNECTION`` over one connection, and
each still has a row, attempts and an end of its own. What a broken connection means for the message
is decided here, too: a message that was not handed over may safely be sent again; of one whose
answer was lost nobody knows.
"""

from __future__ import annotations

import contextlib
import smtplib
import threading
import time
import traceback
from typing import Any

import django
from django.core import mail
from django.core.mail import EmailMessage
from django.core.signals import setting_changed

from .. import current_job
from ..errors import JobHandedBack

MAILS_PER_CONNECTION = 100
"""Mail servers limit how many messages they take over one connection."""
IDLE = 15.0
"""Seconds after which a connection is not used again: the server may be about to end it."""
SERVICE_CLOSES = 421
"""What a server answers that is shutting down. It has not taken the message."""


class MailServerUnavailable(ConnectionError):
    """The mail server cannot be reached, does not let us in, or ended the connection before it had the message."""


class AnswerLost(ConnectionError):
    """The connection broke after the message was given to the server and before its answer: it may have been taken."""


class MailConnection:
    """Sends messages one by one over a connection that is opened when it is needed."""

    def __init__(self) -> None:
        self._backend: Any = None
        self._mails = 0
        self._used_at = 0.0

    def send(self, message: EmailMessage) -> None:
        """Send a message to one recipient.

        Raises:
            MailServerUnavailable: nothing was sent.
            AnswerLost: it may have been sent.
            smtplib.SMTPException: the server's refusal.
        """
        if self._mails >= MAILS_PER_CONNECTION or time.monotonic() - self._used_at > IDLE:
            self.close()
        is_fresh = self._backend is None
        try:
            self._hand_over(message)
        except MailServerUnavailable:
            if is_fresh:
                raise
            self._hand_over(message)  # the server had ended the kept connection: a new one may do

    def close(self) -> None:
        """Take leave of the server."""
        backend, self._backend, self._mails = self._backend, None, 0
        if backend is not None:
            with contextlib.suppress(OSError):  # it is gone already, which is as well
                backend.close()

    def _hand_over(self, message: EmailMessage) -> None:
        backend = self._backend or self._open()
        try:
            backend.send_messages([message])
        except smtplib.SMTPServerDisconnected as error:
            self._drop()
            if _was_given_the_message(error):
                raise AnswerLost(
                    f"The mail server ended the connection without an answer: {error}"
                ) from error
            raise MailServerUnavailable(f"The mail server ended the connection: {error}") from error
        except smtplib.SMTPException as error:
            if SERVICE_CLOSES in codes_of(error):
                self._drop()
                raise MailServerUnavailable(f"The mail server is closing: {error}") from error
            raise
        except (
            JobHandedBack
        ) as error:  # the worker stops, and another one runs the job again without a trace of this
            self._drop()
            if _was_given_the_message(error):
                raise AnswerLost(
                    "The worker was stopped before the mail server had answered"
                ) from error
            raise
        except BaseException:  # a timeout, say: nobody knows where in the conversation it struck
            self._drop()
            raise
        self._mails += 1
        self._used_at = time.monotonic()

    def _open(self) -> Any:
        backend = mail.mailers.default if django.VERSION >= (6, 1) else mail.get_connection()
        try:
            is_connection = backend.open()
        except (
            OSError
        ) as error:  # also a password that it does not take: that is not the message's fault
            with contextlib.suppress(OSError):
                backend.close()
            raise MailServerUnavailable(f"The mail server cannot be reached: {error}") from error
        if is_connection:
            self._backend = backend
        return backend

    def _drop(self) -> None:
        """Cut the connection without a word: a server that hangs would not answer one."""
        backend, self._backend, self._mails = self._backend, None, 0
        client = getattr(backend, "connection", None)
        if client is not None:
            client.close()


class _Kept(threading.local):
    """The connection that each thread keeps."""

    def __init__(self) -> None:
        self.connection = MailConnection()


_kept = _Kept()


def send(message: EmailMessage) -> None:
    """Send a message: in a job over the worker's connection, elsewhere over one that is closed at once.

    Raises: as ``MailConnection.send``.
    """
    if current_job(default=None) is not None:
        _kept.connection.send(message)
        return
    connection = MailConnection()
    try:
        connection.send(message)
    finally:
        connection.close()


def close() -> None:
    """Close the connection that this thread keeps."""
    _kept.connection.close()


def codes_of(error: smtplib.SMTPException) -> list[int]:
    """Return the codes of a server's refusal; none if the error is something else."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return [code for code, _ in error.recipients.values()]
    return [error.smtp_code] if isinstance(error, smtplib.SMTPResponseException) else []


def _was_given_the_message(error: BaseException) -> bool:
    """Tell whether the connection broke in SMTP's DATA, the one command after which the server has the message."""
    data = smtplib.SMTP.data.__code__
    return any(frame.f_code is data for frame, _ in traceback.walk_tb(error.__traceback__))


def _settings_changed(*, setting: str, **_: Any) -> None:
    if setting == "MAILERS" or setting.startswith("EMAIL_"):
        close()


setting_changed.connect(_settings_changed, dispatch_uid="wellos_jobs.contrib.mail_connection")
