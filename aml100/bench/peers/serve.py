"""How a peer's script answers: `"ready"`, then one JSON line on stdout for every line on stdin, until stdin ends.

Run by the peer's own Python, so nothing but the standard library here. A script prepares and warms up, then calls
`serve(measure)`, where `measure()` works once through its task and returns a number, or numbers by figure key. What
the peer's libraries print goes to stderr.
"""

import json
import os
import sys
import time

LEAST_S = 0.3


def per_second(count, work):
    """`count` things done by one call of `work`, a second of processor time; called until LEAST_S seconds are used."""
    started, calls, taken = time.process_time(), 0, 0.0
    while taken < LEAST_S:
        work()
        calls += 1
        taken = time.process_time() - started
    return count * calls / taken


def serve(measure):
    """Answer until the frame has had enough."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answers.write('"ready"\n')
    answers.flush()
    for _ in sys.stdin:
        answers.write(json.dumps(measure()) + "\n")
        answers.flush()
