"""One gradient step: exact targets for all three actions of many positions from a single reading of the market.

A batch holds B stretches of burn-in + L bars (and one more, whose encoding prices the next states). At every bar K
position states are given; the kernel has priced their three actions and produced the 3 states that follow. So one pass
of the encoder serves B x L x K x 3 targets, none of which is an estimate of what another action would have brought:

    target(t, k, a) = r(t, k, a) + discount x Q_target(s', argmax Q_online(s'))

Multi-step: where the actions taken along a path are given, the target of the taken action sums up to n rewards, and
stops summing where the next action taken is not the one that the online network now prefers, so it stays on-policy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from aml100.learning.network import ACTIONS, QNetwork, blend_into
from aml100.learning.replay import n_step_returns
from aml100.learning.settings import TrainingSettings


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What one step learns from; B stretches of T = burn-in + L + 1 bars, K positions at each of L bars.

    Attributes:
        market: scaled features [B, T, F].
        position: states at the close of the L learned bars [B, L, K, P].
        following: the states that each action leads to, one bar later [B, L, K, 3, P].
        reward: of each action [B, L, K, 3], in reward units.
        discount: gamma, 0 where the step truly ended the episode [B, L, K, 3].
        weight: importance of each stretch [B].
        taken: int64 [B, L, R], the actions taken on the first R of the K positions, which are paths: the state at
            l + 1 is the one that the action taken at l led to. R may be 0.
    """

    market: Tensor
    position: Tensor
    following: Tensor
    reward: Tensor
    discount: Tensor
    weight: Tensor
    taken: Tensor


@dataclass(frozen=True, slots=True)
class StepResult:
    """`loss` of the step, `td_errors` float64 [B] as priorities, the largest |Q| seen, and the gradient's norm."""

    loss: float
    td_errors: npt.NDArray[np.float64]
    largest_q: float
    gradient_norm: float


def double_q_value(q_online: Tensor, q_target: Tensor) -> Tensor:
    """Value of a state: the online network picks the action, the target network prices it; [..., A] to [...]."""
    best = q_online.argmax(dim=-1, keepdim=True)
    return q_target.gather(-1, best).squeeze(-1)


def bias_penalty(q: Tensor, threshold: float) -> Tensor:
    """What the batch's mean action probabilities (softmax of Q [..., 3]) exceed `threshold` by, summed; a scalar.

    It has a gradient: a policy that answers everything with one action is pulled back.
    """
    mean = torch.softmax(q, dim=-1).reshape(-1, ACTIONS).mean(dim=0)  # [3]
    return torch.relu(mean - threshold).sum()


def multi_step_targets(batch: Batch, one_step: Tensor, value: Tensor, q_online: Tensor, n: int) -> Tensor:
    """Replace the targets of the actions taken on paths by sums of up to `n` rewards.

    Args:
        one_step: targets of all actions [B, L, K, 3]; `value` what each next state is worth, same shape.
        q_online: the online network's view of the states [B, L, K, 3], which says where a path left the policy.
    """
    paths = batch.taken.shape[-1]
    if n <= 1 or paths == 0:
        return one_step
    taken = batch.taken.unsqueeze(-1)  # [B, L, R, 1]

    def along(values: Tensor) -> npt.NDArray[np.float64]:
        picked = values[:, :, :paths].gather(-1, taken).squeeze(-1)  # [B, L, R]
        lines = picked.permute(0, 2, 1).reshape(-1, picked.shape[1])  # [B R, L]
        return np.ascontiguousarray(lines.cpu().numpy(), dtype=np.float64)

    strays = batch.taken != q_online[:, :, :paths].argmax(dim=-1)  # [B, L, R]
    ends = torch.zeros_like(strays)
    ends[:, :-1] = strays[:, 1:]
    lines = np.ascontiguousarray(ends.permute(0, 2, 1).reshape(-1, ends.shape[1]).cpu().numpy())
    reward, discount, worth = along(batch.reward), along(batch.discount), along(value)
    total, left = np.empty_like(reward), np.empty_like(reward)
    last = np.empty(reward.shape, np.int64)
    n_step_returns(reward, discount, lines, n, total, left, last)
    returns = total + left * np.take_along_axis(worth, last, axis=1)  # [B R, L]
    shaped = torch.as_tensor(returns, dtype=one_step.dtype, device=one_step.device)
    shaped = shaped.reshape(batch.taken.shape[0], paths, -1).permute(0, 2, 1).unsqueeze(-1)  # [B, L, R, 1]
    targets = one_step.clone()
    targets[:, :, :paths] = targets[:, :, :paths].scatter(-1, taken, shaped)
    return targets


