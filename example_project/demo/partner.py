"""A simulated web service of a partner: unavailable at first, slow, and broken on demand."""

from __future__ import annotations

import json
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .books import Books, Mood

PAGES = 12
ENTRIES_A_PAGE = 5
PAGE_SECONDS = 0.2
HELD_PAGE = 4
"""The page of entries that is held back until ``let_pages_go``, for ``HELD_SECONDS`` at most."""
HELD_SECONDS = 8.0
RETRY_AFTER = 1
SLOW_SECONDS = 1.5
ASKED_SECONDS = 0.1


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect: the demo kills one during a request."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Bank:
    """Responds slowly whether an invoice is paid, and counts concurrent requests."""

    def __init__(self) -> None:
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    def ask(self) -> bool:
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
        time.sleep(ASKED_SECONDS)
        with self._lock:
            self._now -= 1
        return False


class Partner:
    """``POST /invoices`` responds 503, then 429 with ``Retry-After``, then 200. ``POST /books`` is
    handled by ``books``, ``GET /payments`` by ``bank``. ``GET /time-entries`` is slow.
    """

    def __init__(self) -> None:
        self.invoices = Books([Mood.AWAY, Mood.BUSY])
        self.books = Books()
        self.bank = Bank()
        self.pages: list[int] = []
        self._pages_may_go = threading.Event()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="partner", daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def start(self) -> None:
        self._thread.start()

    def let_pages_go(self) -> None:
        """Hold no page back any more."""
        self._pages_may_go.set()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def page_of_entries(self, page: int) -> dict[str, Any]:
        """Take a while, then return a page of time entries."""
        self.pages.append(page)
        time.sleep(PAGE_SECONDS)
        if page == HELD_PAGE:
            self._pages_may_go.wait(HELD_SECONDS)
        return {"pages": PAGES, "entries": _entries(page)}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        partner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                books = {"/invoices": partner.invoices, "/books": partner.books}[self.path]
                mood = books.post(self.headers.get("Idempotency-Key", ""), json.loads(body))
                if mood is Mood.HANGS_UP:
                    self.close_connection = True
                    return
                if mood is Mood.SLOW:
                    time.sleep(SLOW_SECONDS)
                headers = {"Retry-After": str(RETRY_AFTER)} if mood is Mood.BUSY else {}
                self._answer(mood.status, {"accepted": mood.status == HTTPStatus.OK}, headers)

            def do_GET(self) -> None:
                address = urlsplit(self.path)
                if address.path == "/payments":
                    self._answer(HTTPStatus.OK, {"paid": partner.bank.ask()}, {})
                    return
                query = parse_qs(address.query)
                page = int(query.get("page", ["1"])[0])
                self._answer(HTTPStatus.OK, partner.page_of_entries(page), {})

            def _answer(self, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Do not log to the demo's terminal."""

        return Handler


def _entries(page: int) -> list[dict[str, Any]]:
    numbers = range((page - 1) * ENTRIES_A_PAGE, page * ENTRIES_A_PAGE)
    return [
        {
            "id": f"partner-{number}",
            "description": "Support",
            "day": f"2026-11-{1 + number % 20:02}",
            "minutes": 30,
        }
        for number in numbers
    ]
