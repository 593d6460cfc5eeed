"""The proxy that delays: what it carries, and that it leaves no connection open."""

import gc
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.containers.links import DelayProxy

HOST = "127.0.0.1"
TIMEOUT_S = 10.0


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server((HOST, 0)) as made:
        made.settimeout(TIMEOUT_S)
        yield made


def test_every_byte_is_carried_either_way_and_the_end_too(listening: socket.socket) -> None:
    with DelayProxy(HOST, 0.01).running() as proxy:
        proxy.target = listening.getsockname()
        with socket.create_connection((HOST, proxy.port), TIMEOUT_S) as near:
            far, _ = listening.accept()
            with far:
                far.settimeout(TIMEOUT_S)
                near.sendall(b"there")
                assert far.recv(100) == b"there"
                far.sendall(b"and back")
                assert near.recv(100) == b"and back"
                near.shutdown(socket.SHUT_WR)
                assert far.recv(100) == b""
        assert proxy.carried == len(b"there" + b"and back")


@pytest.mark.parametrize("answers", [True, False])
def test_nothing_stays_open_at_its_end(listening: socket.socket, answers: bool) -> None:
    """Whether its connections stand and nobody reads from them, or the one onward is still being made.

    What stays open warns when it is collected, and warnings are errors.
    """
    with ExitStack() as held:
        busy = held.enter_context(socket.socket())
        busy.bind((HOST, 0))
        busy.listen(0)
        held.enter_context(socket.create_connection(busy.getsockname()))  # its queue is full now
        with DelayProxy(HOST, 0.0).running() as proxy:
            proxy.target = (listening if answers else busy).getsockname()
            for _ in range(20):
                near = held.enter_context(socket.create_connection((HOST, proxy.port), TIMEOUT_S))
                if answers:
                    held.enter_context(listening.accept()[0])
            near.sendall(bytes(1 << 25 if answers else 1 << 16))  # if answers: more than the system's buffers take
    del proxy
    gc.collect()
