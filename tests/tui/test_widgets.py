"""Lines, curves and colours."""

from __future__ import annotations

import subprocess
import sys

import pytest
from textual.color import Color

from aml100.tui.ink import ROLES, Column, cells, cut_words, emphasised, first_fit, fit, line, pack, plain, rule, table
from aml100.tui.themes import PALETTES, inks_of
from aml100.tui.widgets.chart import bars, curve

# The sixteen colours as xterm draws them.
XTERM = {
    "black": "#000000", "red": "#cd0000", "green": "#00cd00", "yellow": "#cdcd00", "blue": "#0000ee",
    "magenta": "#cd00cd", "cyan": "#00cdcd", "white": "#e5e5e5", "bright_black": "#7f7f7f", "bright_red": "#ff0000",
    "bright_green": "#00ff00", "bright_yellow": "#ffff00", "bright_blue": "#5c5cff", "bright_magenta": "#ff00ff",
    "bright_cyan": "#00ffff", "bright_white": "#ffffff",
}  # fmt: skip


def luminance(name: str) -> float:
    """Relative luminance as WCAG 2 defines it."""
    colour = Color.parse(XTERM[name.removeprefix("ansi_")] if name.startswith("ansi_") else name)
    channels = [value / 255 for value in (colour.r, colour.g, colour.b)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(text: str, background: str) -> float:
    light, dark = sorted((luminance(text), luminance(background)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_measured_as_wcag_does() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("name", PALETTES)
def test_text_of_a_theme_is_readable(name: str) -> None:
    """C25, C27: at least 4.5:1 for everything that is read."""
    weak = {role: round(contrast(*pair), 2) for role, pair in PALETTES[name].pairs.items() if contrast(*pair) < 4.5}
    assert weak == {}


def test_good_and_bad_are_not_red_and_green_for_the_colour_blind() -> None:
    """C24: they differ in blue, which red-green blindness leaves."""
    good, bad = Color.parse(PALETTES["colour-blind"].good), Color.parse(PALETTES["colour-blind"].bad)
    assert abs(good.b - bad.b) > 150


@pytest.mark.parametrize("name", PALETTES)
def test_every_role_has_a_look(name: str) -> None:
    """C27: what is painted is what the contrast test measures."""
    inks = inks_of(name)
    assert set(inks) == {*ROLES, *map(emphasised, ROLES)}
    painted = {(style.color.name, style.bgcolor.name) for style in inks.values() if style.color and style.bgcolor}
    bare = {tuple(colour.removeprefix("ansi_") for colour in pair) for pair in PALETTES[name].pairs.values()}
    assert painted - bare == {tuple(c.removeprefix("ansi_") for c in (PALETTES[name].rule, PALETTES[name].ground))}


def test_sentence_is_cut_between_words_only() -> None:
    assert cut_words("gap 0.0112 is under", 19) == "gap 0.0112 is under"
    for width in range(20):
        cut = cut_words("gap 0.0112 is under", width)
        assert len(cut) <= width
        assert all(word in ("gap", "0.0112", "is", "under", "…") for word in cut.split())


def test_parts_without_room_are_left_out_whole() -> None:
    parts = [line("equity 10,000"), line("drawdown 0.42 %"), line("max 1 %")]
    assert plain(pack(22, parts)) == "equity 10,000  max 1 %"
    assert plain(pack(5, parts)) == ""


def test_first_wording_that_fits_is_taken() -> None:
    assert plain(first_fit(6, line("long words"), line("short"))) == "short"


@pytest.mark.parametrize("width", range(0, 30, 3))
def test_lines_fill_their_width_exactly(width: int) -> None:
    assert cells(fit(line("one ", ("two", "good"), " 三四"), width)) == width
    if width > 3:
        assert cells(rule("position", line("note"), width)) == width


def test_table_drops_whole_columns_by_rank() -> None:
    columns = [Column("coin"), Column("price", numeric=True), Column("cloid", rank=2), Column("why", elastic=True)]
    rows = [[("BTC", "text"), ("65,000", "text"), ("0xabcdef", "dim"), ("no edge here", "text")]]
    wide, narrow = table(columns, rows, 50), table(columns, rows, 30)
    assert plain(wide[1]).rstrip() == "BTC   65,000  0xabcdef  no edge here"
    assert plain(narrow[1]).rstrip() == "BTC   65,000  no edge here"
    assert plain(narrow[0]).rstrip() == "coin   price  why"


def test_curve_of_a_ramp_climbs_by_one_dot_a_column() -> None:
    """Eight values on 8 x 8 dots: the diagonal, worked out from the braille dot numbers."""
    rows = curve([float(at) for at in range(8)], 4, 2)
    # bottom left cell: column 0 at the lowest dot (7), column 1 at dot 6: bits 0x40 | 0x20
    assert rows == ["  " + chr(0x2800 | 0x40 | 0x20) + chr(0x2800 | 0x02 | 0x08), chr(0x2860) + chr(0x280A) + "  "]


def test_spike_of_one_point_survives_thinning() -> None:
    values = [0.0] * 500
    values[333] = 1.0
    assert curve(values, 10, 4, plain=True)[0].strip() == "*"


@pytest.mark.parametrize("values", [[], [1.0]])
def test_curve_of_too_little_is_blank(values: list[float]) -> None:
    assert curve(values, 5, 2) == ["     ", "     "]


def test_flat_curve_and_bars_do_not_divide_by_zero() -> None:
    assert any(row.strip() for row in curve([5.0, 5.0, 5.0], 6, 3))
    assert bars([0.0, 0.0], 4).strip() == ""


def test_nothing_heavy_is_loaded_for_the_first_frame() -> None:
    """C5: the console process holds no torch, pandas, SQL, HTTP or engine before it paints."""
    code = (
        "import sys, aml100.tui.app\n"
        "heavy = ('torch', 'pandas', 'sqlmodel', 'sqlalchemy', 'aiohttp', 'numpy', 'numba', 'pyarrow', 'pydantic',"
        " 'aml100.engine', 'aml100.trading')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
