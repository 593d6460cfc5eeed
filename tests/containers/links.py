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

    @contextlib.contextmanager
    def running(self) -> Iterator["DelayProxy"]:
        """In a thread of its own."""
        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(asyncio.start_server(self._connected, self.host, 0))
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
        server.close()
        rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.target is not None, "nowhere to go"
        try:
            onward, back = await asyncio.open_connection(*self.target)
        except OSError:
            writer.close()
            return
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
