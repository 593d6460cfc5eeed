"""A home in which something answers as a running peer's admin endpoint would."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from peer.home import create_home, open_home

TOKEN = "ab" * 32


@dataclass
class Stub:
    """What it answers, and what it was asked."""

    home: Path
    answers: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def answer(self, path: str, body: object, status: int = 200, **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answers[path] = (status, {k.replace("_", "-"): v for k, v in headers.items()}, content)


@contextmanager
def running_peer(home: Path) -> Iterator[Stub]:
    create_home(home, seed=bytes(32), chain=None, config="")
    stub = Stub(home)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stub.asked.append((self.path, self.headers["Authorization"]))
            status, headers, content = stub.answers.get(self.path, (404, {}, b'{"error": "there is nothing here"}'))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, open_home(home) as opened:
        opened.write_admin(f"127.0.0.1:{server.server_address[1]}", TOKEN)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield stub
        finally:
            server.shutdown()
            thread.join()