class Learner:
    """Online and target network, optimiser and the step itself."""

    def __init__(self, features: int, settings: TrainingSettings, seed: int, device: torch.device) -> None:
        self.settings = settings
        shape = (features, settings.lstm_hidden, settings.lstm_layers, settings.head_hidden)
        self.online = QNetwork(*shape, seed=seed).to(device)
        self.target = QNetwork(*shape, seed=seed).to(device)
        self.target.load_state_dict(self.online.state_dict())
        self.target.requires_grad_(False)
        self.device = device
        self.optimizer = torch.optim.AdamW(
            self.online.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )

    def set_learning_rate(self, learning_rate: float) -> None:
        """The schedule's rate for the steps to come."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate

    def targets(self, batch: Batch, share: Tensor, q: Tensor) -> Tensor:
        """What the Q values [B, L, K, 3] are regressed towards; no gradient flows through it.

        `share` [B, L + 1, D] is the online head's share of the learned bars and the one after; `q` its Q values.
        """
        with torch.no_grad():
            first = batch.market.shape[1] - share.shape[1]
            b, length, k = batch.reward.shape[:3]
            position = batch.following.reshape(b, length, k * ACTIONS, -1)
            slow_share, _ = self.target.encode(batch.market)
            q_online = self.online.q_values(share[:, 1:].detach(), position)
            q_target = self.target.q_values(slow_share[:, first + 1 :], position)
            value = double_q_value(q_online, q_target).reshape(b, length, k, ACTIONS)
            one_step = batch.reward + batch.discount * value
            return multi_step_targets(batch, one_step, value, q.detach(), self.settings.n_step)

    def loss(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The scalar loss, the TD errors [B, L, K, 3] and the Q values, all at once from one encoder pass."""
        length = batch.reward.shape[1]
        encoded, _ = self.online.encode(batch.market)
        share = encoded[:, -(length + 1) :]  # [B, L + 1, D]
        q = self.online.q_values(share[:, :-1], batch.position)  # [B, L, K, 3]
        targets = self.targets(batch, share, q)
        each = nn.functional.huber_loss(q, targets, reduction="none")
        loss = (batch.weight[:, None, None, None] * each).mean()
        if self.settings.bias_weight > 0.0:
            loss = loss + self.settings.bias_weight * bias_penalty(q, self.settings.bias_threshold)
        return loss, (targets - q).detach(), q.detach()

    def step(self, batch: Batch) -> StepResult:
        """Learn from one batch: loss, clipped gradient, AdamW, soft target update."""
        loss, td, q = self.loss(batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.online.parameters(), self.settings.gradient_clip_norm)
        self.optimizer.step()
        blend_into(self.target, self.online, self.settings.target_update)
        errors = td.abs().mean(dim=(2, 3))  # [B, L]
        priority = 0.9 * errors.amax(dim=1) + 0.1 * errors.mean(dim=1)
        return StepResult(
            loss=float(loss.detach()),
            td_errors=priority.cpu().numpy().astype(np.float64),
            largest_q=float(q.abs().max()),
            gradient_norm=float(norm),
        )


def reference_loss(online: QNetwork, target: QNetwork, batch: Batch, settings: TrainingSettings) -> Tensor:
    """The same loss, one transition at a time, as the plain form that `Learner.loss` is tested against.

    Every transition reads its own bars from the beginning of the stretch, and sums its own multi-step return.
    """
    stretches, length, k = batch.reward.shape[:3]
    paths = batch.taken.shape[-1]
    burn_in = batch.market.shape[1] - length - 1

    def q_at(network: QNetwork, b: int, bar: int, position: Tensor) -> Tensor:
        q: Tensor = network(batch.market[b : b + 1, : burn_in + bar + 1], _at_last(position, burn_in + bar + 1))
        return q[0, -1, 0]

    def value_after(b: int, bar: int, row: int, action: int) -> Tensor:
        following = batch.following[b, bar, row, action]
        best = int(q_at(online, b, bar + 1, following).argmax())
        return q_at(target, b, bar + 1, following)[best]

    losses: list[Tensor] = []
    all_q: list[Tensor] = []
    for b in range(stretches):
        for bar in range(length):
            for row in range(k):
                q = q_at(online, b, bar, batch.position[b, bar, row])
                all_q.append(q)
                for action in range(ACTIONS):
                    gain, factor, step, act = torch.zeros(()), torch.ones(()), bar, action
                    with torch.no_grad():
                        while True:
                            gain = gain + factor * batch.reward[b, step, row, act]
                            factor = factor * batch.discount[b, step, row, act]
                            follows = row < paths and act == int(batch.taken[b, step, row])
                            if not follows or step + 1 >= length or step + 1 - bar >= settings.n_step or factor == 0.0:
                                break
                            preferred = int(q_at(online, b, step + 1, batch.position[b, step + 1, row]).argmax())
                            if preferred != int(batch.taken[b, step + 1, row]):
                                break
                            step, act = step + 1, preferred
                        goal = gain + factor * value_after(b, step, row, act)
                    losses.append(batch.weight[b] * nn.functional.huber_loss(q[action], goal))
    loss = torch.stack(losses).mean()
    if settings.bias_weight > 0.0:
        loss = loss + settings.bias_weight * bias_penalty(torch.stack(all_q), settings.bias_threshold)
    return loss


def _at_last(position: Tensor, length: int) -> Tensor:
    """One position [P] as [1, length, 1, P]; only its last row is read."""
    return position.expand(1, length, 1, -1)
