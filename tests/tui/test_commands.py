"""Commands from the keyboard: what asks, what does not, and what is seen of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from desk import NOON_MS, SNAPSHOT, Desk, changed, screen_text
from textual.widgets import Input

from aml100.control.protocol import Answer, TrainingView
from aml100.tui.commands import COMMAND_TABLE, question_for
from aml100.tui.source import NotDelivered
from aml100.tui.view import Link, LinkState
from aml100.tui.widgets import dialogs
from aml100.tui.widgets.dialogs import Confirm, Leave


async def test_halt_needs_two_keys_within_three_seconds() -> None:
    """C14, C17: one key warns with the effect in numbers, the second halts without a question."""
    desk = Desk()
    async with desk.open() as pilot:
        await pilot.press("h")
        assert desk.source.asked == []
        text = await desk.settle(pilot)
        assert "h again in 3 s HALTS: cancel, close 1 position, 800.73 USD, costs 0.72" in text
        desk.clock.wall_s = 1003.5
        await pilot.press("h")
        assert desk.source.asked == []
        desk.clock.wall_s = 1006.0
        await pilot.press("h")
        await pilot.pause()
        assert desk.source.asked == [("halt", {})]


@pytest.mark.parametrize("state", [LinkState.STALE, LinkState.OFFLINE])
async def test_halt_goes_out_when_snapshots_are_old(state: LinkState) -> None:
    """C17."""
    desk = Desk()
    desk.source.now = Link(state, 60.0)
    async with desk.open() as pilot:
        await pilot.press("h", "h")
        await pilot.pause()
        assert desk.source.asked == [("halt", {})]


@pytest.mark.parametrize("state", [LinkState.OFFLINE, LinkState.STALE])
async def test_an_engine_that_does_not_answer_closes_nothing_and_is_not_without_alerts(state: LinkState) -> None:
    """C15, C36: its last snapshot had none; what the sentinel found since then is in the file."""
    desk = Desk(changed(alerts=()))
    async with desk.open() as pilot:
        await pilot.press("a")
        assert "✓ no alert" in await desk.settle(pilot)
        desk.source.now = Link(state, 60.0)
        await pilot.press("h")
        text = await desk.settle(pilot)
        assert "no alert" not in text
        assert "as it was: the engine does not answer; alerts.jsonl has what came since" in text
        assert ("HALTS: cancel, close" in text) is (state is LinkState.STALE), "one that hangs obeys when it wakes"
        assert ("no engine answers: h again in 3 s leaves a file HALT" in text) is (state is LinkState.OFFLINE)


async def test_halt_that_nobody_hears_leaves_a_file_and_says_so(tmp_path: Path) -> None:
    """C17, B11: whatever else is broken; and it is not called done."""
    desk = Desk(None, halt_file=tmp_path / "HALT")
    desk.source.answers["halt"] = NotDelivered("no engine to talk to")
    async with desk.open(120, 40) as pilot:
        await pilot.press("h", "h")
        text = await desk.settle(pilot)
        assert (tmp_path / "HALT").exists()
        assert "HALT not confirmed, positions stay open: a file HALT halts the engine now or at its start" in text
        desk.clock.wall_s = 1015.0
        text = await desk.settle(pilot)
        assert "✗ halt failed" in text
        assert "not confirmed; left a file HALT, which halts it now or at its next start: " in text


async def test_halt_works_behind_a_question() -> None:
    """C17."""
    desk = Desk()
    async with desk.open() as pilot:
        await pilot.press("f")
        assert isinstance(desk.app.screen, Confirm)
        await pilot.press("h", "h")
        await pilot.pause()
        assert desk.source.asked == [("halt", {})]


async def test_halt_works_where_a_word_is_asked_for() -> None:
    """C17: on a live account every question asks for one; two keys halt from there too."""
    desk = Desk(changed(mode="LIVE"))
    async with desk.open() as pilot:
        await pilot.press("f", *"FLA", "h")
        assert "h again in 3 s HALTS" in await desk.settle(pilot)
        await pilot.press("h")
        await pilot.pause()
        assert desk.source.asked == [("halt", {})]
        await pilot.press(*"TTEN", "enter")
        await pilot.pause()
        assert desk.source.asked[1:] == [("flatten", {"yes": "FLATTEN"})]


async def test_key_that_halt_no_longer_has_is_a_letter_of_the_word() -> None:
    """C12."""
    desk = Desk(changed(mode="LIVE"), keys={"halt": "f9"})
    async with desk.open() as pilot:
        await pilot.press("f", "h", "h")
        await pilot.pause()
        assert desk.source.asked == []
        assert desk.app.screen.query_one(Input).value == "hh"


def test_no_word_has_the_key_of_halt() -> None:
    words = [question.word for one in COMMAND_TABLE if (question := question_for(one, changed(mode="LIVE")))]
    assert "FLATTEN" in words
    assert not any("h" in word for word in words if word)


@pytest.mark.parametrize("theme", ["dark", "16-colour"])
async def test_mode_and_warning_stand_beside_a_question(theme: str) -> None:
    """C17, C19: what the first `h` says, and on which account, in every theme."""
    desk = Desk(theme=theme)
    async with desk.open() as pilot:
        await pilot.press("f", "h")
        text = await desk.settle(pilot)
        for part in ("mode SIM", "h again in 3 s HALTS", "Flatten?"):
            assert part in text, part


async def test_halt_is_one_palette_entry() -> None:
    """C10, C17."""
    desk = Desk()
    async with desk.open() as pilot:
        await pilot.press("ctrl+p")
        await pilot.pause()
        await pilot.press(*"halt")
        await pilot.pause()
        for _ in range(20):
            await asyncio.sleep(0)
            await pilot.pause()
        await pilot.press("enter")
        await pilot.pause()
        assert desk.source.asked == [("halt", {})]


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ("r", "retrain"),
        ("u", "resume"),
        ("f", "flatten"),
        ("C", "cancel_training"),
        ("R", "resume_training"),
    ],
)
async def test_question_defaults_to_no_and_enter_alone_cancels(key: str, command: str) -> None:
    """C15."""
    desk = Desk(changed(training=TrainingView("running" if command == "cancel_training" else "cancelled")))
    async with desk.open() as pilot:
        await pilot.press(key, "enter")
        await pilot.pause()
        assert desk.source.asked == []
        await pilot.press(key, "escape")
        assert desk.source.asked == []
        await pilot.press(key, "y")
        await pilot.pause()
        assert desk.source.asked == [(command, {})]


async def test_question_states_the_effect_in_numbers() -> None:
    """C15."""
    desk = Desk()
    async with desk.open() as pilot:
        await pilot.press("f")
        assert "close 1 position, 800.73 USD, SIM on sim, costs 0.72" in await desk.settle(pilot)


async def test_pause_asks_nothing_on_a_simulation() -> None:
    desk = Desk()
    async with desk.open() as pilot:
        await pilot.press("p")
        await pilot.pause()
        assert desk.source.asked == [("pause", {})]


async def test_reset_wants_its_word() -> None:
    """C16."""
    desk = Desk()
    async with desk.open() as pilot:
        await pilot.press("x")
        assert "type RESET" in await desk.settle(pilot)
        await pilot.press("y", "enter")
        assert "that is not RESET" in await desk.settle(pilot)
        assert desk.source.asked == []
        desk.app.screen.query_one(Input).value = ""
        await pilot.press(*"RESET", "enter")
        await pilot.pause()
        assert desk.source.asked == [("reset", {"yes": "RESET"})]


@pytest.mark.parametrize(
    ("key", "word"), [("r", "RETRAIN"), ("u", "RESUME"), ("f", "FLATTEN"), ("p", "PAUSE"), ("x", "RESET")]
)
async def test_live_account_wants_the_command_typed(key: str, word: str) -> None:
    """C16: everything but halt."""
    desk = Desk(changed(mode="LIVE", training=TrainingView("idle")))
    async with desk.open() as pilot:
        await pilot.press(key, "enter")
        await pilot.pause()
        await pilot.press(key, "y", "escape")
        await pilot.pause()
        assert desk.source.asked == []
        await pilot.press(key, *word, "enter")
        await pilot.pause()
        assert desk.source.asked == [(word.lower(), {"yes": word})]


async def test_halt_on_a_live_account_asks_nothing() -> None:
    """C17."""
    desk = Desk(changed(mode="LIVE"))
    async with desk.open() as pilot:
        await pilot.press("h", "h")
        await pilot.pause()
        assert desk.source.asked == [("halt", {})]


async def test_command_goes_from_pending_to_done_or_failed() -> None:
    """C22."""
    desk = Desk(changed(training=TrainingView("idle")))
    desk.source.gate = asyncio.Event()
    desk.source.answers["retrain"] = Answer(2, False, "not enough bars to train on", 1)
    async with desk.open() as pilot:
        await pilot.press("p")
        assert "… pause pending" in await desk.settle(pilot)
        desk.source.gate.set()
        assert "✓ pause done" in await desk.settle(pilot)
        await pilot.press("r", "y")
        text = await desk.settle(pilot)
        assert "✗ retrain failed" in text
        assert "not enough bars to train on" in text
        await pilot.press("p")
        assert "✓ pause done" in await desk.settle(pilot)
        desk.clock.wall_s += 20.0
        assert "retrain failed" not in await desk.settle(pilot), (
            "what failed before comes back after what was done since"
        )


async def test_read_only_console_sends_nothing() -> None:
    """C18."""
    desk = Desk(read_only=True)
    async with desk.open() as pilot:
        for keys in (["h", "h"], ["f"], ["x"], ["u"], ["r"], ["p"]):
            await pilot.press(*keys)
            assert "READ-ONLY" in await desk.settle(pilot)
        assert not isinstance(desk.app.screen, Confirm)
        assert desk.source.asked == []


async def test_quit_asks_to_detach_or_stop() -> None:
    """C20."""
    desk = Desk()
    async with desk.open() as pilot:
        await pilot.press("q")
        assert isinstance(desk.app.screen, Leave)
        await pilot.press("enter")
        await pilot.pause()
        assert not isinstance(desk.app.screen, Leave)
        await pilot.press("q", "d")
        await pilot.pause()
    assert desk.app.return_code == 0
    assert desk.source.asked == []


async def test_quit_and_stop_stops_the_engine_then_leaves() -> None:
    desk = Desk()
    async with desk.open() as pilot:
        await pilot.press("q", "s")
        await pilot.pause()
    assert desk.source.asked == [("stop", {})]
    assert desk.app.return_code == 0


async def test_quit_and_stop_on_a_live_account_wants_the_word() -> None:
    """C16."""
    desk = Desk(changed(mode="LIVE"))
    async with desk.open() as pilot:
        await pilot.press("q", "s")
        await pilot.pause()
        assert desk.source.asked == []
        assert "type STOP" in await desk.settle(pilot)


@pytest.mark.parametrize("read_only", [True, False])
async def test_viewer_is_not_told_that_leaving_stops_the_engine(read_only: bool) -> None:
    """C15, C20: neither one that may command nothing, nor one whose lease is elsewhere."""
    desk = Desk(read_only=read_only)
    desk.source.now = Link(LinkState.LIVE, 0.1, controller=read_only)
    async with desk.open() as pilot:
        await pilot.press("q")
        text = await desk.settle(pilot)
        assert "detach: the engine goes on" in text
        assert "stop the engine" not in text
        await pilot.press("s")
        await pilot.pause()
        assert isinstance(desk.app.screen, Leave)


async def test_leaving_a_dead_engine_does_not_say_that_it_goes_on() -> None:
    """C20."""
    desk = Desk()
    desk.source.now = Link(LinkState.OFFLINE, 75.0, "the engine was ended by SIGKILL")
    async with desk.open() as pilot:
        await pilot.press("q")
        text = await desk.settle(pilot)
        assert "the engine is not there; `aml100-console run` starts it again" in text
        assert "goes on" not in text
        assert "stop the engine" not in text
        await pilot.press("d")
        await pilot.pause()
    assert desk.app.return_code == 0


async def test_console_without_the_lease_is_shown_how_to_get_it() -> None:
    """C9, B18: it asks nothing that the engine would refuse; the key that takes over stands in the bar."""
    desk = Desk()
    desk.source.now = Link(LinkState.LIVE, 0.1, controller=False)
    async with desk.open() as pilot:
        assert "T take over" in screen_text(desk.app)
        await pilot.press("f")
        text = await desk.settle(pilot)
        assert "another console commands; T takes over" in text
        assert not isinstance(desk.app.screen, Confirm)
        await pilot.press("T", "y")
        await pilot.pause()
        assert desk.source.asked == [("take_over", {})]
        desk.source.now = Link(LinkState.LIVE, 0.1)
        assert "T take over" not in await desk.settle(pilot)


async def test_outcome_of_a_command_is_not_hidden_by_an_older_word() -> None:
    """C22."""
    desk = Desk()
    async with desk.open() as pilot:
        await pilot.press("f", "escape")
        assert "flatten: nothing was sent" in await desk.settle(pilot)
        await pilot.press("p")
        text = await desk.settle(pilot)
        assert "✓ pause done" in text
        assert "nothing was sent" not in text


async def test_palette_and_enter_halt_nothing() -> None:
    """C14: in a shell these two keys are the last command again."""
    desk = Desk()
    async with desk.open() as pilot:
        await pilot.press("ctrl+p")
        for _ in range(30):
            await pilot.pause()
        await pilot.press("enter")
        for _ in range(10):
            await pilot.pause()
        assert desk.source.asked == []
        assert desk.app.screen.id != "--command-palette"


async def test_what_would_change_nothing_is_not_asked() -> None:
    """C15: no question about a training that is over, or a model that trades already."""
    desk = Desk(changed(training=TrainingView("done", 352, 500)))
    async with desk.open() as pilot:
        await pilot.press("C")
        assert "cancel training: none is under way, the last one is done" in await desk.settle(pilot)
        await pilot.press("R")
        assert "the last training is done: there is nothing to go on with" in await desk.settle(pilot)
        await pilot.press("m", "P")
        assert "promote: m-0012 trades already" in await desk.settle(pilot)
        desk.source.latest = changed(training=TrainingView("running", 7, 500), models=(SNAPSHOT.model,))
        for key, words in (("r", "a training is under way at epoch 7"), ("B", "there is no earlier champion")):
            await pilot.press(key)
            assert words in await desk.settle(pilot)
        assert not isinstance(desk.app.screen, Confirm)


async def test_numbers_of_a_question_are_those_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """C15: what flatten closes is what is open when it is answered, not when it was asked."""
    monkeypatch.setattr(dialogs, "EFFECTS_S", 0.01)
    desk = Desk()
    async with desk.open() as pilot:
        await pilot.press("f")
        assert "close 1 position, " in await desk.settle(pilot)
        desk.source.latest = changed(positions=())
        await pilot.pause(0.2)
        assert "close no open position, SIM on" in await desk.settle(pilot)
        await pilot.press("escape", "q")
        assert "no open position" in await desk.settle(pilot)
        desk.source.latest = SNAPSHOT
        await pilot.pause(0.2)
        assert "1 position, " in await desk.settle(pilot)


async def test_control_c_asks_and_ends_nothing() -> None:
    """C21."""
    desk = Desk()
    async with desk.open() as pilot:
        await pilot.press("ctrl+c")
        await pilot.pause()
        assert isinstance(desk.app.screen, Leave)
        assert desk.source.asked == []


async def test_help_shows_the_real_keys_on_every_screen() -> None:
    """C8, C13."""
    desk = Desk()
    async with desk.open(100, 90) as pilot:
        for key in "dyk":
            await pilot.press(key, "question_mark")
            text = await desk.settle(pilot)
            for command in COMMAND_TABLE[:6]:
                assert command.tooltip in text
            assert "fall of equity from its peak" in text
            await pilot.press("escape")
        await pilot.press("f1")
        assert "Keys" in await desk.settle(pilot)


async def test_help_of_a_viewer_offers_no_command() -> None:
    """C8, C9: only what can be done here; and the words that stand on the screen are explained."""
    desk = Desk(read_only=True)
    async with desk.open(100, 90) as pilot:
        await pilot.press("question_mark")
        text = await desk.settle(pilot)
        assert "Close every position at the market" not in text
        assert "Everything at a glance" in text
        for word in ("READ-ONLY", "HALTED", "MANAGE ONLY", "hold-out", "luck", "at stop", "confidence"):
            assert word in text, word


async def test_keys_are_remapped_by_id() -> None:
    """C12."""
    desk = Desk(keys={"pause": "z"})
    async with desk.open(100, 50) as pilot:
        await pilot.press("p")
        await pilot.pause()
        assert desk.source.asked == []
        await pilot.press("z")
        await pilot.pause()
        assert desk.source.asked == [("pause", {})]


async def test_ids_are_copied_to_clipboard_and_file(tmp_path: Path) -> None:
    """C32."""
    desk = Desk(folder=tmp_path)
    async with desk.open() as pilot:
        await pilot.press("c")
        await pilot.pause()
        text = (tmp_path / "console-ids.txt").read_text()
        assert "model m-0012-abcd" in text
        assert "stop BTC 1234567" in text
        assert desk.app.clipboard == text.strip()
        await pilot.press("t", "down", "c")
        await pilot.pause()
        assert desk.app.clipboard == "1234567 0x" + "a" * 32


async def test_screen_is_dumped_as_text_and_picture(tmp_path: Path) -> None:
    """C43."""
    desk = Desk(folder=tmp_path)
    async with desk.open() as pilot:
        await pilot.press("ctrl+s")
        await pilot.pause()
    stem = f"console-{NOON_MS}"
    assert "10,123.46 USD" in (tmp_path / f"{stem}.txt").read_text()
    assert (tmp_path / f"{stem}.svg").read_text().startswith("<svg")


def test_every_command_is_bound_or_in_the_palette_and_no_key_twice() -> None:
    """C33: one table; every key once."""
    keys = [key for command in COMMAND_TABLE for key in command.keys.split(",") if key]
    assert len(keys) == len(set(keys))
    assert {"r", "x", "h", "u", "f", "p", "y", "m", "l", "q", "ctrl+p", "question_mark", "f1"} <= set(keys)


@pytest.mark.parametrize("command", [one for one in COMMAND_TABLE if one.to_engine], ids=lambda one: one.id)
def test_no_single_key_moves_money(command: object) -> None:
    """C14: what reaches the engine asks first, except halt (two keys) and pause (adds no risk)."""
    for one in COMMAND_TABLE:
        if one is command and one.id not in ("halt", "pause"):
            assert question_for(one, None) is not None
            assert question_for(one, changed()) is not None


async def test_text_typed_into_a_filter_is_no_command() -> None:
    desk = Desk()
    async with desk.open() as pilot:
        await pilot.press("l", "slash", *"hhfp")
        await pilot.pause()
        assert desk.source.asked == []
        assert "hhfp" in screen_text(desk.app)
