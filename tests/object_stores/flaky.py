"""A proxy that fails on purpose: some answers are 503, some connections are reset, always the same ones for one seed."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "server", "date", "content-length"}
AMAZON = "AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class FlakyProxy(ThreadingHTTPServer):
    """Passes requests on to an upstream; what fails depends on the seed, the request and how often it was made."""

    daemon_threads = True

    def __init__(
        self,
        upstream: tuple[str, int],
        p_503: float,
        p_reset: float,
        seed: int,
        always: tuple[int, bytes] | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.always = always
        self.upstream, self.p_503, self.p_reset, self.seed = upstream, p_503, p_reset, seed
        self.allowed_changes: int | None = None
        """After so many uploads and removals every other one is refused: what a killed program leaves."""
        self.changes: list[str] = []
        self.requests: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Address for clients."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fate(self, request: str) -> str:
        """Decide what becomes of a request; the kinds of reset are as likely as each other."""
        request = re.sub(r" /[^/? ]+|uploadId=[^& ]+", "", request)  # the bucket and other names that are new each time
        with self.lock:
            self.requests[request] += 1
            draw = f"{self.seed} {request} {self.requests[request]}".encode()
            u = int.from_bytes(blake2b(draw, digest_size=8).digest(), "little") / 2**64
            if u < self.p_503:
                outcome = "503"
            elif u < self.p_503 + self.p_reset:
                kinds = ("reset before", "reset after", "reset amid")
                outcome = kinds[int((u - self.p_503) / self.p_reset * 3)]
            else:
                outcome = "passed"
            self.outcomes[outcome] += 1
            return outcome

    def admit(self, change: str) -> bool:
        """Log an upload or removal, in the order of their arrival, unless there were enough."""
        with self.lock:
            if self.allowed_changes is not None and len(self.changes) >= self.allowed_changes:
                return False
            self.changes.append(change)
            return True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that go away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: FlakyProxy

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.always:
            status, content = self.server.always
            self._answer(status, [("Content-Type", "application/xml")], content)
            return
        if self.command in ("PUT", "DELETE") and not self.server.admit(f"{self.command} {self.path}"):
            self._answer(400, [("Content-Type", "application/xml")], b"<Error><Code>Killed</Code></Error>")
            return
        outcome = self.server.fate(f"{self.command} {self.path} {self.headers.get('Range')}")
        if outcome == "503":
            self._answer(503, [("Content-Type", "application/xml")], SLOW_DOWN)
            return
        if outcome == "reset before":
            self._reset()
            return
        upstream = http.client.HTTPConnection(*self.server.upstream, timeout=20)
        try:
            headers = {name.title(): value for name, value in self.headers.items() if name.lower() != "connection"}
            if not headers.get("Authorization", "").startswith("AWS4"):  # Google's interface; moto wants Amazon's
                headers["Authorization"] = AMAZON
            upstream.request(self.command, self.path, body, headers)
            answer = upstream.getresponse()
            content, headers_back = answer.read(), answer.getheaders()
        finally:
            upstream.close()
        if outcome == "reset after":
            self._reset()
        else:
            self._answer(answer.status, headers_back, content, cut=outcome == "reset amid")

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, *, cut: bool = False) -> None:
        self.send_response(status)
        length = next((value for name, value in headers if name.lower() == "content-length"), str(len(content)))
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(content[: len(content) // 2] if cut else content)
        self.wfile.flush()
        if cut:
            self._reset()

    def _reset(self) -> None:
        """Close with a reset instead of a goodbye."""
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.shutdown(socket.SHUT_RD)
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def flaky_proxy(
    upstream: tuple[str, int],
    *,
    p_503: float = 0.15,
    p_reset: float = 0.05,
    seed: int = 1,
    always: tuple[int, bytes] | None = None,
) -> Iterator[FlakyProxy]:
    """Run a proxy in a thread; with `always` it gives that answer to everything."""
    with FlakyProxy(upstream, p_503, p_reset, seed, always) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
