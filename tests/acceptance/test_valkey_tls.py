"""Valkey by TLS: what answers must be what is meant, and be vouched for.

The server that the tests run on was built without TLS; what stands before it speaks it, as in many places.
"""

import asyncio
import contextlib
import datetime
import os
import ssl
import threading
from urllib import parse as urls

import pytest

from sagas import tasks, workers
from tests.acceptance import test_rabbitmq
from tests.support import certificates

pytestmark = pytest.mark.integration

QUEUE = "of-nobody-by-tls"


def test_messages_come_to_one_that_is_vouched_for_and_to_no_other(tmp_path, valkey):
    tls = certificates.make(tmp_path, "127.0.0.1")
    there = urls.urlsplit(os.environ["BROKER_URL"])
    with ends_tls(tls, there.hostname, there.port) as port:

        def url(address):
            return f"rediss://{there.netloc.rpartition('@')[0]}@{address}:{port}{there.path}"

        for address, ca_file in [("127.0.0.1", ""), ("localhost", str(tls.authority))]:
            with (
                test_rabbitmq.publishing_to(url(address), ca_file=ca_file),
                pytest.raises(workers.BrokerAway, match="CERTIFICATE_VERIFY_FAILED"),
                workers.connected(),
            ):
                pass
        with test_rabbitmq.publishing_to(url("127.0.0.1"), ca_file=str(tls.authority)):
            carries = tasks.CeleryTransport()
            carries.probe(QUEUE, datetime.datetime.now(datetime.UTC))

            assert carries.backlog(QUEUE) == 1


@contextlib.contextmanager
def ends_tls(tls, host, port):
    """A port of this machine that speaks TLS, and leads to that one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls.certificate, tls.key)
    loop = asyncio.new_event_loop()

    async def relay(reader, writer):
        beyond_reader, beyond_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(copy(reader, beyond_writer), copy(beyond_reader, writer))

    server = loop.run_until_complete(asyncio.start_server(relay, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        server.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


async def copy(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
