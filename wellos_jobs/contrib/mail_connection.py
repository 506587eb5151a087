"""The connection to the mail server. A worker reuses it from one email job to the next.

So a thousand emails, one job each, need one connection for each ``MAILS_PER_CONNECTION`` messages.
If the connection breaks, this module also decides what that means for the message: if the server
had not received it, it can safely be sent again; if the reply was lost, delivery is unknown.
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
"""Mail servers limit the number of messages for each connection."""
MAX_IDLE = 15.0
"""Seconds after which an idle connection is replaced: the server may be about to close it."""
SERVICE_CLOSING = 421
"""Reply of a server that is shutting down. It has not accepted the message."""


class MailServerUnavailable(ConnectionError):
    """The server is unreachable, rejects our login, or closed the connection before the message."""


class AnswerLost(ConnectionError):
    """The connection broke before the server confirmed the message: it may have been sent."""


class MailConnection:
    """Sends messages one by one over a connection that is opened on first use."""

    def __init__(self) -> None:
        self._backend: Any = None
        self._mails = 0
        self._used_at = 0.0

    def send(self, message: EmailMessage) -> None:
        """Send a message to one recipient.

        Raises:
            MailServerUnavailable: nothing was sent.
            AnswerLost: it may have been sent.
            smtplib.SMTPException: the server rejected it.
        """
        if self._mails >= MAILS_PER_CONNECTION or time.monotonic() - self._used_at > MAX_IDLE:
            self.close()

        is_new = self._backend is None
        try:
            self._send(message)
        except MailServerUnavailable:
            if is_new:
                raise
            self._send(message)  # the server had closed the idle connection: open a new one

    def close(self) -> None:
        """Close the connection with a QUIT."""
        backend, self._backend, self._mails = self._backend, None, 0
        if backend is not None:
            with contextlib.suppress(OSError):  # the server has closed it already
                backend.close()

    def _send(self, message: EmailMessage) -> None:
        backend = self._backend or self._open()

        try:
            backend.send_messages([message])
        except smtplib.SMTPServerDisconnected as error:
            self._abort()
            if _was_sent(error):
                raise AnswerLost(
                    f"The mail server closed the connection before its reply: {error}"
                ) from error
            raise MailServerUnavailable(
                f"The mail server closed the connection: {error}"
            ) from error
        except smtplib.SMTPException as error:
            if SERVICE_CLOSING not in codes_of(error):
                raise
            self._abort()
            raise MailServerUnavailable(f"The mail server is shutting down: {error}") from error
        except JobHandedBack as error:
            self._abort()
            if _was_sent(error):
                # Another worker will run the job again, so record that the message may be sent.
                raise AnswerLost("The worker was stopped before the mail server's reply") from error
            raise
        except BaseException:  # such as a timeout: the state of the SMTP dialog is unknown
            self._abort()
            raise

        self._mails += 1
        self._used_at = time.monotonic()

    def _open(self) -> Any:
        backend = mail.mailers.default if django.VERSION >= (6, 1) else mail.get_connection()
        try:
            is_connection = backend.open()
        except OSError as error:  # a rejected login, too: no message could be sent
            with contextlib.suppress(OSError):
                backend.close()
            raise MailServerUnavailable(f"The mail server is unreachable: {error}") from error

        if is_connection:
            self._backend = backend
        return backend

    def _abort(self) -> None:
        """Close the connection without a QUIT, which a hanging server would not answer."""
        backend, self._backend, self._mails = self._backend, None, 0
        client = getattr(backend, "connection", None)
        if client is not None:
            client.close()


class _PerThread(threading.local):
    """Holds the connection of each thread."""

    def __init__(self) -> None:
        self.connection = MailConnection()


_per_thread = _PerThread()


def send(message: EmailMessage) -> None:
    """Send a message. In a job, the thread's connection stays open afterwards.

    Raises: as ``MailConnection.send``.
    """
    if current_job(default=None) is not None:
        _per_thread.connection.send(message)
        return

    connection = MailConnection()
    try:
        connection.send(message)
    finally:
        connection.close()


def close() -> None:
    """Close this thread's connection."""
    _per_thread.connection.close()


def codes_of(error: smtplib.SMTPException) -> list[int]:
    """Return the reply codes of a rejection; empty for other errors."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return [code for code, _ in error.recipients.values()]
    return [error.smtp_code] if isinstance(error, smtplib.SMTPResponseException) else []


def _was_sent(error: BaseException) -> bool:
    """Return whether the error occurred in the DATA command, which transfers the message."""
    data = smtplib.SMTP.data.__code__
    return any(frame.f_code is data for frame, _ in traceback.walk_tb(error.__traceback__))


def _settings_changed(*, setting: str, **_: Any) -> None:
    if setting == "MAILERS" or setting.startswith("EMAIL_"):
        close()


setting_changed.connect(_settings_changed, dispatch_uid="wellos_jobs.contrib.mail_connection")
