"""Each mode of a link, as a real client and a real server feel it through the proxy."""

import asyncio
import contextlib
import time

import pytest

from saga_project.local import servers
from saga_project.local.chaos import proxy

pytestmark = pytest.mark.integration

SILENCE_S = 0.3
"""So long nothing comes where nothing will."""


class Scene:
    """A server that answers each line with itself, the proxy before it, and clients."""

    def __init__(self):
        self.port = servers.free_port()
        self.ended = asyncio.Event()
        """A connection to the server has ended."""
        self.heard = []

    @contextlib.asynccontextmanager
    async def set(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        (there,) = server.sockets
        leads_to = f"127.0.0.1:{there.getsockname()[1]}"
        self.proxy = proxy.Proxy([proxy.Link(name="link", port=self.port, leads_to=leads_to)])
        await self.proxy.start()
        try:
            yield self
        finally:
            await self.proxy.stop()
            server.close()

    async def _serve(self, reader, writer):
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                self.heard.append(line)
                writer.write(line)
        self.ended.set()
        writer.close()

    async def client(self):
        return Client(*await asyncio.open_connection("127.0.0.1", self.port))

    def change(self, mode, **more):
        return self.proxy.change("link", mode, **more)


class Client:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    async def says(self, line):
        self.writer.write(line)
        return await asyncio.wait_for(self.reader.readline(), 5)

    async def hears_nothing(self, line):
        self.writer.write(line)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(self.reader.readline(), SILENCE_S)


def played(scene):
    """Run a coroutine function with a scene."""

    async def play():
        async with Scene().set() as there:
            await scene(there)

    asyncio.run(play())


def test_a_whole_link_passes_on_what_is_said_and_who_hangs_up():
    async def scene(there):
        client = await there.client()
        assert await client.says(b"hello\n") == b"hello\n"
        long = b"x" * 60_000 + b"\n"
        assert await client.says(long) == long
        client.writer.close()
        await asyncio.wait_for(there.ended.wait(), 5)
        assert there.change(proxy.Mode.WHOLE) == 0

    played(scene)


def test_a_slow_link_is_late_in_both_directions_and_keeps_the_order():
    async def scene(there):
        client = await there.client()
        await client.says(b"hello\n")
        there.change(proxy.Mode.SLOW, low_ms=50, high_ms=60)
        began = time.monotonic()
        assert await client.says(b"1\n") == b"1\n"
        assert time.monotonic() - began >= 0.1
        for number in range(5):
            client.writer.write(b"%d\n" % number)
            await client.writer.drain()
        assert [await client.reader.readline() for _ in range(5)] == [b"%d\n" % n for n in range(5)]
        assert there.change(proxy.Mode.WHOLE) >= 4
        assert await client.says(b"again\n") == b"again\n"

    played(scene)


def test_what_a_slow_link_delays_to_one_moment_comes_in_the_order_in_which_it_was_sent():
    sent = [b"%d\n" % number for number in range(60)]

    async def scene(there):
        client = await there.client()
        # The first is late, and the others wait for it.
        there.change(proxy.Mode.SLOW, low_ms=0, high_ms=200, seed=3)
        for place, line in enumerate(sent):
            if place == 50:
                there.change(proxy.Mode.WHOLE)
            client.writer.write(line)
            await asyncio.sleep(0.001)  # A piece of its own.
        assert [await asyncio.wait_for(client.reader.readline(), 5) for _ in sent] == sent
        assert there.heard == sent

    played(scene)


def test_a_reset_link_ends_open_connections_and_new_ones_until_it_is_whole():
    async def scene(there):
        client = await there.client()
        await client.says(b"hello\n")
        there.change(proxy.Mode.RESET)
        with pytest.raises(ConnectionResetError):
            await client.says(b"lost\n")
        with pytest.raises(ConnectionResetError):
            await (await there.client()).says(b"lost\n")
        assert there.change(proxy.Mode.WHOLE) == 2
        assert await (await there.client()).says(b"again\n") == b"again\n"
        assert there.heard == [b"hello\n", b"again\n"]

    played(scene)


def test_a_half_open_connection_is_closed_to_the_server_and_silent_to_the_client():
    async def scene(there):
        client = await there.client()
        await client.says(b"hello\n")
        there.change(proxy.Mode.HALF_OPEN)
        await asyncio.wait_for(there.ended.wait(), 5)
        await client.hears_nothing(b"lost\n")
        assert await (await there.client()).says(b"another\n") == b"another\n"
        assert there.change(proxy.Mode.WHOLE) >= 1
        with pytest.raises(ConnectionResetError):
            await client.says(b"too late\n")

    played(scene)


def test_a_black_hole_swallows_everything_and_what_was_swallowed_does_not_come_later():
    async def scene(there):
        client = await there.client()
        await client.says(b"hello\n")
        there.change(proxy.Mode.BLACK_HOLE)
        await client.hears_nothing(b"lost\n")
        fresh = await there.client()
        await fresh.hears_nothing(b"lost, too\n")
        client.writer.close()
        assert not there.ended.is_set(), "nobody is told"
        assert there.change(proxy.Mode.WHOLE) >= 2
        await asyncio.wait_for(there.ended.wait(), 5)
        with pytest.raises(ConnectionResetError):
            await fresh.says(b"too late\n")
        assert await (await there.client()).says(b"again\n") == b"again\n"
        assert there.heard == [b"hello\n", b"again\n"]

    played(scene)


def test_a_link_that_leads_to_nobody_resets_who_comes():
    async def scene(there):
        nowhere = proxy.Link(name="nowhere", port=servers.free_port(), leads_to="/nowhere/.s.PGSQL.5432")
        lost = proxy.Proxy([nowhere])
        await lost.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", nowhere.port)
        writer.write(b"hello\n")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.readline(), 5)
        await lost.stop()

    played(scene)


def test_it_is_told_what_to_do_at_a_socket(tmp_path):
    async def scene(there):
        server = await there.proxy.serve(tmp_path)
        client, control = await there.client(), proxy.Control(tmp_path)
        await client.says(b"hello\n")
        assert await control.change("link", proxy.Mode.SLOW, low_ms=1, high_ms=2) == 0
        await client.says(b"hello\n")
        assert await control.change("link", proxy.Mode.WHOLE) == 2
        server.close()

    played(scene)
