"""A real SMTP server on loopback for tests: takes messages, or refuses with the code it was told."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Mapping
from typing import Self


class SmtpServer:
    """``refuse`` maps a recipient's address to the reply it gets, such as ``{"a@b.example": "550 no such user"}``."""

    def __init__(self, refuse: Mapping[str, str] | None = None) -> None:
        self.refuse = dict(refuse or {})
        self.received: list[bytes] = []
        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[socketserver.StreamRequestHandler]:
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self._say("220 ready")
                while line := self.rfile.readline().decode().strip():
                    verb = line[:4].upper()
                    if verb == "RCPT":
                        address = line.partition("<")[2].partition(">")[0]
                        self._say(outer.refuse.get(address, "250 ok"))
                    elif verb == "DATA":
                        self._say("354 go on")
                        outer.received.append(b"".join(iter(self.rfile.readline, b".\r\n")))
                        self._say("250 taken")
                    elif verb == "QUIT":
                        self._say("221 bye")
                        return
                    else:
                        self._say("250 ok")

            def _say(self, reply: str) -> None:
                self.wfile.write(f"{reply}\r\n".encode())

        return Handler
