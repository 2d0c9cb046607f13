"""Bare Textual: an application of a header, a footer and one word, timed to its first frame as the console is."""

import sys
from pathlib import Path

from serve import serve

APPLICATION = """
from textual.app import App
from textual.widgets import Footer, Header, Static

class Bare(App):
    def compose(self):
        yield Header()
        yield Static("equity")
        yield Footer()

Bare().run()
"""

if __name__ == "__main__":
    from aml100.bench.startup import first_paint_s

    folder = Path(sys.argv[1])
    path = folder / "bare.py"
    path.write_text(APPLICATION)
    serve(lambda: first_paint_s([sys.executable, str(path)], folder))
