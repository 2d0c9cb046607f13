"""The console in a real terminal multiplexer: `attach` inside tmux, with an engine of its own process behind it."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

TMUX = shutil.which("tmux")
pytestmark = pytest.mark.skipif(TMUX is None, reason="tmux is not installed")

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PATIENCE_S = 30.0
GONE_S = 5.0
WATCHED_S = 4.0


class Tmux:
    """A server of its own with one window that runs a shell."""

    def __init__(self, folder: Path, width: int, height: int, term: str) -> None:
        self._socket = folder / "tmux"
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
        config = folder / "tmux.conf"
        config.write_text(f"set -g default-terminal {term}\nset -g status off\nset -g escape-time 20\n")
        start = folder / "shell"
        start.write_text("PS1='prompt> '\n")
        shell = f"bash --noprofile --rcfile {shlex.quote(str(start))} -i"
        command = [str(TMUX), "-S", str(self._socket), "-f", str(config), "new-session", "-d", "-x", str(width)]
        subprocess.run([*command, "-y", str(height), shell], check=True, env=environment)

    def do(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(TMUX), "-S", str(self._socket), *arguments], capture_output=True, text=True, check=False
        )
        return done.stdout

    def keys(self, *keys: str) -> None:
        self.do("send-keys", *keys)

    def type(self, line: str) -> None:
        self.do("send-keys", "-l", line)
        self.keys("Enter")

    @property
    def screen(self) -> str:
        return self.do("capture-pane", "-p")

    def modes(self) -> str:
        """Which of canonical input and echo the shell's terminal has; both after a console that cleaned up."""
        self.type("clear; stty -a | grep -o -w -e icanon -e echo | tr '\\n' ' '; echo to''ld")
        before, _, _ = self.wait_for("told").partition("told")
        return before.splitlines()[-1].strip()

    def wait_for(self, *wanted: str, without: str = "\0") -> str:
        """The screen once it holds every wanted text, and not the other one."""

        def holds() -> bool:
            text = self.screen
            return all(part in text for part in wanted) and without not in text

        _until(holds, lambda: f"{wanted} in\n{self.screen}")
        return self.screen


def _until(holds: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"never came: {what()}"
        time.sleep(0.1)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state.db with a living engine."""
    path = tmp_path / "state.db"
    engine = subprocess.Popen(
        [sys.executable, str(HERE / "idle_engine.py"), str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert engine.stdout is not None
    assert engine.stdout.readline() == "ready\n"
    yield path
    assert engine.poll() is None, "the engine died with a console"
    engine.kill()
    engine.wait()


@pytest.fixture
def tmux(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Tmux]:
    width, height, term = getattr(request, "param", (80, 24, "screen-256color"))
    opened = Tmux(tmp_path, width, height, term)
    yield opened
    opened.do("kill-server")


def attach(state: Path, *options: str) -> str:
    return shlex.join([sys.executable, "-m", "aml100", "attach", "--state", str(state), *options])


def consoles(state: Path) -> list[psutil.Process]:
    """Consoles of this state.db that live."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "attach" in line and str(state) in line and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


@pytest.mark.parametrize("tmux", [(80, 24, "screen"), (100, 30, "tmux-256color")], indirect=True)
def test_console_works_in_tmux_and_follows_its_size(tmux: Tmux, state: Path) -> None:
    """C31, C3, C2: whole at the start, in more room, in too little, and back."""
    tmux.type(attach(state))
    text = tmux.wait_for("10,123.46 USD", "mode SIM", "TRADING", "PROTECTED", "h h")
    assert "─ position" in text
    tmux.do("resize-window", "-x", "200", "-y", "60")
    tmux.wait_for("price BTC", "actions", "run r-20250630-1", "TP 66,170.5")
    tmux.do("resize-window", "-x", "60", "-y", "15")
    tmux.wait_for("needs 80x24, has 60x15", "equity 10,123.46")
    tmux.do("resize-window", "-x", "80", "-y", "24")
    tmux.wait_for("─ position", "10,123.46 USD", "h h", without="needs 80x24")


def test_lost_line_takes_the_console_and_not_the_engine(tmux: Tmux, state: Path) -> None:
    """C28, B18: the window is closed as a dropped SSH line closes it."""
    tmux.type(attach(state))
    tmux.wait_for("10,123.46 USD")
    (console,) = consoles(state)
    tmux.do("kill-server")
    psutil.wait_procs([console], timeout=GONE_S)
    assert consoles(state) == []


def test_suspended_console_gives_the_terminal_back_and_returns(tmux: Tmux, state: Path) -> None:
    """C35: ctrl-Z shows the shell, fg the dashboard; after leaving, the terminal echoes."""
    tmux.type(attach(state))
    tmux.wait_for("10,123.46 USD")
    tmux.keys("C-z")
    tmux.wait_for("prompt>", without="10,123.46 USD")
    tmux.type("fg")
    tmux.wait_for("10,123.46 USD", "h h")
    tmux.keys("q")
    tmux.wait_for("Leave the console?")
    tmux.keys("d")
    tmux.wait_for("prompt>", without="10,123.46 USD")
    assert tmux.modes() == "icanon echo"


def test_crashed_console_leaves_a_sane_terminal(tmux: Tmux, tmp_path: Path) -> None:
    """C35."""
    script = tmp_path / "crash.py"
    script.write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        "from desk import SNAPSHOT\n"
        "from aml100.tui.app import ConsoleApp\n"
        "from aml100.tui.source import FakeSource\n"
        "class Crashing(FakeSource):\n"
        "    asked_for = 0\n"
        "    def link(self):\n"
        "        self.asked_for += 1\n"
        "        if self.asked_for > 8: raise RuntimeError('a mistake of ours')\n"
        "        return super().link()\n"
        "ConsoleApp(Crashing(SNAPSHOT)).run(mouse=False)\n"
    )
    tmux.type(shlex.join([sys.executable, str(script)]))
    tmux.wait_for("a mistake of ours", "prompt>")
    assert tmux.modes() == "icanon echo"


@pytest.mark.parametrize(("options", "most"), [((), 2000), (("--low-bandwidth",), 500)])
def test_idle_console_sends_little(
    tmux: Tmux, state: Path, tmp_path: Path, options: tuple[str, ...], most: int
) -> None:
    """C30: bytes a second of a market at real speed. A slow machine sends less, so this cannot fail by load."""
    tmux.type(attach(state, *options))
    tmux.wait_for("10,123.46 USD")
    time.sleep(1.0)
    sent = tmp_path / "sent"
    tmux.do("pipe-pane", f"cat > {shlex.quote(str(sent))}")
    time.sleep(WATCHED_S)
    tmux.do("pipe-pane")
    _until(sent.exists, lambda: "the pipe")
    rate = sent.stat().st_size / WATCHED_S
    assert 0 < rate <= most


def test_ids_reach_the_clipboard_of_the_terminal(tmux: Tmux, state: Path) -> None:
    """C32: by OSC 52, through tmux, which keeps them in its buffer."""
    tmux.do("set", "-s", "set-clipboard", "on")
    tmux.type(attach(state))
    tmux.wait_for("10,123.46 USD")
    tmux.keys("t")
    tmux.wait_for("open orders")
    tmux.keys("Down")
    tmux.keys("c")
    _until(lambda: "1234567 0x" + "a" * 32 in tmux.do("show-buffer"), lambda: tmux.do("show-buffer"))
    assert "copied 1234567" in tmux.wait_for("copied 1234567")
