"""The admin endpoint: what commands on this machine ask a running peer, on loopback, behind a bearer token.

Neighbours: ``peer.admin_client`` asks, ``status`` answers, ``peer.home`` keeps address and token (mode 0600).
Invariants: listens on loopback only; every path but ``/healthz`` wants the token, compared in constant time; it only
reads.
"""

import hmac
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from peer.observe.asleep import SleepingBoard
from peer.observe.status import StatusBoard
from protocol.base.ids import text

HOST = "127.0.0.1"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AdminServer:
    """Serves a board until ``stop``; which one may change: ``StatusBoard`` in the network, else ``SleepingBoard``."""

    def __init__(self, board: StatusBoard | SleepingBoard) -> None:
        self.board = board
        self.token = secrets.token_hex(32)
        self.address = ""
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen on a loopback port that the system chooses; ``address`` tells which."""
        app = web.Application(middlewares=[self._guard], client_max_size=1024)
        app.router.add_get("/status", self._status)
        app.router.add_get("/peers", self._peers)
        app.router.add_get("/rounds", self._rounds)
        app.router.add_get("/model", self._model)
        app.router.add_get("/task", self._task)
        app.router.add_get("/healthz", self._healthz)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, HOST, 0)
        await site.start()
        self.address = f"{HOST}:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening.  Idempotent."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "")
        if request.path != "/healthz" and not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
            return _problem(401, "this needs the token of the home's admin.json")
        return await handler(request)

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        return web.json_response({"ok": True})

    async def _status(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(await self.board.status())

    async def _peers(self, request: web.Request) -> web.StreamResponse:
        return web.json_response(self.board.peers())

    async def _rounds(self, request: web.Request) -> web.StreamResponse:
        wanted = request.query.get("limit", "100")
        if not wanted.isdigit() or not 1 <= int(wanted) <= 10_000:
            return _problem(400, "limit must be 1 to 10000")
        return web.json_response(await self.board.storage.list_rounds(int(wanted)))

    async def _model(self, request: web.Request) -> web.StreamResponse:
        held = await self.board.held(request.query.get("task"))
        if held is None:
            return _problem(404, "this peer holds no such task")
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
            return _problem(404, "this peer holds no such task")
        return web.Response(body=held.task.encode(), content_type="application/octet-stream")


def _problem(status: int, sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=status)
