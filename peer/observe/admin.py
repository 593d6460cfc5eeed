"""The admin endpoint: what this machine's commands, its orchestrator and Prometheus ask a running peer.

Neighbours: ``peer.admin_client`` and ``peer.health`` ask, ``status`` and ``metrics`` answer, ``peer.home`` keeps
address and token (mode 0600).
Invariants: it only reads.  It listens on loopback unless the configuration says otherwise; ``/healthz``, ``/readyz``
and ``/metrics`` say nothing secret and are open; every other path wants the token, compared in constant time, and
answers this machine only, whatever is listened on, since the token travels in the clear.
"""

import hmac
import ipaddress
import json
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from peer.observe.asleep import SleepingBoard
from peer.observe.metrics import CONTENT_TYPE, Metrics
from peer.observe.status import StatusBoard
from peer.transport.addresses import bind, format_address
from protocol.base.ids import text

OPEN_PATHS = ("/healthz", "/readyz", "/metrics")
BACKLOG = 64
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AdminServer:
    """Serves a board until ``stop``; which one may change: ``StatusBoard`` in the network, else ``SleepingBoard``."""

    def __init__(self, board: StatusBoard | SleepingBoard) -> None:
        self.board = board
        self._metrics = Metrics(lambda: self.board)
        self.token = secrets.token_hex(32)
        self.address = ""
        """Where commands of this machine ask: always a loopback address."""
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0: the system chooses.  Raises ``ConfigurationError`` with one sentence if it cannot."""
        app = web.Application(middlewares=[self._guard], client_max_size=1024)
        app.router.add_get("/status", self._status)
        app.router.add_get("/peers", self._peers)
        app.router.add_get("/rounds", self._rounds)
        app.router.add_get("/model", self._model)
        app.router.add_get("/task", self._task)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics_text)
        listening = await bind(host, port, BACKLOG)
        bound: int = listening.getsockname()[1]
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.SockSite(self._runner, listening).start()
        self.address = format_address(_this_machine(host), bound)

    async def stop(self) -> None:
        """Stop listening.  Idempotent."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN_PATHS:
            return await handler(request)
        if not ipaddress.ip_address((request.remote or "0.0.0.0").partition("%")[0]).is_loopback:  # noqa: S104
            return _problem(403, "only commands of the peer's own machine may ask this")
        # as the bytes that came: whatever they are, they are compared
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
            return _problem(401, "this needs the token of the home's admin.json")
        return await handler(request)

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        """The event loop turns; nothing more."""
        return web.json_response({"ok": True})

    async def _readyz(self, request: web.Request) -> web.StreamResponse:
        """A member of its network that hears others; or why not."""
        missing = self.board.unready()
        return web.json_response({"ready": missing is None, "reason": missing}, status=503 if missing else 200)

    async def _metrics_text(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _status(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(await self.board.status())

    async def _peers(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.board.peers())

    async def _rounds(self, request: web.Request) -> web.StreamResponse:
        wanted = request.query.get("limit", "100")
        if not re.fullmatch(r"[0-9]{1,5}", wanted) or not 1 <= int(wanted) <= 10_000:
            return _problem(400, "limit must be 1 to 10000")
        return web.json_response(await self.board.storage.list_rounds(int(wanted)))

    async def _model(self, request: web.Request) -> web.StreamResponse:
        held = await self.board.held(request.query.get("task"))
        if held is None:
            return self._no_task(request)
        task, checkpoint = held.task, held.checkpoint
        if checkpoint is None:
            return _problem(404, "this peer holds no model of this task yet")
        evaluation = self.board.evaluations.get(task.id)
        about: dict[str, Any] = {
            "task": text(task.id),
            "name": task.name,
            "age": checkpoint.age,
            "last_age": task.last_age,
            "digest": held.digest.hex(),
            "parameters": task.dimension,
            "accuracy": evaluation.accuracy if evaluation is not None else None,
            "loss": evaluation.loss if evaluation is not None else None,
        }
        return web.Response(
            body=bytes(checkpoint.state),
            content_type="application/octet-stream",
            headers={"X-Susurrus-Model": json.dumps(about)},
        )

    async def _task(self, request: web.Request) -> web.StreamResponse:
        held = await self.board.held(request.query.get("task"))
        if held is None:
            return self._no_task(request)
        return web.Response(body=held.task.encode(), content_type="application/octet-stream")

    def _no_task(self, request: web.Request) -> web.Response:
        given = "task" in request.query
        return _problem(404, "this peer holds no such task" if given else "this peer knows of no task yet")


def _problem(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status)


def _this_machine(host: str) -> str:
    """The loopback address under which this machine's own commands reach a server that listens on ``host``."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"
