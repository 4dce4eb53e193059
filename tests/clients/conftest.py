"""Both clients, driven by the same tests, and the server that they speak with."""

import asyncio
import collections.abc
import inspect
from typing import Any

import pytest

import saga_orders
from tests.clients import answering


class Awaited:
    """An `AsyncClient` that is used like a `Client`."""

    def __init__(self, client: saga_orders.AsyncClient, loop: asyncio.Runner) -> None:
        self._client = client
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*args: Any, **options: Any) -> Any:
            found = method(*args, **options)
            return self._walk(found) if inspect.isasyncgen(found) else self._loop.run(found)

        return call

    def _walk(self, found: collections.abc.AsyncGenerator[Any, None]) -> collections.abc.Iterator[Any]:
        async def step() -> Any:
            return await anext(found)

        try:
            while True:
                try:
                    yield self._loop.run(step())
                except StopAsyncIteration:
                    return
        finally:
            self._loop.run(found.aclose())


@pytest.fixture
def server() -> collections.abc.Iterator[answering.Server]:
    with answering.answering() as one:
        yield one


@pytest.fixture(params=["sync", "async"])
def connect(request: pytest.FixtureRequest) -> collections.abc.Iterator[Any]:
    """Makes a client of either kind that waits for next to no time before it tries again."""
    made: list[Any] = []
    with asyncio.Runner() as loop:

        def client(url: str, token: str = "ord_1", **options: Any) -> Any:
            options = {"first_pause": 0.001} | options
            if request.param == "sync":
                made.append(saga_orders.Client(url, token, **options))
                return made[-1]
            ours = saga_orders.AsyncClient(url, token, **options)
            made.append(Awaited(ours, loop))
            return made[-1]

        yield client
        for one in made:
            one.close() if isinstance(one, saga_orders.Client) else one.aclose()


@pytest.fixture
def client(connect: Any, server: answering.Server) -> Any:
    return connect(server.url)
