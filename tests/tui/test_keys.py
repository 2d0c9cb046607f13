"""Keys of the operator's own: remapped by id, refused where they could not work, followed everywhere."""

from __future__ import annotations

import pytest
from desk import Desk
from textual.widgets import Input

from aml100.domain.errors import UsageError
from aml100.tui.app import Look
from aml100.tui.commands import COMMAND_TABLE, RESERVED, checked_keys


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"pause": "h"}, 'console.keys.pause: "h" is the key of halt'),
        ({"pause": "ctrl+e", "flatten": "ctrl+e"}, '"ctrl+e" is the key of'),
        ({"halt": "y"}, 'console.keys.halt: "y" moves in lists and dialogs'),
        ({"pauze": "i"}, '"pauze" is no command, did you mean "pause"?'),
        ({"stop": "i"}, "this command has no key"),
        ({"halt": ""}, "is no key"),
        ({"pause": "two words"}, "is no key"),
        ({"halt": "banana"}, "is no key that a terminal sends"),
        ({"halt": "shift+h"}, "is no key that a terminal sends"),
        ({"halt": "ctrl+m"}, "is no key that a terminal sends"),
        ({"pause": "ctrl+i"}, "is no key that a terminal sends"),
        ({"halt": " enter"}, "moves in lists"),
    ],
)
def test_keys_that_cannot_work_together_are_refused(keys: dict[str, str], words: str) -> None:
    """C12: the conflict is reported, by name and key."""
    with pytest.raises(UsageError, match=r"params\.json") as refused:
        checked_keys(keys)
    assert words in str(refused.value)
    assert refused.value.exit_code == 2


def test_swapped_keys_are_no_conflict() -> None:
    """C12."""
    assert checked_keys({"pause": "f", "flatten": "p"}) == {"pause": "f", "flatten": "p"}
    assert checked_keys({"pause": "f, f5", "flatten": "?,p", "help": "f1"}) == {
        "pause": "f,f5",
        "flatten": "question_mark,p",
        "help": "f1",
    }


def test_table_itself_has_no_conflict() -> None:
    checked_keys({})
    taken = {key for command in COMMAND_TABLE for key in command.keys.split(",") if command.id != "why"}
    assert taken & RESERVED == set()


async def test_remapped_halt_works_everywhere_and_is_shown() -> None:
    """C8, C9, C12, C17: in the key bar, in help, on the dashboard and inside a dialog."""
    desk = Desk(keys={"halt": "z"})
    async with desk.open(120, 40) as pilot:
        text = await desk.settle(pilot)
        assert " z z halt" in text
        await pilot.press("h", "h")
        await pilot.pause()
        assert desk.source.asked == []
        await pilot.press("f", "z", "z")
        await pilot.pause()
        assert desk.source.asked == [("halt", {})]
        await pilot.press("escape", "question_mark")
        assert "z z       halt" in await desk.settle(pilot)


async def test_configuration_is_applied_behind_the_first_frame() -> None:
    """C5, C12, C25."""
    desk = Desk(load=lambda: Look("light", {"pause": "ctrl+e"}, 2.0))
    async with desk.open() as pilot:
        await desk.finish(pilot, "configuration")
        text = await desk.settle(pilot)
        assert desk.app.theme == "light"
        assert desk.app.fps == 2.0
        assert " ctrl+e pause" in text


async def test_wrong_configuration_ends_the_console_with_its_words() -> None:
    def wrong() -> Look:
        raise UsageError("params.json: console.fps: 99 is out of range")

    desk = Desk(load=wrong)
    async with desk.open() as pilot:
        await desk.finish(pilot, "configuration")
        await pilot.pause()
    assert desk.app.return_value == 2
    assert str(desk.app.failure) == "params.json: console.fps: 99 is out of range"


async def test_engine_that_fails_to_start_ends_the_console_with_its_words() -> None:
    """C5: the console is open while the engine starts; what keeps it from starting is said on the way out."""
    desk = Desk(None, engine_failed=lambda: UsageError("--data nothing.parquet: no such file"))
    async with desk.open() as pilot:
        desk.app._watch_engine()
        await pilot.pause()
    assert desk.app.return_value == 2
    assert "no such file" in str(desk.app.failure)


async def test_everything_is_reached_by_keyboard() -> None:
    """C33: the filter, its clearing, a row and the way back without a mouse."""
    desk = Desk()
    async with desk.open(100, 30) as pilot:
        await pilot.press("t", "slash")
        assert isinstance(desk.app.focused, Input)
        await pilot.press(*"stop", "enter", "down", "enter", "escape", "escape", "escape")
        assert "10,123.46" in await desk.settle(pilot)


async def test_a_remapped_halt_is_named_wherever_halt_is() -> None:
    """C8, C12: in the past, in a terminal too small, and in what the first press says."""
    desk = Desk(keys={"halt": "f8"})
    async with desk.open() as pilot:
        await pilot.press("f8")
        assert "f8 again in 3 s HALTS" in await desk.settle(pilot)
    small = Desk(keys={"halt": "f8"})
    async with small.open(60, 15) as pilot:
        assert "f8 f8  halt" in await small.settle(pilot)


async def test_a_read_only_console_offers_no_halt() -> None:
    """C9: the keys that are valid here."""
    desk = Desk(read_only=True)
    async with desk.open() as pilot:
        assert "h h halt" not in await desk.settle(pilot)
    small = Desk(read_only=True)
    async with small.open(60, 15) as pilot:
        text = await small.settle(pilot)
        assert "READ-ONLY" in text
        assert "halt" not in text
