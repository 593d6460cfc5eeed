"""Addresses as people type them and descriptors carry them: ``host:port``, IPv6 in brackets.

Neighbours: ``client`` and ``server`` parse with it, ``peer.config`` validates with it, the driver resolves seeds.
Invariants: a formatted address always parses back to itself; no packet is sent to learn the own addresses.
"""

import asyncio
import contextlib
import errno
import ipaddress
import re
import socket
from typing import Any

from peer.transport.exchange import Unreachable
from protocol.base.errors import ConfigurationError
from protocol.base.limits import MAX_ADDRESS, MAX_ADDRESSES

_HOST_NAME = re.compile(
    r"(?=.{1,253}\Z)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*"
    r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?",
    re.ASCII,
)
_PROBES_V4 = ("192.0.2.1", "10.254.254.254", "172.30.254.254", "192.168.254.254")
"""Destinations whose routes name our interfaces: TEST-NET-1 for the default route, then the private nets."""
_PROBES_V6 = ("2001:db8::1",)
_WILDCARDS = ("", "0.0.0.0", "::", "*")  # noqa: S104  (compared with, never bound to)


def parse_address(text: str, *, listening: bool = False) -> tuple[str, int]:
    """``host:port`` to ``(host, port)``; the host comes back without brackets.

    With ``listening`` the port may be 0 (the system chooses) and the host empty or ``*`` (every interface).
    Raises ``ConfigurationError`` with one sentence.
    """

    def fail(what: str) -> ConfigurationError:
        shown = text if len(text) <= 80 else text[:77] + "..."
        return ConfigurationError([f"the address {shown!r} {what}"])

    if len(text) > MAX_ADDRESS:
        raise fail(f"is longer than {MAX_ADDRESS} characters")
    host, colon, digits = text.strip().rpartition(":")
    if not colon:
        raise fail("has no port; write host:port")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(digits) <= 65535):
        raise fail("has no valid port; it is a number from 1 to 65535")
    port = int(digits)
    if port == 0 and not listening:
        raise fail("has port 0; it is a number from 1 to 65535")
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1])), port
        except ValueError:
            raise fail("has no valid IPv6 address between its brackets") from None
    if ":" in host:
        raise fail("looks like IPv6; write it in brackets, as in [::1]:7000")
    if host in ("", "*"):
        if listening:
            return "0.0.0.0", port  # noqa: S104  (asked for in so many words)
        raise fail("has no host; write host:port")
    if re.fullmatch(r"[0-9.]+", host):
        try:
            return str(ipaddress.IPv4Address(host)), port
        except ValueError:
            raise fail("has no valid IPv4 address") from None
    if not _HOST_NAME.fullmatch(host):
        raise fail("has no valid host name")
    return host.lower(), port


def address_problem(text: str) -> str | None:
    """What ``parse_address`` has against ``text`` as the address of a peer, in one sentence; None: nothing."""
    try:
        parse_address(text)
    except ConfigurationError as error:
        return str(error)
    return None


def format_address(host: str, port: int) -> str:
    """The inverse of ``parse_address``: IPv6 gets its brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def resolve(seed: str, *, limit: int = 64) -> list[str]:
    """All addresses (at most ``limit``, each once) that ``seed``'s host name resolves to, in the resolver's order.

    An address that is numeric already comes back alone.  Raises ``ConfigurationError`` when ``seed`` is no address
    and ``Unreachable`` when the name does not resolve (now; it may later).
    """
    host, port = parse_address(seed)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return [format_address(host, port)]
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    except (OSError, UnicodeError) as error:
        raise Unreachable(seed, f"the name {host} does not resolve ({_reason(error)})") from error
    # A scoped link-local address means something on its own link only: the part after "%" is ours, not a peer's.
    texts = [format_address(str(item[4][0]), port) for item in found if "%" not in str(item[4][0])]
    return list(dict.fromkeys(texts))[:limit]


def own_addresses(listen_host: str, port: int) -> tuple[str, ...]:
    """The addresses under which others probably reach a server that listens on ``listen_host`` (at most 8).

    A wildcard becomes the addresses of this machine's interfaces that have routes, global ones first; with none, the
    loopback address.  ``port`` is the port really bound.  Asks the routing table only: a UDP ``connect`` sends nothing.
    """
    host = listen_host.strip("[]")
    if host not in _WILDCARDS:
        return (format_address(host, port),)
    hosts = [_source_towards(probe, socket.AF_INET) for probe in _PROBES_V4]
    if host == "::":
        hosts += [_source_towards(probe, socket.AF_INET6) for probe in _PROBES_V6]
    usable = list(dict.fromkeys(found for found in hosts if found is not None))
    return tuple(format_address(found, port) for found in usable[:MAX_ADDRESSES] or ["127.0.0.1"])


def counted_source(host: str) -> str:
    """The source that connections are counted by: an IPv4 address, or the /64 of an IPv6 address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


async def bind(host: str, port: int, backlog: int) -> socket.socket:
    """A listening socket on one address; ``::`` takes IPv4 too where the system can, port 0 lets the system choose.

    Raises ``ConfigurationError`` with one sentence.
    """
    shown = format_address(host, port)
    try:
        found = await _to_listen_on(host or None, port)
        family, _, _, _, address = found[0]
        dual = family == socket.AF_INET6 and address[0] == "::" and socket.has_dualstack_ipv6()
        listening = socket.create_server(address[:2], family=family, backlog=backlog, dualstack_ipv6=dual)
    except (OSError, UnicodeError, OverflowError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            sentence = f"cannot listen on {shown}: the port is taken; stop the other program or choose another port"
        else:
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            sentence = f"cannot listen on {shown}: {why[:1].lower() + why[1:]}"
        raise ConfigurationError([sentence]) from error
    listening.setblocking(False)
    return listening


async def _to_listen_on(host: str | None, port: int) -> list[Any]:
    """What ``getaddrinfo`` says; of a numeric address at once, whatever else is being looked up."""
    numeric = socket.AI_PASSIVE | socket.AI_NUMERICHOST
    with contextlib.suppress(socket.gaierror):
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=numeric)
    loop = asyncio.get_running_loop()
    return await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)


def _source_towards(destination: str, family: socket.AddressFamily) -> str | None:
    """The address the kernel would send from towards ``destination``; ``None`` without a route or if it is loopback."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((destination, 9))
            found = str(probe.getsockname()[0])
    except OSError:
        return None
    address = ipaddress.ip_address(found)
    return None if address.is_loopback or address.is_unspecified or address.is_link_local else found


def _reason(error: Exception) -> str:
    """What the system says, without error numbers."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
