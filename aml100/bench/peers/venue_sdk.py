"""The official SDK: `Exchange.order` signs and sends one resting order a time.

Where a request is on the socket is seen by listening in on the HTTP library that it uses.
"""

import http.client
import json
import sys
import time
from pathlib import Path

import eth_account
import numpy as np
from hyperliquid.exchange import Exchange
from serve import serve

ORDERS = 80

ready = json.loads((Path(sys.argv[1]) / "venues.json").read_text())[sys.argv[2]]
wallet = eth_account.Account.from_key(ready["agent_key"])
exchange = Exchange(wallet, ready["rest"], account_address=ready["account"])
price = int(float(exchange.info.all_mids()["BTC"]) * 0.9)
written = []
send = http.client.HTTPConnection.send


def noting_send(self, data):
    send(self, data)
    written.append(time.perf_counter())


http.client.HTTPConnection.send = noting_send


def percentiles(seconds, key):
    return {f"{key} {name}": float(np.percentile(seconds, name)) * 1e3 for name in (50, 99)}


def measure():
    on_socket, answered, resting = [], [], []
    for _ in range(ORDERS):
        started = time.perf_counter()
        answer = exchange.order("BTC", True, 0.001, price, {"limit": {"tif": "Gtc"}})
        answered.append(time.perf_counter() - started)
        on_socket.append(written[-1] - started)
        resting.append(answer["response"]["data"]["statuses"][0]["resting"]["oid"])
    exchange.bulk_cancel([{"coin": "BTC", "oid": oid} for oid in resting])
    return percentiles(on_socket, "socket") | percentiles(answered, "answer")


measure()
serve(measure)
