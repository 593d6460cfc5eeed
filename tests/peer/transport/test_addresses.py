"""Addresses: what is accepted, what is refused in which words, resolution, own addresses."""

import asyncio
import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.transport.addresses import (
    bind,
    counted_source,
    format_address,
    own_addresses,
    parse_address,
    resolve,
)
from peer.transport.exchange import Unreachable
from protocol.base.errors import ConfigurationError
from tests.peer.driving import Unused


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("example.org:7000", ("example.org", 7000)),
        ("Example.ORG:7000", ("example.org", 7000)),
        ("peer_1.svc.cluster.local:1", ("peer_1.svc.cluster.local", 1)),
        ("127.0.0.1:65535", ("127.0.0.1", 65535)),
        ("[::1]:80", ("::1", 80)),
        ("[2001:DB8:0:0::1]:80", ("2001:db8::1", 80)),
    ],
)
def test_parse(text: str, parsed: tuple[str, int]) -> None:
    assert parse_address(text) == parsed
    assert parse_address(format_address(*parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "has no port"),
        ("example.org", "has no port"),
        ("example.org:", "no valid port"),
        ("example.org:0", "port 0"),
        ("example.org:65536", "no valid port"),
        ("example.org:-1", "no valid port"),
        ("example.org:\u0663", "no valid port"),
        (":7000", "has no host"),
        ("::1:7000", "brackets"),
        ("[::1:7000", "brackets"),
        ("[::g]:7000", "no valid IPv6"),
        ("1.2.3.400:7000", "no valid IPv4"),
        ("exa mple.org:7000", "no valid host name"),
        ("user@example.org:7000", "no valid host name"),
        ("example.org/path:7000", "no valid host name"),
        ("-a.org:7000", "no valid host name"),
        ("a\r\nHost:7000", "no valid host name"),
        ("a" * 64 + ":7000", "no valid host name"),
        ("a." * 200 + "b:7000", "longer than"),
    ],
)
def test_parse_refuses_with_one_sentence(text: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_address(text)
    assert len(caught.value.problems) == 1
    assert says in caught.value.problems[0]


@given(st.text(st.sampled_from("aA0159.:[]-_ %/\u0663\n"), max_size=40))
def test_parse_never_raises_anything_else(text: str) -> None:
    try:
        host, port = parse_address(text)
    except ConfigurationError:
        return
    assert parse_address(format_address(host, port)) == (host, port)


def test_listening_addresses_may_be_open() -> None:
    assert parse_address(":0", listening=True) == ("0.0.0.0", 0)
    assert parse_address("*:7000", listening=True) == ("0.0.0.0", 7000)
    assert parse_address("[::]:0", listening=True) == ("::", 0)


async def test_resolve_gives_every_address_of_a_name_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(host: str, port: int, *_: object, **__: object) -> list[object]:
        assert host == "seeds.example.org"
        four, six = ("192.0.2.1", port), ("2001:db8::1", port, 0, 0)
        return [(socket.AF_INET, 1, 6, "", a) for a in (four, ("192.0.2.2", port), four)] + [
            (socket.AF_INET6, 1, 6, "", six),
            (socket.AF_INET6, 1, 6, "", ("fe80::1%eth0", port, 0, 2)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    assert await resolve("Seeds.example.org:7000") == ["192.0.2.1:7000", "192.0.2.2:7000", "[2001:db8::1]:7000"]
    assert await resolve("seeds.example.org:7000", limit=2) == ["192.0.2.1:7000", "192.0.2.2:7000"]


async def test_resolve_localhost_and_numbers() -> None:
    assert "127.0.0.1:7000" in await resolve("localhost:7000")
    assert await resolve("192.0.2.7:1") == ["192.0.2.7:1"]
    assert await resolve("[::1]:1") == ["[::1]:1"]


async def test_a_name_that_does_not_resolve_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    with pytest.raises(Unreachable, match="does not resolve") as caught:
        await resolve("nowhere.invalid:7000")
    assert caught.value.address == "nowhere.invalid:7000"
    with pytest.raises(ConfigurationError):
        await resolve("nowhere")


def test_own_addresses() -> None:
    assert own_addresses("192.0.2.7", 7000) == ("192.0.2.7:7000",)
    assert own_addresses("::1", 7000) == ("[::1]:7000",)
    guessed = own_addresses("0.0.0.0", 7000)
    assert guessed
    for address in guessed:
        host, port = parse_address(address)
        assert port == 7000
        assert not ipaddress.ip_address(host).is_unspecified


def test_own_addresses_without_any_route_is_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nowhere(socket.socket):
        def connect(self, address: object) -> None:
            raise OSError("network is unreachable")

    monkeypatch.setattr(socket, "socket", Nowhere)
    assert own_addresses("0.0.0.0", 7000) == ("127.0.0.1:7000",)


def test_sources_are_counted_by_address_or_by_subnet() -> None:
    assert counted_source("192.0.2.1") == counted_source("::ffff:192.0.2.1") == "192.0.2.1"
    assert counted_source("2001:db8::1") == counted_source("2001:db8::ffff:2") != counted_source("2001:db8:0:1::1")
    assert counted_source("fe80::1%eth0") == "fe80::/64"


async def test_a_taken_port_is_one_sentence() -> None:
    asyncio.get_running_loop().set_default_executor(Unused())  # a numeric address is not looked up
    first = await bind("127.0.0.1", 0, 1)
    try:
        with pytest.raises(ConfigurationError, match="the port is taken") as caught:
            await bind("127.0.0.1", first.getsockname()[1], 1)
        assert len(caught.value.problems) == 1
    finally:
        first.close()
    with pytest.raises(ConfigurationError, match=r"cannot listen on 192\.0\.2\.1:0: "):
        await bind("192.0.2.1", 0, 1)
