"""What the policy of one coin has seen: features bar by bar, the policy that remembers them, and the rows themselves.

Rows are kept so that a policy adopted in mid-series can be shown the same past as one that was there all along.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from aml100.domain.errors import AmlError
from aml100.domain.events import SettledFunding
from aml100.domain.market import Bar
from aml100.market.features import FEATURES, FeatureStream, known_at, regime_of_row
from aml100.trading.policies import Policy
from aml100.trading.state import CoinState

REMEMBERED_ROWS: Final = 20_000
"""Rows of features kept for a policy that is adopted in mid-series; an encoder forgets older ones anyway."""
KEPT_SETTLEMENTS: Final = 3
_ATR: Final = FEATURES.index("atr_14")
_UNKNOWN: Final = (None, None)

Row = npt.NDArray[np.float64]


class Observer:
    """Takes in the closed bars of one coin.

    Args:
        known: the coin's saved state, which this keeps up to date; features and policy go on from it.
        features: fresh.
        policy: fresh; `is_cold` says that its memory is not the one that was saved, so that it has to be shown the
            series before it decides.
    """

    def __init__(self, known: CoinState, features: FeatureStream, policy: Policy) -> None:
        self.known = known
        self.policy = policy
        self.is_cold = False
        self._features = features
        self._rows: deque[Row] = deque(maxlen=REMEMBERED_ROWS)
        self._row_end_ms = 0
        if known.features:
            features.restore(known.features)
            self.is_cold = not self._goes_on()

    def _goes_on(self) -> bool:
        """Give the policy the memory that was saved; False where another model decided then."""
        if self.known.policy_name != self.policy.name:
            return not self.known.policy_name
        try:
            self.policy.restore(self.known.policy)
        except AmlError:
            return False
        return True

    def take(self, bar: Bar) -> None:
        """Features and policy take in a closed bar; a gap starts the series anew."""
        known, open_ms = self.known, bar.open_ms
        if known.last_end_ms and open_ms != known.last_end_ms:
            self._features.reset()
            self.policy.reset()
            self._rows.clear()
            known.complete_rows = 0
        known.last_end_ms = end_ms = open_ms + bar.interval_ms
        known.close = bar.close
        known.bars_seen += 1
        rate, premium = known_at(known.fundings, open_ms) if known.fundings else _UNKNOWN
        row = self._features.update(
            float(bar.open),
            float(bar.high),
            float(bar.low),
            float(bar.close),
            float(bar.volume),
            open_ms,
            rate,
            premium,
        )
        if row is not None:
            known.complete_rows += 1
            known.regime = regime_of_row(row)
            known.atr = row.item(_ATR)
            self.policy.observe(row)
            self._rows.append(row)
            self._row_end_ms = end_ms

    def know_funding(self, settled: SettledFunding) -> None:
        """Keep the latest settlements, whatever the order in which they are told."""
        fundings = self.known.fundings
        if any(time_ms == settled.time_ms for time_ms, _, _ in fundings):
            return
        fundings.append((settled.time_ms, settled.rate, settled.premium))
        fundings.sort(key=lambda one: one[0])
        del fundings[:-KEPT_SETTLEMENTS]

    def adopt(self, policy: Policy, *, has_seen: bool) -> None:
        """Another policy decides from now on; it is shown the present series unless it `has_seen` it already."""
        self.policy = policy
        self.known.exported_bars = -1
        if not has_seen:
            self.is_cold = False
            for row in self._rows:
                policy.observe(row)

    @property
    def last_row(self) -> Row | None:
        """Features of the bar last taken in, shape [F]; None where they are not complete."""
        return self._rows[-1] if self._rows and self._row_end_ms == self.known.last_end_ms else None

    def recent_rows(self) -> list[Row]:
        """Features of the present series, oldest first, at most REMEMBERED_ROWS."""
        return list(self._rows)

    def remember(self, rows: Sequence[Row]) -> None:
        """Give back after a restart what `recent_rows` held; the last row is of the bar last taken in."""
        self._rows.clear()
        self._rows.extend(rows)
        self._row_end_ms = self.known.last_end_ms

    def save(self) -> None:
        """Write features and policy into the coin's state, where a bar has come since."""
        known = self.known
        if known.exported_bars != known.bars_seen:
            known.features = self._features.export_state()
            known.policy = self.policy.export_state()
            known.policy_name = self.policy.name
            known.exported_bars = known.bars_seen
