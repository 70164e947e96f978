"""One vLLM server over HTTP, where it answers as such servers do under load."""

import asyncio

import pytest

from serving.engines.replica import Replica, ReplicaGone
from serving.engines.replica_access import ReplicaAccess

MODELS = b'{"data": [{"id": "base", "parent": null, "max_model_len": 64}, {"id": "shop@1", "parent": "base"}]}'


async def refreshed(num_closed: int) -> Replica:
    """After asking a server that closes so many connections as it is asked on them."""
    closed = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal closed
        await reader.readuntil(b"\r\n\r\n")
        if closed < num_closed:
            closed += 1
        else:
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(MODELS)}\r\nConnection: close\r\n\r\n"
            writer.write(head.encode() + MODELS)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        replica = Replica(f"http://{host}:{port}", ReplicaAccess())
        try:
            await replica.refresh()
        finally:
            await replica.close()
        return replica


@pytest.mark.parametrize("num_closed", [0, 1])
def test_a_connection_that_is_closed_as_it_is_asked_on_says_nothing_of_a_server(num_closed):
    replica = asyncio.run(refreshed(num_closed))
    assert replica.base_name == "base" and replica.resident == {"shop@1"}


def test_a_server_that_closes_them_all_is_gone():
    with pytest.raises(ReplicaGone):
        asyncio.run(refreshed(2))
