"""Bytes between a connection that came in and one to where it was meant for."""

import asyncio
import socket
from collections.abc import Sequence

from finetune.guard.endpoint import Endpoint

_CHUNK_BYTES = 1 << 16


def carry(listeners: Sequence[tuple[socket.socket, Endpoint]]) -> None:
    """Connect whatever comes in at a listener with its endpoint, until this process is ended."""
    asyncio.run(_carry(listeners))


async def _carry(listeners: Sequence[tuple[socket.socket, Endpoint]]) -> None:
    for listener, endpoint in listeners:

        async def answer(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, endpoint: Endpoint = endpoint
        ) -> None:
            await _answer(endpoint, reader, writer)

        await asyncio.start_server(answer, sock=listener)
    await asyncio.Event().wait()


async def _answer(endpoint: Endpoint, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        far_reader, far_writer = await _connected(endpoint)
    except OSError:
        # as abrupt as it can be made from here: the caller sees a connection that broke
        writer.transport.abort()
        return
    await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
    for one in (writer, far_writer):
        one.close()


async def _connected(endpoint: Endpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The first of the endpoint's addresses that answers."""
    failure = OSError("no address")
    for address in endpoint.addresses:
        try:
            return await asyncio.open_connection(address, endpoint.port)
        except OSError as error:
            failure = error
    raise failure


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes until one side has no more, and tell the other so; a side that broke breaks the other."""
    try:
        while chunk := await reader.read(_CHUNK_BYTES):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()
