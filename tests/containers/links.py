"""Bad links for containers: loss and bandwidth in a container's own network namespace, delay by a small TCP proxy.

Neighbours: ``test_scenarios`` spoils links with it.
Invariants: only namespaces of containers that the test has made are touched; what is set there goes with the container.
"""

import asyncio
import contextlib
import shutil
import subprocess
import threading
from collections.abc import Iterator

from tests.containers.deployment import Container


def spoil(container: Container, *, loss: float, rate: str) -> None:
    """Drop a share ``loss`` of the packets that arrive, and send at most ``rate`` (as ``tc`` writes it)."""
    for tool in ("nsenter", "iptables", "tc"):
        assert shutil.which(tool), (
            f"spoiling links needs {tool} on this machine (packages util-linux, iptables, iproute2)"
        )
    inside = ("nsenter", "-t", str(container.pid), "-n")
    drop = ("-m", "statistic", "--mode", "random", "--probability", str(loss), "-j", "DROP")
    _do(*inside, "iptables", "-A", "INPUT", "-i", "eth0", *drop)
    _do(*inside, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", "rate", rate, "burst", "16kb", "latency", "300ms")


def dropped(container: Container) -> int:
    """Packets that were dropped on arrival since ``spoil``."""
    said = _do("nsenter", "-t", str(container.pid), "-n", "iptables", "-L", "INPUT", "-v", "-x", "-n")
    return sum(int(line.split()[0]) for line in said.splitlines() if "DROP" in line and "statistic" in line)


def _do(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


class DelayProxy:
    """Listens on ``host`` and passes every byte on to ``target``, either way, ``delay_s`` later."""

    def __init__(self, host: str, delay_s: float) -> None:
        self.host, self.delay_s = host, delay_s
        self.port = 0
        self.target: tuple[str, int] | None = None
        self.carried = 0
        """Bytes passed on."""
        self._ends: list[asyncio.StreamWriter] = []
        self._carrying: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def running(self) -> Iterator["DelayProxy"]:
        """In a thread of its own."""
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(asyncio.start_server(self._accepted, self.host, 0))
        self.port = server.sockets[0].getsockname()[1]
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._end(server), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _end(self, server: asyncio.Server) -> None:
        # The server is closed when nothing is being accepted: asyncio of 3.11 loses such a connection, still open.
        while rest := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in self._carrying:
                task.cancel()
            await asyncio.wait(rest)
        server.close()
        for end in self._ends:
            end.transport.abort()  # a mere close would wait for a reader that may be gone
            with contextlib.suppress(ConnectionError):
                await end.wait_closed()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """No coroutine: a task that is cancelled before its first step would leave the connection open."""
        self._ends.append(writer)
        carrying = asyncio.ensure_future(self._carry(reader, writer))
        self._carrying.add(carrying)
        carrying.add_done_callback(self._carrying.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.target is not None, "nowhere to go"
        try:
            onward, back = await asyncio.open_connection(*self.target)
        except OSError:
            writer.close()
            return
        self._ends.append(back)
        try:
            await asyncio.gather(self._pipe(reader, back), self._pipe(onward, writer))
        finally:
            for end in (writer, back):
                end.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        late: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, piece = await late.get()
                await asyncio.sleep(max(0.0, due - loop.time()))  # the delay itself
                if not piece:
                    with contextlib.suppress(OSError, RuntimeError):
                        writer.write_eof()
                    return
                writer.write(piece)
                self.carried += len(piece)
                with contextlib.suppress(ConnectionError):
                    await writer.drain()

        delivering = asyncio.ensure_future(deliver())
        try:
            while True:
                with contextlib.suppress(ConnectionError):
                    piece = await reader.read(65536)
                    late.put_nowait((loop.time() + self.delay_s, piece))
                    if piece:
                        continue
                    await delivering
                return
        finally:
            delivering.cancel()
