"""A dashboard of the same matter as ours, the usual way: textual-plot, a DataTable and Static texts, at 120x40.

Every redraw changes all of it: both curves are plotted anew with their marks and levels, the table gets new rows, the
texts new figures. Answers the processor milliseconds of one redraw, painting on the terminal included.
"""

import sys
import tempfile
from pathlib import Path

from on_terminal import run
from serve import serve

APP = '''
import math, sys, time
from pathlib import Path
from textual.app import App
from textual.containers import Horizontal
from textual.widgets import DataTable, Static
from textual_plot import HiResMode, PlotWidget

WARM, REDRAWS = 5, 30
OBJECTIVES = ("return /month", "Sharpe", "profit factor", "win rate", "drawdown max", "trade density")


class Dashboard(App):
    CSS = """
    Static { width: 1fr; height: 1fr; }
    PlotWidget { width: 1fr; height: 1fr; }
    #top { height: 17; }
    #middle, #bottom { height: 5; }
    #banner { height: 2; }
    #keys { height: 1; }
    DataTable { height: 1fr; }
    """

    def compose(self):
        yield Static(id="banner")
        with Horizontal(id="top"):
            yield Static(id="phase")
            yield PlotWidget(id="equity")
            yield PlotWidget(id="price")
        with Horizontal(id="middle"):
            yield Static(id="position")
            yield Static(id="performance")
            yield Static(id="actions")
        yield DataTable(id="decisions", show_cursor=False)
        with Horizontal(id="bottom"):
            yield Static(id="feed")
            yield Static(id="training")
        yield Static(id="keys")

    def on_mount(self):
        self.query_one(DataTable).add_columns("UTC", "coin", "action", "Q of HOLD BUY SELL", "outcome", "why")
        self.done, self.spent = 0, 0.0
        self.call_after_refresh(self.again)

    def again(self):
        if self.done == WARM:
            self.spent = -time.process_time()
        if self.done == WARM + REDRAWS:
            Path(sys.argv[1]).write_text(str((self.spent + time.process_time()) / REDRAWS * 1000))
            self.exit()
            return
        self.done += 1
        self.redraw(self.done)
        self.call_after_refresh(self.again)

    def redraw(self, n):
        def say(name, text):
            self.query_one("#" + name, Static).update(text)

        say("banner", f"[b]mode SIM[/] TRADING in position\\nsynthetic ×60 12:{n:02d}:05 UTC sim/venue lag {n}.2 ms")
        say("phase", "[b]phase Foundation[/]  cycles 1/3\\n" + "\\n".join(
            f"{name:<14} [b]{n * 0.1:6.2f}[/] [dim]≥ 0.5[/]   [green]✓ PASS[/]" for name in OBJECTIVES)
            + f"\\ncycle 2 day {n / 10:.1f} of 30  luck {n} %")
        say("position", f"[b]BTC[/] [green]▲ LONG[/] 0.0123 @ 65,000.5   [green]+{n}.34[/]\\n"
            f"TP 66,170.5  SL 64,610.5  mark 65,{100 + n}\\n[green]✓ PROTECTED[/] stop 1234567 age {n}.1 s")
        say("performance", f"win rate [b]{38 + n / 10:.1f} %[/] of {n}  PF 1.10\\nSharpe 0.8{n} [dim][0.1, 1.4][/dim]"
            f"\\nHOLD {n}  BUY {n}  SELL {n}\\nfees {n}.20 funding -1.25")
        say("actions", "\\n".join(f"{name} {'█' * (n % 9) + '▄' * 9} {n} {n} %" for name in ("HOLD", "BUY", "SELL")))
        say("feed", "\\n".join(f"[green]● LIVE[/] BTC {name} [dim]0.{n} s[/]" for name in ("candle", "l2Book", "bbo")))
        say("training", f"epoch [b]{n}/500[/] ETA 3m{n}s\\nloss 0.01{n}  validation +0.{n} %\\nmodel m-0012")
        say("keys", f"[reverse] h h [/] halt  [reverse] q [/] quit  [reverse] p [/] pause  y why  t trades {n}")
        at = [float(x) for x in range(240)]
        for name, base, swing in (("equity", 10_000.0 + n, 40.0), ("price", 65_000.0 + n, 300.0)):
            plot = self.query_one("#" + name, PlotWidget)
            values = [base + swing * math.sin((x + n) / 17) for x in at]
            plot.clear()
            plot.plot(at, values, hires_mode=HiResMode.BRAILLE, line_style="cyan")
            if name == "price":
                plot.plot([0.0, 239.0], [base + 250] * 2, hires_mode=HiResMode.BRAILLE, line_style="green")
                plot.plot([0.0, 239.0], [base - 250] * 2, hires_mode=HiResMode.BRAILLE, line_style="red")
                plot.scatter(at[::20], values[::20], marker="▲", marker_style="green")
                plot.scatter(at[10::20], values[10::20], marker="×", marker_style="red")
            else:
                peaks, peak = [], values[0]
                for value in values:
                    peak = max(peak, value)
                    peaks.append(peak)
                plot.plot(at, peaks, hires_mode=HiResMode.BRAILLE, line_style="red")
        table = self.query_one(DataTable)
        table.clear()
        table.add_rows(
            (f"12:{(at + n) % 60:02d}", "BTC", ("HOLD", "BUY", "SELL")[(at + n) % 3],
             f"+0.0{n:02d} -0.0{at:02d} +0.010", "none", f"no entry: gap 0.01{at:02d} is under 0.05{n:02d}")
            for at in range(10)
        )


Dashboard().run(mouse=False)
'''

FOLDER = Path(tempfile.mkdtemp())
(FOLDER / "app.py").write_text(APP)


def measure():
    answer = FOLDER / "answer"
    answer.unlink(missing_ok=True)
    seen, _, _ = run([sys.executable, str(FOLDER / "app.py"), str(answer)])
    assert answer.exists(), seen[-1000:]
    return float(answer.read_text())


measure()
serve(measure)
