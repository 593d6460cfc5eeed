"""The admin endpoint: what this machine's commands, its orchestrator and Prometheus ask a running peer.

Neighbours: ``peer.admin_client`` and ``peer.health`` ask, ``status`` and ``metrics`` answer, ``peer.home`` keeps
address and token (mode 0600).
Invariants: it only reads.  It listens on loopback unless the configuration says otherwise; ``/healthz``, ``/readyz``
and ``/metrics`` say nothing secret and are open; every other path wants the token, compared in constant time, and
answers this machine only, whatever is listened on, since the token travels in the clear.  Connections are bounded, and
stopping takes a bounded time, as for the peers' own server: both have the same door.
"""

import hmac
import ipaddress
import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import hdrs, web

from peer.observe.asleep import SleepingBoard
from peer.observe.metrics import CONTENT_TYPE, Metrics
from peer.observe.status import StatusBoard
from peer.transport.addresses import format_address
from peer.transport.door import Door, DoorLimits
from peer.transport.once import OncePer
from protocol.base.ids import text

log = logging.getLogger("susurrus.admin")

OPEN_PATHS = ("/healthz", "/readyz", "/metrics")
LIMITS = DoorLimits(connections=64, connections_per_source=32, keepalive_s=15.0, backlog=64)
GRACE_S = 0.5
"""At the stop requests under way may finish for so long."""
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class AdminServer:
    """Serves a board until ``stop``; which one may change: ``StatusBoard`` in the network, else ``SleepingBoard``."""

    def __init__(self, board: StatusBoard | SleepingBoard) -> None:
        self.board = board
        self._metrics = Metrics(lambda: self.board)
        self.token = secrets.token_hex(32)
        self.address = ""
        """Where commands of this machine ask: always a loopback address."""
        self._once = OncePer()
        self._door: Door | None = None
        self._handlers: dict[str, Handler] = {
            "/status": self._status,
            "/peers": self._peers,
            "/rounds": self._rounds,
            "/model": self._model,
            "/task": self._task,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics_text,
        }

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; port 0: the system chooses.  Raises ``ConfigurationError`` with one sentence if it cannot."""
        self._door = Door(self._answer, LIMITS, self._note)
        bound = await self._door.open(host, port)
        self.address = format_address(_this_machine(host), bound)

    async def stop(self) -> None:
        """Stop listening, and cut off whoever does not read its answer.  Idempotent."""
        if self._door is not None:
            await self._door.close(GRACE_S)

    def _note(self, source: str | None, kind: str) -> None:
        if self._once.first(source or "", kind):
            log.info("refused %s from %s (further ones are not told)", kind, source or "an unknown address")

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._guard(request, self._route)
        except Exception:
            log.exception("%s could not be answered", request.path)
            return _problem(500, "the peer's log says what went wrong")

    async def _guard(self, request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN_PATHS:
            return await handler(request)
        if not ipaddress.ip_address((request.remote or "0.0.0.0").partition("%")[0]).is_loopback:  # noqa: S104
            return _problem(403, "only commands of the peer's own machine may ask this")
        # as the bytes that came: whatever they are, they are compared
        given = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(given, f"Bearer {self.token}".encode()):
            return _problem(401, "this needs the token of the home's admin.json")
        return await handler(request)

    async def _route(self, request: web.BaseRequest) -> web.StreamResponse:
        handler = self._handlers.get(request.path)
        if handler is None:
            return _problem(404, "there is no such path")
        if request.method not in (hdrs.METH_GET, hdrs.METH_HEAD):
            return _problem(405, "this endpoint only reads")
        return await handler(request)

    async def _healthz(self, request: web.BaseRequest) -> web.StreamResponse:
        """The event loop turns; nothing more."""
        return web.json_response({"ok": True})

    async def _readyz(self, request: web.BaseRequest) -> web.StreamResponse:
        """A member of its network that hears others; or why not."""
        missing = self.board.unready()
        return web.json_response({"ready": missing is None, "reason": missing}, status=503 if missing else 200)

    async def _metrics_text(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def _status(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(await self.board.status())

    async def _peers(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(self.board.peers())

    async def _rounds(self, request: web.BaseRequest) -> web.StreamResponse:
        wanted = request.query.get("limit", "100")
        if not re.fullmatch(r"[0-9]{1,5}", wanted) or not 1 <= int(wanted) <= 10_000:
            return _problem(400, "limit must be 1 to 10000")
        return web.json_response(await self.board.storage.list_rounds(int(wanted)))

    async def _model(self, request: web.BaseRequest) -> web.StreamResponse:
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

    async def _task(self, request: web.BaseRequest) -> web.StreamResponse:
        held = await self.board.held(request.query.get("task"))
        if held is None:
            return self._no_task(request)
        return web.Response(body=held.task.encode(), content_type="application/octet-stream")

    def _no_task(self, request: web.BaseRequest) -> web.Response:
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
