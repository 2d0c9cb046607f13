"""A model as an ONNX graph, for people who want to run it elsewhere. Needs the extra `onnx`.

    market    float32 [1, T, F]   unscaled features of contiguous bars, oldest first; memory starts at zero
    position  float32 [1, P]      the position's own state at the last bar
    q         float32 [1, 3]      hold, buy, sell in reward units, averaged over the members

The graph scales, cuts, encodes and prices as training does; live trading uses the compiled single-bar step, from which
it differs by rounding only (tested).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from aml100.domain.errors import UsageError
from aml100.learning.bundle import Bundle
from aml100.learning.inference import SCALED_LIMIT, Floats32

OPSET: Final = 17


def export_onnx(bundle: Bundle, path: Path) -> Path:
    """Write the graph; UsageError where the extra `onnx` is not installed or the file cannot be written."""
    try:
        import onnx
        from onnx import TensorProto, helper
    except ImportError:
        raise UsageError("models export: the package onnx is missing; allowed: pip install 'aml100[onnx]'") from None
    record = bundle.record
    graph = _Graph()
    mean = graph.constant("mean", np.array(record.scaler_mean, np.float32))
    inverse = graph.constant("inverse_sd", np.array(record.scaler_inverse_sd, np.float32))
    centred = graph.node("Sub", "market", mean)
    low, high = graph.constant("low", np.float32(-SCALED_LIMIT)), graph.constant("high", np.float32(SCALED_LIMIT))
    scaled = graph.node("Clip", graph.node("Mul", centred, inverse), low, high)
    sequence = graph.node("Transpose", scaled, perm=[1, 0, 2])  # [T, 1, F]
    priced = [_member(graph, f"m{number}", weights, sequence) for number, weights in enumerate(bundle.members)]
    graph.nodes.append(helper.make_node("Mean", priced, ["q"]))
    made = helper.make_graph(
        graph.nodes,
        record.id,
        [
            helper.make_tensor_value_info("market", TensorProto.FLOAT, [1, "T", len(record.features)]),
            helper.make_tensor_value_info("position", TensorProto.FLOAT, [1, len(record.position_features)]),
        ],
        [helper.make_tensor_value_info("q", TensorProto.FLOAT, [1, 3])],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    facts = {
        "model": record.id,
        "features": ",".join(record.features),
        "position_features": ",".join(record.position_features),
        "schema": record.schema,
        "interval_ms": str(record.interval_ms),
    }
    helper.set_model_props(model, facts)
    onnx.checker.check_model(model)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(model.SerializeToString())
        part.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror or error})") from None
    return path


class _Graph:
    """Nodes and constants as they are made; names count up."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._count = 0

    def constant(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, outputs: int = 1, take: int = 0, **attributes: Any) -> str:
        from onnx import helper

        self._count += 1
        names = [f"n{self._count}_{number}" for number in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[take]


def _member(graph: _Graph, prefix: str, weights: Mapping[str, Floats32], sequence: str) -> str:
    """One network's Q values [1, 3] at the last bar of `sequence` [T, 1, F]."""
    layers = sum(name.startswith("encoder.weight_ih_l") for name in weights)
    squeezed = graph.constant(f"{prefix}.direction", np.array([1], np.int64))
    top = ""
    for layer in range(layers):
        hidden = weights[f"encoder.weight_hh_l{layer}"].shape[1]
        w = graph.constant(f"{prefix}.w{layer}", _gates(weights[f"encoder.weight_ih_l{layer}"])[None])
        r = graph.constant(f"{prefix}.r{layer}", _gates(weights[f"encoder.weight_hh_l{layer}"])[None])
        biases = [_gates(weights[f"encoder.bias_{side}_l{layer}"]) for side in ("ih", "hh")]
        b = graph.constant(f"{prefix}.b{layer}", np.concatenate(biases)[None])
        states = graph.node("LSTM", sequence, w, r, b, hidden_size=hidden)  # [T, 1, 1, H]
        sequence = graph.node("Squeeze", states, squeezed)  # [T, 1, H]
        top = sequence
    last = graph.constant(f"{prefix}.last", np.array(-1, np.int64))
    encoding = graph.node("Gather", top, last, axis=0)  # [1, H]
    share = _linear(graph, f"{prefix}.market_share", weights, encoding)
    w_position = graph.constant(f"{prefix}.position", np.ascontiguousarray(weights["position_share.weight"].T))
    active = graph.node("Relu", graph.node("Add", share, graph.node("MatMul", "position", w_position)))
    duel = _linear(graph, f"{prefix}.duel", weights, active)  # [1, 4]
    sizes = graph.constant(f"{prefix}.sizes", np.array([1, 3], np.int64))
    value = graph.node("Split", duel, sizes, outputs=2, axis=1)
    advantage = value.replace("_0", "_1")
    centre = graph.node("ReduceMean", advantage, axes=[1], keepdims=1)
    return graph.node("Add", value, graph.node("Sub", advantage, centre))


def _linear(graph: _Graph, prefix: str, weights: Mapping[str, Floats32], x: str) -> str:
    name = prefix.rpartition(".")[2]
    w = graph.constant(f"{prefix}.w", np.ascontiguousarray(weights[f"{name}.weight"].T))
    return graph.node("Add", graph.node("MatMul", x, w), graph.constant(f"{prefix}.b", weights[f"{name}.bias"]))


def _gates(stacked: Floats32) -> Floats32:
    """From torch's order of gates (i, f, g, o) to ONNX's (i, o, f, c)."""
    i, f, g, o = np.split(stacked, 4)
    return np.ascontiguousarray(np.concatenate([i, o, f, g]))
