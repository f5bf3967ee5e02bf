"""Many clients over HTTP from one cheap process: requests are made before, answers are hardly looked at.

What it takes of the processor is missing to the service on the same machine, so it parses no more than a status and a
length. Which questions are asked is `serve.py`'s to say.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import uvloop

TIMEOUT_SECONDS = 60


@dataclass
class Load:
    """What a load met: seconds of each answer, statuses that were not 200, and how long it all took."""

    seconds: list[float] = field(default_factory=list)
    errors: list[int] = field(default_factory=list)
    took_seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.seconds) / self.took_seconds


def request(path: str, body: bytes) -> bytes:
    """The bytes of one POST of JSON."""
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode("ascii") + body


def closed(port: int, clients: int, requests: Sequence[bytes], count: int) -> Load:
    """`clients` connections, each of which asks again once it was answered, until `count` answers came."""
    return uvloop.run(_closed(port, clients, requests, count))


def paced(port: int, clients: int, requests: Sequence[bytes], count: int, rate: float) -> Load:
    """`count` requests, `rate` a second, over `clients` connections. Each is timed from the moment it was due, also where
    every connection was still waiting then."""
    return uvloop.run(_paced(port, clients, requests, count, rate))


async def _closed(port: int, clients: int, requests: Sequence[bytes], count: int) -> Load:
    load, turns = Load(), iter(range(count))

    async def client() -> None:
        connection = await _Connection.open(port)
        for turn in turns:
            begun = time.perf_counter()
            status = await connection.ask(requests[turn % len(requests)])
            load.seconds.append(time.perf_counter() - begun)
            if status != 200:
                load.errors.append(status)
        connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    load.took_seconds = time.perf_counter() - started
    return load


async def _paced(port: int, clients: int, requests: Sequence[bytes], count: int, rate: float) -> Load:
    load, turns = Load(), iter(range(count))
    connections = [await _Connection.open(port) for _ in range(clients)]
    started = time.perf_counter()

    async def client(connection: _Connection) -> None:
        for turn in turns:
            due = started + turn / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            status = await connection.ask(requests[turn % len(requests)])
            load.seconds.append(time.perf_counter() - due)
            if status != 200:
                load.errors.append(status)
        connection.close()

    await asyncio.gather(*(client(connection) for connection in connections))
    load.took_seconds = time.perf_counter() - started
    return load


class _Connection:
    """One kept-alive connection; one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> "_Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))

    async def ask(self, request: bytes) -> int:
        """The status of the answer, which is read to its end."""
        self._writer.write(request)
        async with asyncio.timeout(TIMEOUT_SECONDS):
            head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
            at = head.find(b"content-length:")
            if at < 0:
                while size := int((await self._reader.readuntil(b"\r\n")).strip() or b"0", 16):
                    await self._reader.readexactly(size + 2)
                await self._reader.readexactly(2)
            else:
                await self._reader.readexactly(int(head[at + 15 : head.index(b"\r\n", at)]))
        return int(head[9:12])

    def close(self) -> None:
        self._writer.close()
