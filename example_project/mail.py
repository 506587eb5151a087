"""An email backend that writes each message to a folder, as an ``.eml`` file for mail programs."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.core.mail.backends.base import BaseEmailBackend
from django.utils import timezone
from django.utils.text import slugify


class FolderBackend(BaseEmailBackend):
    """Writes to ``file_path``, or else to ``EMAIL_FILE_PATH``. Files are written atomically."""

    def __init__(
        self, *args: Any, file_path: str | os.PathLike[str] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.folder = Path(file_path if file_path is not None else settings.EMAIL_FILE_PATH)

    def send_messages(self, email_messages: Sequence[EmailMessage]) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        for message in email_messages:
            content = message.message().as_bytes()
            draft = self.folder / f".{uuid.uuid4().hex}"
            draft.write_bytes(content)
            draft.rename(self.folder / self._name(message))
        return len(email_messages)

    def _name(self, message: EmailMessage) -> str:
        when = timezone.now().strftime("%Y%m%d-%H%M%S-%f")
        return f"{when}-{slugify(message.subject)[:60]}-{uuid.uuid4().hex[:6]}.eml"
