"""A JSON library: trades and books parsed, every price and size made a float."""

import importlib
import sys
import time
from pathlib import Path

from serve import serve

folder, library = Path(sys.argv[1]), sys.argv[2]
loads = importlib.import_module(library).loads
trades = (folder / "trades.jsonl").read_bytes().split(b"\n") * 10
books = (folder / "book.jsonl").read_bytes().split(b"\n") * 5


def parse_trades():
    for line in trades:
        for trade in loads(line)["data"]:
            trade["px"], trade["sz"] = float(trade["px"]), float(trade["sz"])


def parse_books():
    for line in books:
        for side in loads(line)["data"]["levels"]:
            for level in side:
                level["px"], level["sz"] = float(level["px"]), float(level["sz"])


def rate(count, work):
    started = time.process_time()
    work()
    return count / (time.process_time() - started)


def measure():
    return {"trades typed": rate(len(trades), parse_trades), "book typed": rate(len(books), parse_books)}


measure()
serve(measure)
