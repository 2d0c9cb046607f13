"""The four themes. Each states its colours by what they mean; contrast of every text is at least 4.5:1 (tested).

In `colour-blind` good is blue and bad is orange, which the common forms of colour blindness tell apart. `16-colour`
uses the terminal's own sixteen, on black, the bright ones where the plain ones are too dark to read.
"""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

from rich.style import Style
from textual.theme import BUILTIN_THEMES, Theme

from aml100.tui.ink import ROLES, emphasised


class Palette(NamedTuple):
    """Colours by meaning. The four modes, chips and the alarm are pairs of text on background."""

    ground: str
    text: str
    strong: str
    dim: str
    rule: str
    good: str
    bad: str
    warn: str
    accent: str
    curve: str
    chip: tuple[str, str]
    chip_good: tuple[str, str]
    chip_warn: tuple[str, str]
    alarm: tuple[str, str]
    sim: tuple[str, str]
    paper: tuple[str, str]
    testnet: tuple[str, str]
    live: tuple[str, str]
    dark: bool = True

    @property
    def pairs(self) -> dict[str, tuple[str, str]]:
        """Text and background of every role that is read; `rule` is a drawn line."""
        on_ground = {
            name: (getattr(self, name), self.ground)
            for name in ("text", "strong", "dim", "good", "bad", "warn", "accent", "curve")
        }
        chips = {
            name: getattr(self, name)
            for name in ("chip", "chip_good", "chip_warn", "alarm", "sim", "paper", "testnet", "live")
        }
        return {**on_ground, **chips}


PALETTES: Final = {
    "dark": Palette(
        ground="#0f1419",
        text="#c9d1d9",
        strong="#ffffff",
        dim="#8b98a5",
        rule="#33404d",
        good="#56d364",
        bad="#ff7b72",
        warn="#e3b341",
        accent="#6cb6ff",
        curve="#79c0ff",
        chip=("#c9d1d9", "#2b3642"),
        chip_good=("#04260f", "#56d364"),
        chip_warn=("#2b1d00", "#e3b341"),
        alarm=("#ffffff", "#b3261e"),
        sim=("#ffffff", "#1f5fa8"),
        paper=("#ffffff", "#6e40c9"),
        testnet=("#2b1d00", "#e3b341"),
        live=("#ffffff", "#c11a1a"),
    ),
    "light": Palette(
        ground="#fbfcfd",
        text="#24292f",
        strong="#000000",
        dim="#57606a",
        rule="#c3cad1",
        good="#116329",
        bad="#b3151c",
        warn="#7d4e00",
        accent="#0550ae",
        curve="#0a58b5",
        chip=("#24292f", "#dde3e9"),
        chip_good=("#ffffff", "#116329"),
        chip_warn=("#2b1d00", "#e5b53a"),
        alarm=("#ffffff", "#b3151c"),
        sim=("#ffffff", "#0550ae"),
        paper=("#ffffff", "#6032b8"),
        testnet=("#2b1d00", "#e5b53a"),
        live=("#ffffff", "#c11a1a"),
        dark=False,
    ),
    "colour-blind": Palette(
        ground="#101216",
        text="#d5d8dc",
        strong="#ffffff",
        dim="#98a0a8",
        rule="#39414a",
        good="#56b4e9",
        bad="#f0a030",
        warn="#f0e442",
        accent="#9ecbff",
        curve="#9ecbff",
        chip=("#d5d8dc", "#2d343c"),
        chip_good=("#00131f", "#56b4e9"),
        chip_warn=("#1f1d00", "#f0e442"),
        alarm=("#ffffff", "#a34700"),
        sim=("#ffffff", "#00598f"),
        paper=("#ffffff", "#7a4f8a"),
        testnet=("#1f1d00", "#f0e442"),
        live=("#ffffff", "#a34700"),
    ),
    "16-colour": Palette(
        ground="ansi_black",
        text="ansi_white",
        strong="ansi_bright_white",
        dim="ansi_white",
        rule="ansi_bright_black",
        good="ansi_bright_green",
        bad="ansi_bright_red",
        warn="ansi_bright_yellow",
        accent="ansi_bright_cyan",
        curve="ansi_bright_cyan",
        chip=("ansi_black", "ansi_white"),
        chip_good=("ansi_black", "ansi_bright_green"),
        chip_warn=("ansi_black", "ansi_bright_yellow"),
        alarm=("ansi_bright_white", "ansi_red"),
        sim=("ansi_bright_white", "ansi_blue"),
        paper=("ansi_black", "ansi_bright_magenta"),
        testnet=("ansi_black", "ansi_bright_yellow"),
        live=("ansi_bright_white", "ansi_red"),
    ),
}


def variables_of(palette: Palette) -> dict[str, str]:
    """The palette as `$ink-…` variables of the stylesheet."""
    variables = {f"ink-{name}": getattr(palette, name) for name in ("ground", "rule")}
    for name, (text, background) in palette.pairs.items():
        variables[f"ink-{name.replace('_', '-')}"] = text
        variables[f"ink-{name.replace('_', '-')}-back"] = background
    return variables


BOLD: Final = frozenset(
    {"strong", "title", "chip-good", "chip-warn", "alarm", "mode-sim", "mode-paper", "mode-testnet", "mode-live"}
)
_PAIR_OF: Final = {
    "title": "accent",
    "key": "chip",
    "mode-sim": "sim",
    "mode-paper": "paper",
    "mode-testnet": "testnet",
    "mode-live": "live",
}


@cache
def inks_of(name: str, *, no_colour: bool = False) -> dict[str, Style]:
    """The style of every role of `ink.ROLES`, plain and emphasised, in a palette; of another name, in the first one.

    `no_colour`: the terminal's own two, turned round for roles that have a background of their own.
    """
    palette = PALETTES.get(name, PALETTES["dark"])
    pairs = {**palette.pairs, "rule": (palette.rule, palette.ground)}
    inks = {}
    for role in ROLES:
        text, background = pairs[_PAIR_OF.get(role, role).replace("-", "_")]
        bold = role in BOLD or None
        if no_colour:
            inks[role] = Style(bold=bold, reverse=background != palette.ground or None)
        else:
            inks[role] = Style(color=_rich(text), bgcolor=_rich(background), bold=bold)
        inks[emphasised(role)] = inks[role] + Style(underline=True)
    return inks


def _rich(colour: str) -> str:
    """Rich calls the terminal's own colours by their bare names."""
    return colour.removeprefix("ansi_")


def theme_of(name: str) -> Theme:
    """The Textual theme of one of `PALETTES`."""
    palette = PALETTES[name]
    terminal_colours = palette.ground.startswith("ansi_")
    inherited = BUILTIN_THEMES["ansi-dark"].variables if terminal_colours else {}
    return Theme(
        name=name,
        primary=palette.accent,
        secondary=palette.dim,
        accent=palette.accent,
        warning=palette.warn,
        error=palette.bad,
        success=palette.good,
        foreground=palette.text,
        background=palette.ground,
        surface=palette.ground,
        panel=palette.ground,
        boost=palette.ground,
        dark=palette.dark,
        variables={**inherited, **variables_of(palette)},
        ansi=terminal_colours,
    )
