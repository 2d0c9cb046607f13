"""Fields of the headless events by type, as the contract lists them; more may be there, none may be missing."""

from __future__ import annotations

from collections.abc import Mapping

FIELDS = {
    "started": "run_id venue execution coins phase model pid socket",
    "bar": "coin open_ms open high low close volume origin",
    "decision": "coin bar_ms action q regime confidence outcome gates",
    "order": "cloid oid coin side kind price size reduce_only status reason",
    "fill": "fill_id cloid coin side price size fee liquidity",
    "position": "coin size entry_price unrealised stop_oid protected",
    "funding": "coin rate amount",
    "equity": "equity balance drawdown_pct",
    "cycle": "number source verdict metrics",
    "phase": "from to reason",
    "training": "state epoch epochs loss validation eta_s",
    "model": "id event reason",
    "risk": "guard state reason",
    "feed": "coin channel state age_ms gap_bars",
    "command": "name by result",
    "stopped": "reason exit_code equity",
}


def hold_to_contract(kind: str, fields: Mapping[str, object]) -> None:
    """Fails where an event lacks a field of its type."""
    missing = set(FIELDS.get(kind, "").split()) - fields.keys()
    assert not missing, f"{kind} lacks {', '.join(sorted(missing))}"


class Contract:
    """A listener that holds the engine's own events to it and remembers which types came."""

    def __init__(self) -> None:
        self.kinds: set[str] = set()

    def on_record(self, record: object) -> None: ...

    def on_event(self, kind: str, fields: Mapping[str, object]) -> None:
        self.kinds.add(kind)
        if kind != "bar":  # told as the bar itself; `headless.bar_event` names its fields
            hold_to_contract(kind, fields)
