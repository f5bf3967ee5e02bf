"""An HTTP load of many clients from one process.

It shares the processor with the service it measures, so it parses only the status and the length of an answer.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import uvloop

TIMEOUT_SECONDS = 60

# The name and the bytes of the request with a number.
Requests = Callable[[int], tuple[str, bytes]]


@dataclass
class LoadResult:
    """Seconds of each answer by name of its request, other answers than 200, and the duration of the load."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    took_seconds: float = 0.0

    @property
    def answers(self) -> int:
        """The number of answers."""
        return sum(len(each) for each in self.seconds.values())

    def figures(self) -> dict[str, Any]:
        """Latencies of all answers together, and the number of errors."""
        everything = np.concatenate([np.array(each) for each in self.seconds.values()]) * 1000
        shares = {f"p{share}_ms": round(float(np.percentile(everything, share)), 1) for share in (50, 95, 99)}
        per_second = round(self.answers / self.took_seconds, 1)
        return {
            "requests": self.answers,
            "errors": sum(self.refused.values()),
            **shares,
            "requests_per_second": per_second,
        }

    def record(self, name: str, status: int, seconds: float) -> None:
        """Add one answer."""
        self.seconds.setdefault(name, []).append(seconds)
        if status != 200:
            self.refused[f"{name} {status}"] += 1


def post(path: str, body: bytes) -> bytes:
    """The bytes of one POST of JSON."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "
        f"{len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def get(path: str) -> bytes:
    """The bytes of one GET."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode("ascii")


def closed(port: int, clients: int, requests: Requests, count: int) -> LoadResult:
    """A closed loop of `count` requests: each of `clients` connections sends the next one after each answer."""
    return uvloop.run(_run(port, clients, requests, count, None))


def paced(port: int, clients: int, requests: Requests, count: int, rate: float) -> LoadResult:
    """An open load of `count` requests, `rate` a second, over `clients` connections.

    Latency counts from the time a request was due, even if all connections were busy then.
    """
    return uvloop.run(_run(port, clients, requests, count, rate))


async def _run(port: int, clients: int, requests: Requests, count: int, rate: float | None) -> LoadResult:
    load, turns = LoadResult(), iter(range(count))
    connections = [await _Connection.open(port) for _ in range(clients)]
    started = time.perf_counter()

    async def client(connection: _Connection) -> None:
        for turn in turns:
            name, request = requests(turn)
            due = time.perf_counter() if rate is None else started + turn / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            status = await connection.ask(request)
            load.record(name, status, time.perf_counter() - due)
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
            if at >= 0:
                await self._reader.readexactly(int(head[at + 15 : head.index(b"\r\n", at)]))
            else:
                while size := int((await self._reader.readuntil(b"\r\n")).strip(), 16):
                    await self._reader.readexactly(size + 2)
                await self._reader.readexactly(2)
        return int(head[9:12])

    def close(self) -> None:
        self._writer.close()
