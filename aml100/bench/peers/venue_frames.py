"""websockets + orjson: the frames of a stream received and parsed, nothing else."""

import asyncio
import json
import sys
import time
from pathlib import Path

import orjson
from serve import serve
from websockets.asyncio.client import connect

folder = Path(sys.argv[1])
url = (folder / "url").read_text()
count = len((folder / "frames.jsonl").read_bytes().split(b"\n"))


async def read():
    async with connect(url, compression=None, ping_interval=None) as socket:
        await socket.send(json.dumps({"method": "go"}))
        started = time.process_time()
        for _ in range(count):
            orjson.loads(await socket.recv(decode=False))
        return {"rate": count / (time.process_time() - started)}


def measure():
    return asyncio.run(read())


measure()
serve(measure)
