"""A model as one ONNX graph, checked to answer what the model answers before it is written.

The graph takes one contiguous series at a time: raw features in, Q values out, memory passed in and handed back, so
that it can be run a bar at a time or over a whole history. Scaling and the mean over an ensemble's members are inside.

    features  float32 [T, F]           rows as market.features gives them, in `metadata["features"]`'s order
    position  float32 [T, P]           the position's own state at each of those bars
    h, c      float32 [M, layers, H]   memory; zeros where a series begins
    -> q      float32 [T, 3]           HOLD, BUY, SELL, in reward units
    -> h_out, c_out                    memory after the last bar

The package `onnx` is enough (`pip install aml100[onnx]`); the graph is put together from standard operators, so no
tracing of torch is involved, and any runtime of opset 17 reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from aml100.domain.errors import AmlError, UsageError
from aml100.learning.bundle import Bundle
from aml100.learning.inference import SCALED_LIMIT, CompiledNetwork, CompiledWeights, Floats32, scale_row

OPSET: Final = 17
IR_VERSION: Final = 8
TOLERANCE: Final = 1e-4
"""Largest difference of a Q value, in reward units, that the check lets pass; typical ones are a tenth of it."""
CHECKED_BARS: Final = 300

_GATES: Final = (0, 3, 1, 2)
"""torch has i, f, g, o; ONNX has i, o, f, c."""


def export_onnx(bundle: Bundle, path: Path) -> Path:
    """Write the model to `path`, once the graph was found equal to the compiled form.

    Raises:
        UsageError: the package `onnx` is not installed, or the file cannot be written.
        AmlError: the graph answers something else; nothing is written.
    """
    onnx = _onnx()
    model = build_graph(bundle)
    onnx.checker.check_model(model, full_check=True)
    difference = largest_difference(bundle, model)
    if not difference <= TOLERANCE:
        raise AmlError(f"{path}: the graph of {bundle.id} differs from it by {difference:.2e}; nothing was written")
    staging = path.with_name(f".{path.name}.partial")
    try:
        staging.write_bytes(model.SerializeToString())
        staging.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: the graph cannot be written: {error.strerror}") from None
    return path


def largest_difference(bundle: Bundle, model: Any) -> float:
    """The largest difference of a Q value between the graph, by ONNX's reference evaluator, and the compiled form.

    Rows are drawn around the scaler's mean; the series is cut in two, so that memory is handed over once.
    """
    from onnx.reference import ReferenceEvaluator

    record = bundle.record
    random = np.random.default_rng(0)
    mean = np.array(record.scaler_mean)
    inverse = np.array(record.scaler_inverse_sd)
    spread = np.where(inverse > 0.0, 1.0 / np.where(inverse > 0.0, inverse, 1.0), 1.0)
    rows = mean + spread * random.standard_normal((CHECKED_BARS, len(mean)))
    rows = rows.astype(np.float32).astype(np.float64)
    position = random.standard_normal((CHECKED_BARS, len(record.position_features))).astype(np.float32)
    runner = ReferenceEvaluator(model)
    shape = (len(bundle.members), record.settings.lstm_layers, record.settings.lstm_hidden)
    h, c = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    parts = []
    for cut in (slice(0, CHECKED_BARS // 2), slice(CHECKED_BARS // 2, None)):
        fed: dict[str, Floats32] = {"features": rows[cut].astype(np.float32), "position": position[cut], "h": h, "c": c}
        q, h, c = (np.asarray(value) for value in runner.run(None, fed))
        parts.append(q)
    return float(np.abs(np.concatenate(parts) - _compiled(bundle, rows, position)).max())


def _compiled(bundle: Bundle, rows: npt.NDArray[np.float64], position: Floats32) -> npt.NDArray[np.float64]:
    record = bundle.record
    networks = [CompiledNetwork(CompiledWeights.from_arrays(weights)) for weights in bundle.members]
    mean, inverse = np.array(record.scaler_mean), np.array(record.scaler_inverse_sd)
    scaled = np.zeros(len(mean), np.float32)
    out = np.empty((len(rows), 3))
    for number, row in enumerate(rows):
        scale_row(row, mean, inverse, scaled)
        for network in networks:
            network.observe(scaled)
        out[number] = np.mean([network.q(position[number].astype(np.float64)) for network in networks], axis=0)
    return out


def build_graph(bundle: Bundle) -> Any:
    """The ONNX ModelProto of a bundle, its origin in the metadata. Raises UsageError without the package `onnx`."""
    onnx = _onnx()
    record, settings = bundle.record, bundle.record.settings
    graph = _Graph(onnx)
    scaled = graph.scale(record.scaler_mean, record.scaler_inverse_sd)
    layers, hidden = settings.lstm_layers, settings.lstm_hidden
    outputs, memories = [], []
    for number, weights in enumerate(bundle.members):
        q, memory = graph.member(number, weights, scaled, layers, hidden)
        outputs.append(q)
        memories.append(memory)
    graph.node("Mean" if len(outputs) > 1 else "Identity", outputs, ["q"])
    for index, name in enumerate(("h_out", "c_out")):
        graph.node("Concat", [memory[index] for memory in memories], [name], axis=0)
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    memory_shape = [len(bundle.members), layers, hidden]
    inputs = [
        helper.make_tensor_value_info("features", float32, ["T", len(record.features)]),
        helper.make_tensor_value_info("position", float32, ["T", len(record.position_features)]),
        helper.make_tensor_value_info("h", float32, memory_shape),
        helper.make_tensor_value_info("c", float32, memory_shape),
    ]
    results = [
        helper.make_tensor_value_info("q", float32, ["T", 3]),
        helper.make_tensor_value_info("h_out", float32, memory_shape),
        helper.make_tensor_value_info("c_out", float32, memory_shape),
    ]
    made = helper.make_graph(graph.nodes, record.id, inputs, results, graph.constants)
    model = helper.make_model(made, producer_name="aml100", opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    helper.set_model_props(
        model,
        {
            "model": record.id,
            "features": ",".join(record.features),
            "position_features": ",".join(record.position_features),
            "schema": record.schema,
            "interval_ms": str(record.interval_ms),
            "reward_unit": repr(record.reward_unit),
            "data_sha256": record.data_sha256,
        },
    )
    return model


def _onnx() -> Any:
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError:
        raise UsageError("export --format onnx needs the package onnx: pip install 'aml100[onnx]'") from None
    return onnx


class _Graph:
    """Nodes and constants under way; every method returns the name of what it made."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, kind: str, inputs: list[str], outputs: list[str], **attributes: object) -> str:
        self.nodes.append(self._onnx.helper.make_node(kind, inputs, outputs, **attributes))
        return outputs[0]

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        self.constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def scale(self, mean: tuple[float, ...], inverse_sd: tuple[float, ...]) -> str:
        """Raw rows [T, F] to scaled ones [T, 1, F], cut at the limit."""
        centred = self.node("Sub", ["features", self.constant("mean", np.array(mean, np.float32))], ["centred"])
        wide = self.node("Mul", [centred, self.constant("inverse_sd", np.array(inverse_sd, np.float32))], ["wide"])
        limits = [
            self.constant(name, np.array(value, np.float32))
            for name, value in (("low", -SCALED_LIMIT), ("high", SCALED_LIMIT))
        ]
        cut = self.node("Clip", [wide, *limits], ["cut"])
        return self.node("Unsqueeze", [cut, self.constant("axis_1", np.array([1], np.int64))], ["scaled"])

    def member(
        self, number: int, weights: Mapping[str, Floats32], scaled: str, layers: int, hidden: int
    ) -> tuple[str, tuple[str, str]]:
        """One network's Q values [T, 3] and its memory after the last bar, two of [1, layers, H]."""
        prefix = f"m{number}"
        own = {name: self._slice(f"{prefix}_{name}", name, number, axis=0) for name in ("h", "c")}  # [1, layers, H]
        read, after_h, after_c = scaled, [], []
        for layer in range(layers):
            begin = {name: self._slice(f"{prefix}_{name}_{layer}", own[name], layer, axis=1) for name in own}
            read, h, c = self._lstm(f"{prefix}_l{layer}", weights, layer, hidden, read, begin)
            after_h.append(h)
            after_c.append(c)
        memory = (
            self.node("Concat", after_h, [f"{prefix}_h_after"], axis=1),
            self.node("Concat", after_c, [f"{prefix}_c_after"], axis=1),
        )
        flat = self.constant(f"{prefix}_flat", np.array([-1, hidden], np.int64))
        encoding = self.node("Reshape", [read, flat], [f"{prefix}_encoding"])
        market = self._linear(
            f"{prefix}_market", encoding, weights["market_share.weight"], weights["market_share.bias"]
        )
        zero = np.zeros(len(weights["market_share.bias"]), np.float32)
        position = self._linear(f"{prefix}_position", "position", weights["position_share.weight"], zero)
        active = self.node("Relu", [self.node("Add", [market, position], [f"{prefix}_sum"])], [f"{prefix}_active"])
        centring = np.concatenate([np.ones((3, 1)), np.eye(3) - 1.0 / 3.0], axis=1)  # value and centred advantages
        duel = (centring @ weights["duel.weight"]).astype(np.float32)
        q = self._linear(f"{prefix}_q", active, duel, (centring @ weights["duel.bias"]).astype(np.float32))
        return q, memory

    def _slice(self, name: str, source: str, index: int, axis: int) -> str:
        picked = self.constant(f"{name}_index", np.array([index], np.int64))
        return self.node("Gather", [source, picked], [name], axis=axis)

    def _linear(self, name: str, source: str, weight: Floats32, bias: Floats32) -> str:
        inputs = [source, self.constant(f"{name}_w", weight), self.constant(f"{name}_b", bias)]
        return self.node("Gemm", inputs, [name], transB=1)

    def _lstm(
        self, name: str, weights: Mapping[str, Floats32], layer: int, hidden: int, read: str, begin: dict[str, str]
    ) -> tuple[str, str, str]:
        """One layer over [T, 1, X]: what it says [T, 1, H], and its memory, two of [1, 1, H]."""

        def ordered(array: Floats32) -> Floats32:
            gates = array.reshape(4, hidden, *array.shape[1:])
            return gates[list(_GATES)].reshape(array.shape)

        bias = [ordered(weights[f"encoder.bias_{part}_l{layer}"]) for part in ("ih", "hh")]
        inputs = [
            read,
            self.constant(f"{name}_w", ordered(weights[f"encoder.weight_ih_l{layer}"])[None]),
            self.constant(f"{name}_r", ordered(weights[f"encoder.weight_hh_l{layer}"])[None]),
            self.constant(f"{name}_b", np.concatenate(bias)[None]),
            "",
            begin["h"],
            begin["c"],
        ]
        outputs = [f"{name}_y", f"{name}_h_after", f"{name}_c_after"]
        self.node("LSTM", inputs, outputs, hidden_size=hidden)
        said = self.node(
            "Squeeze", [outputs[0], self.constant(f"{name}_directions", np.array([1], np.int64))], [f"{name}_said"]
        )
        return said, outputs[1], outputs[2]
