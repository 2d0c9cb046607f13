"""Textual by itself: an application of one line of text on a terminal of 120x40, from its start to that line."""

import sys

from on_terminal import run
from serve import serve

APP = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("the first line")
Bare().run(mouse=False)
"""


def measure():
    seen, passed, spent = run([sys.executable, "-c", APP], until=b"the first line")
    assert b"the first line" in seen, seen[-500:]
    return {"wall": passed, "processor": spent}


measure()
serve(measure)
