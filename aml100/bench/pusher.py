"""A websocket that plays recorded frames as fast as they are taken: `python -m aml100.bench.pusher FILE`.

FILE holds one frame a line. The port comes on stdout. Subscriptions are acknowledged; the message
`{"method": "go"}` starts the frames, which are framed beforehand so that the sender is never what is measured.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed


def framed(payload: bytes) -> bytes:
    """One unmasked text frame, as a server sends it.

    >>> framed(b"{}"), framed(b"x" * 200)[:4], framed(b"x" * 70_000)[:3]
    (b'\\x81\\x02{}', b'\\x81~\\x00\\xc8', b'\\x81\\x7f\\x00')
    """
    if len(payload) < 126:
        head = struct.pack("!BB", 0x81, len(payload))
    elif len(payload) < 1 << 16:
        head = struct.pack("!BBH", 0x81, 126, len(payload))
    else:
        head = struct.pack("!BBQ", 0x81, 127, len(payload))
    return head + payload


async def main(lines: Sequence[bytes]) -> None:
    """Serve until stdin ends."""
    frames = b"".join(map(framed, lines))

    async def talk(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            async for message in connection:
                asked = json.loads(message)
                if asked["method"] == "go":
                    connection.transport.write(frames)
                else:
                    await connection.send(json.dumps({"channel": "subscriptionResponse", "data": asked}))

    async with serve(talk, "127.0.0.1", 0, compression=None, ping_interval=None) as server:
        sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).read_bytes().split(b"\n")))
