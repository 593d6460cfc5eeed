"""``python -m peer.health``: whether the peer of a home is of use now, for an orchestrator's health check.

Neighbours: ``deploy/Dockerfile`` calls it; it asks ``/readyz`` of ``peer.observe.admin``.
Invariants: one line on standard output; exit code 0 if the peer is a member that hears others, 1 with the reason if
not; imports little, since it runs every few seconds.
"""

import http.client
import json
import sys
from pathlib import Path

from peer.errors import PeerError
from peer.home import default_home, read_admin
from peer.transport.addresses import parse_address
from protocol.base.errors import ConfigurationError

TIMEOUT_S = 3.0


def check(home: Path) -> tuple[bool, str]:
    """Whether the peer that runs in ``home`` is ready, and what there is to say."""
    try:
        host, port = parse_address(read_admin(home).address)
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        try:
            connection.request("GET", "/readyz")
            answer = json.loads(connection.getresponse().read(4096))
        finally:
            connection.close()
        ready, reason = answer["ready"] is True, answer["reason"]
    except (PeerError, ConfigurationError) as error:
        return False, str(error)
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        return False, f"the peer in {home} does not answer ({type(error).__name__})"
    return ready, "ready" if ready else str(reason)


def main() -> int:
    """Check the home that the first argument, or ``SUSURRUS_HOME``, names."""
    ready, sentence = check(Path(sys.argv[1]) if len(sys.argv) > 1 else default_home())
    print(sentence)
    return 0 if ready else 1


if __name__ == "__main__":
    sys.exit(main())
