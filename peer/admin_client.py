"""Questions to the peer that runs in a home, over its admin endpoint on loopback.

Neighbours: ``daemon`` serves ``/status``, ``/peers``, ``/rounds``, ``/model``; ``commands.look`` and
``commands.model`` ask.
Invariants: plain HTTP never leaves loopback; the bearer token comes from the home, readable by its user only; whatever
goes wrong is a ``PeerError`` with one sentence.
"""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from peer.errors import NotRunningError, PeerError
from peer.home import read_admin
from peer.transport.addresses import parse_address
from protocol.base.errors import ConfigurationError

TIMEOUT_S = 10.0
MAX_ANSWER = 256 * 2**20
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True)
class Answer:
    """What the peer answered: headers by lower-case name, and the body."""

    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON.  Raises ``PeerError`` if it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise PeerError("the peer's answer cannot be read; is it of another version of susurrus?") from error


def ask(home: Path, path: str, **query: str | int | None) -> Answer:
    """GET ``path`` of the peer that runs in ``home``.

    Raises ``NotRunningError`` when none runs and ``PeerError`` with the peer's own sentence when it says no.
    """
    admin = read_admin(home)
    try:
        host, port = parse_address(admin.address)
    except ConfigurationError as error:
        raise PeerError(f"{home}/admin.json is damaged ({error}); restart the peer") from error
    if host not in _LOOPBACK:
        raise PeerError(f"{home}/admin.json names {host}, which is not this machine; restart the peer")
    given = {name: value for name, value in query.items() if value is not None}
    target = f"{path}?{urlencode(given)}" if given else path
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", target, headers={"Authorization": f"Bearer {admin.token}"})
        response = connection.getresponse()
        body = response.read(MAX_ANSWER + 1)
    except ConnectionRefusedError as error:
        raise NotRunningError(f"the peer in {home} (pid {admin.pid}) is starting or stopping; try again") from error
    except TimeoutError as error:
        raise PeerError(f"the peer in {home} (pid {admin.pid}) did not answer within {TIMEOUT_S:g} s") from error
    except (OSError, http.client.HTTPException) as error:
        raise PeerError(
            f"the peer in {home} (pid {admin.pid}) broke off its answer: {str(error) or 'no reason'}"
        ) from error
    finally:
        connection.close()
    if len(body) > MAX_ANSWER:
        raise PeerError(f"the peer's answer is larger than {MAX_ANSWER} bytes")
    if response.status != http.client.OK:
        raise PeerError(_complaint(response.status, body))
    return Answer({name.lower(): value for name, value in response.getheaders()}, body)


def _complaint(status: int, body: bytes) -> str:
    """The peer's own sentence (``{"error": "..."}``), or what can be said without one."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        if status == http.client.UNAUTHORIZED:
            return "the peer does not accept admin.json's token; restart the peer"
        return f"the peer answered with HTTP status {status}"
