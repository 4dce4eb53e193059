"""A TCP proxy on each link between two parts, that can be slow, cut connections, or say nothing any more.

Run as a process of its own, so that what passes does not wait for the customers: `python -m
saga_project.local.chaos.proxy PLACE`. PLACE is a directory; in it `links.json` says what listens where and
leads whither, and `control` is a Unix socket that takes a command a line:

    {"link": "worker-db", "mode": "slow", "low_ms": 20, "high_ms": 200}

and answers `{"struck": 0}`: how often the mode before this one was felt by a connection. The modes are those
of a network that fails, as Toxiproxy (https://github.com/Shopify/toxiproxy) has them.
"""

import asyncio
import collections
import contextlib
import dataclasses
import enum
import json
import pathlib
import random
import signal
import socket
import struct
import sys
from typing import Any

Json = dict[str, Any]


class Mode(enum.StrEnum):
    """How a link fares."""

    WHOLE = "whole"
    SLOW = "slow"
    """Each piece of data arrives some time later, in its order."""
    RESET = "reset"
    """Open connections are reset; so is a new one at its first byte."""
    HALF_OPEN = "half-open"
    """The far side of each open connection is closed; the near side hears nothing of it. New ones work."""
    BLACK_HOLE = "black-hole"
    """What is sent is swallowed, on open connections and on new ones, and nobody is told."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Link:
    """One link: where it listens on loopback, and where it leads."""

    name: str
    port: int
    leads_to: str
    """`host:port`, or the path of a Unix socket."""


class Proxy:
    """All links, in one event loop."""

    def __init__(self, links: list[Link]) -> None:
        self._links = {link.name: _Wire(link) for link in links}
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Listen on every link."""
        loop = asyncio.get_running_loop()
        for wire in self._links.values():
            self._servers.append(
                await loop.create_server(wire.accept, "127.0.0.1", wire.link.port, backlog=512)
            )

    async def stop(self) -> None:
        """Listen no longer, and cut what is open."""
        for server in self._servers:
            server.close()
        for wire in self._links.values():
            wire.cut()

    def change(self, link: str, mode: Mode, *, low_ms: float = 0, high_ms: float = 0, seed: int = 0) -> int:
        """Put a link into another mode; how often the one before was felt.

        Args:
            link: its name.
            mode: the new one.
            low_ms: of a slow link, the least delay of a piece of data, in milliseconds.
            high_ms: the most.
            seed: of the delays.
        """
        return self._links[link].change(mode, low_ms, high_ms, seed)

    async def serve(self, place: pathlib.Path) -> asyncio.Server:
        """Take commands at the Unix socket `control` in this directory."""
        (place / "control").unlink(missing_ok=True)
        return await asyncio.start_unix_server(self._commands, place / "control")

    async def _commands(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                told: Json = json.loads(line)
                struck = self.change(
                    told.pop("link"), Mode(told.pop("mode")), **{name: told[name] for name in told}
                )
                writer.write(json.dumps({"struck": struck}).encode() + b"\n")
                await writer.drain()
        writer.close()


class _Wire:
    """A link with its connections, and the mode it is in."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.mode = Mode.WHOLE
        self.struck = 0
        self._delay_s = (0.0, 0.0)
        self._chance = random.Random(0)  # noqa: S311 - Chance, not secrecy.
        self._pairs: set[_Pair] = set()

    def accept(self) -> asyncio.Protocol:
        pair = _Pair(self)
        pair.muted = self.mode is Mode.BLACK_HOLE
        self._pairs.add(pair)
        return pair.near

    def change(self, mode: Mode, low_ms: float, high_ms: float, seed: int) -> int:
        struck, self.struck = self.struck, 0
        self.mode = mode
        self._delay_s = (low_ms / 1000, high_ms / 1000)
        self._chance.seed(seed)
        for pair in list(self._pairs):
            if pair.muted:
                pair.reset()  # What was swallowed is missing: nobody can go on with that.
            elif mode is Mode.RESET:
                self.struck += 1
                pair.reset()
            elif mode is Mode.HALF_OPEN:
                self.struck += 1
                pair.muted = True
                pair.far.end()
            elif mode is Mode.BLACK_HOLE:
                pair.muted = True
        return struck

    def delay_s(self) -> float:
        """Of the next piece of data."""
        return self._chance.uniform(*self._delay_s)

    def forget(self, pair: "_Pair") -> None:
        self._pairs.discard(pair)

    def cut(self) -> None:
        for pair in list(self._pairs):
            pair.reset()


class _Pair:
    """A connection through the proxy: the client's half, and the one to the server."""

    def __init__(self, wire: _Wire) -> None:
        self.wire = wire
        self.muted = False
        self.near, self.far = _Half(self), _Half(self)
        self._connecting: asyncio.Task[None] | None = None

    def other(self, half: "_Half") -> "_Half":
        return self.far if half is self.near else self.near

    def opened(self, half: "_Half") -> None:
        if half is self.near:
            half.pause()
            self._connecting = asyncio.create_task(self._connect())
        elif not self.near.is_open:
            self.reset()  # The client has not waited.

    async def _connect(self) -> None:
        loop, to = asyncio.get_running_loop(), self.wire.link.leads_to
        try:
            if "/" in to:
                await loop.create_unix_connection(lambda: self.far, to)
            else:
                host, _, port = to.rpartition(":")
                await loop.create_connection(lambda: self.far, host, int(port))
        except OSError:
            self.reset()
            return
        self.near.resume()

    def take(self, half: "_Half", data: bytes) -> None:
        """Pass on what came at one half, unless the link is broken."""
        wire, other = self.wire, self.other(half)
        if self.muted:
            wire.struck += 1
        elif wire.mode is Mode.RESET:
            wire.struck += 1
            self.reset()
        elif wire.mode is Mode.SLOW or other.busy_until:
            if wire.mode is Mode.SLOW:
                wire.struck += 1
            other.write_later(data, wire.delay_s())
        else:
            other.write(data)

    def closed(self, half: "_Half") -> None:
        if self.muted and self.other(half).is_open:
            return  # Nobody is told, until the link is whole again.
        other = self.other(half)
        if other.busy_until:
            other.end_later()
        else:
            other.end()
        if not self.near.is_open and not self.far.is_open:
            self.wire.forget(self)

    def reset(self) -> None:
        """End both halves as a host does that knows of no connection."""
        self.near.abort()
        self.far.abort()
        self.wire.forget(self)


class _Half(asyncio.Protocol):
    """One of the two connections."""

    def __init__(self, pair: _Pair) -> None:
        self._pair = pair
        self._transport: asyncio.Transport | None = None
        self.busy_until = 0.0
        """While delayed data is under way, what comes after it waits too."""
        self._delayed: collections.deque[tuple[float, bytes]] = collections.deque()
        """It, in the order in which it came: timers of one moment are called in any order."""

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._pair.opened(self)

    def data_received(self, data: bytes) -> None:
        self._pair.take(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pair.closed(self)

    def pause_writing(self) -> None:
        self._pair.other(self).pause()

    def resume_writing(self) -> None:
        self._pair.other(self).resume()

    def pause(self) -> None:
        if self.is_open:
            assert self._transport
            self._transport.pause_reading()

    def resume(self) -> None:
        if self.is_open:
            assert self._transport
            self._transport.resume_reading()

    def write(self, data: bytes) -> None:
        if self.is_open:
            assert self._transport
            self._transport.write(data)

    def write_later(self, data: bytes, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        self.busy_until = max(loop.time() + delay_s, self.busy_until)
        self._delayed.append((self.busy_until, data))
        loop.call_at(self.busy_until, self._write_due, self.busy_until)

    def _write_due(self, due: float) -> None:
        while self._delayed and self._delayed[0][0] <= due:
            _, data = self._delayed.popleft()
            if not self._pair.muted:
                self.write(data)
        if not self._delayed:
            self.busy_until = 0.0

    def end(self) -> None:
        if self.is_open:
            assert self._transport
            self._transport.close()

    def end_later(self) -> None:
        asyncio.get_running_loop().call_at(self.busy_until + 0.001, self.end)

    def abort(self) -> None:
        """With an RST, not a FIN."""
        if self._transport is None:
            return
        raw: socket.socket | None = self._transport.get_extra_info("socket")
        if raw is not None and raw.family == socket.AF_INET and not self._transport.is_closing():
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


class Control:
    """What the nemesis tells a proxy that runs as a process of its own."""

    def __init__(self, place: pathlib.Path) -> None:
        self._path = place / "control"

    async def change(self, link: str, mode: Mode, **more: float) -> int:
        """As `Proxy.change`."""
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            writer.write(json.dumps({"link": link, "mode": mode, **more}).encode() + b"\n")
            return int(json.loads(await asyncio.wait_for(reader.readline(), 10))["struck"])
        finally:
            writer.close()


def write_links(place: pathlib.Path, links: list[Link]) -> None:
    """Write down what the process is to do."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    (place / "links.json").write_text(json.dumps([dataclasses.asdict(link) for link in links]))


async def _main(place: pathlib.Path) -> None:
    links = [Link(**link) for link in json.loads((place / "links.json").read_text())]
    proxy = Proxy(links)
    await proxy.start()
    await proxy.serve(place)
    over = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    print("The links are whole.", flush=True)
    await over.wait()
    await proxy.stop()


if __name__ == "__main__":
    asyncio.run(_main(pathlib.Path(sys.argv[1])))
