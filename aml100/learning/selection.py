"""Which of a training's checkpoints is kept: the latest that validation cannot tell from the best.

The highest of many scores is in part luck. A network that has learned for a few seconds may earn as much as any on the
bars of validation and lose on the next ones what an older network has learned to avoid; so where two of them earn the
same but for chance, the one that has learned longer is kept. What is compared is the two on the very same bars: the
market's own noise, which both have, falls out of the difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from aml100.learning.inference import Floats32
from aml100.learning.jobs import Weights
from aml100.learning.scores import Validation


@dataclass(slots=True, eq=False)
class Selection:
    """What is kept so far, of `epoch`, and what later ones are held against: `top_net` [n], what the highest score so
    far earned on each bar of validation, of `top_epoch`.

    They are held against the highest score and not against the one kept, so that small losses cannot add up.
    """

    epoch: int
    validation: Validation
    weights: Weights
    top_epoch: int
    top_score: float
    top_net: Floats32

    @staticmethod
    def begin(validation: Validation, net: Floats32, weights: Weights) -> Selection:
        """With the untrained network, epoch 0."""
        return Selection(0, validation, weights, 0, validation.score, net)

    def offer(self, epoch: int, validation: Validation, net: Floats32, weights: Weights) -> None:
        """Keep what was measured after `epoch` where it is the best yet, or no worse than that but for chance.

        Where nothing has scored more than not trading (0), there is nothing to tell apart: the first of equals stays.
        """
        is_top = validation.score > self.top_score
        if is_top:
            self.top_epoch, self.top_score, self.top_net = epoch, validation.score, net
        if is_top or (validation.score > 0.0 and earns_as_much(net, self.top_net)):
            self.epoch, self.validation, self.weights = epoch, validation, weights


def earns_as_much(net: Floats32, top: Floats32) -> bool:
    """Whether `net` [n] sums up to less than `top` [n] by no more than one standard error of the difference.

    >>> top = np.array([1.0, -1.0, 1.0, 1.0], np.float32)
    >>> earns_as_much(np.array([1.0, 1.0, -1.0, 1.0], np.float32), top)
    True
    >>> earns_as_much(top - 0.1, top)
    False
    """
    gap = top.astype(np.float64) - net
    return float(gap.sum()) <= float(gap.std()) * math.sqrt(len(gap))
