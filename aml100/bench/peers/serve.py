"""How a peer's script answers: `"ready"`, then one JSON line on stdout for every line on stdin, until stdin ends.

Run by the peer's own Python, so nothing but the standard library here. A script prepares and warms up, then calls
`serve(measure)`, where `measure()` works once through its task and returns a number, or numbers by figure key. What
the peer's libraries print goes to stderr.
"""

import json
import os
import sys


def serve(measure):
    """Answer until the frame has had enough."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    answers.write('"ready"\n')
    answers.flush()
    for _ in sys.stdin:
        answers.write(json.dumps(measure()) + "\n")
        answers.flush()
