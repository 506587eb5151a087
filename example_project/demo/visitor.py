"""An HTTP client that uses the site like a browser."""

from __future__ import annotations

import json
from http.cookiejar import CookieJar
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, build_opener

SECONDS = 10.0


class Visitor:
    """Keeps cookies, so that it stays logged in."""

    def __init__(self, site: str, username: str, password: str) -> None:
        self.site = site
        self._username = username
        self._password = password
        self._cookies = CookieJar()
        self._opener = build_opener(HTTPCookieProcessor(self._cookies))

    def can_reach_site(self) -> bool:
        """Return whether the site responds yet."""
        try:
            self.get("/login")
        except URLError as error:
            if isinstance(error.reason, ConnectionRefusedError):
                return False
            raise
        return True

    def log_in(self) -> None:
        self.get("/login")
        self.post("/login", username=self._username, password=self._password)

    def make_pdf(self, organization: str, invoice_id: int) -> None:
        """Press "Make PDF" on the page of an invoice."""
        page = f"/o/{organization}/invoices/{invoice_id}/"
        self.get(page)
        self.post(f"{page}pdf")

    def status(self, job_id: object) -> dict[str, Any]:
        """Return the JSON of a job's status."""
        answer: dict[str, Any] = json.loads(self.get(f"/jobs/{job_id}/status"))
        return answer

    def get(self, path: str) -> bytes:
        with self._opener.open(self.site + path, timeout=SECONDS) as response:
            return bytes(response.read())

    def post(self, path: str, **form: str) -> bytes:
        token = next(cookie.value for cookie in self._cookies if cookie.name == "csrftoken")
        data = urlencode({**form, "csrfmiddlewaretoken": token}).encode()
        with self._opener.open(self.site + path, data=data, timeout=SECONDS) as response:
            return bytes(response.read())
