"""ONNX Runtime, one thread: the same network over a window of 60 rows, call by call."""

import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from serve import serve

WINDOW, HIDDEN, HEAD = 60, 64, 64

folder = Path(sys.argv[1])
rows = np.load(folder / "rows.npy")
columns = rows.shape[1]
rng = np.random.default_rng(0)


def weight(name, *shape):
    return numpy_helper.from_array((rng.normal(size=shape) * 0.1).astype(np.float32), name)


graph = helper.make_graph(
    [
        helper.make_node("LSTM", ["x", "w", "r", "b"], ["", "h", ""], hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["h", "axes"], ["last"]),
        helper.make_node("Gemm", ["last", "w1", "b1"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["active"]),
        helper.make_node("Gemm", ["active", "w2", "b2"], ["q"]),
    ],
    "q network",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, [WINDOW, 1, columns])],
    [helper.make_tensor_value_info("q", TensorProto.FLOAT, [1, 3])],
    [
        weight("w", 1, 4 * HIDDEN, columns),
        weight("r", 1, 4 * HIDDEN, HIDDEN),
        weight("b", 1, 8 * HIDDEN),
        numpy_helper.from_array(np.array([0], np.int64), "axes"),
        weight("w1", HIDDEN, HEAD),
        weight("b1", HEAD),
        weight("w2", HEAD, 3),
        weight("b2", 3),
    ],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def measure():
    taken = []
    for end in range(WINDOW, len(rows)):
        started = time.perf_counter_ns()
        session.run(None, {"x": rows[end - WINDOW : end, None, :]})
        taken.append(time.perf_counter_ns() - started)
    return {"p50": float(np.percentile(taken, 50)) / 1e3, "p99": float(np.percentile(taken, 99)) / 1e3}


measure()
serve(measure)
