"""What scikit-learn's converters write: the domain ai.onnx.ml."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.interop.onnx.operators.registry import Call, op, reads, tensor
from fastnn.tensors import Tensor


@reads("ai.onnx.ml.ArrayFeatureExtractor")
def array_feature_extractor(call: Call, x: Any, places: Any) -> Any:
    """The entries of x along its last dimension at these places; at least a matrix of one row."""
    places = places.reshape(-1)
    if isinstance(places, Tensor) and x.dtype != object:
        x = tensor(x)
    elif isinstance(places, Tensor):
        return np.asarray(x)[..., places.detach().numpy()]
    found = x[..., places]
    return found.reshape(1, -1) if len(x.shape) == 1 else found


@reads("ai.onnx.ml.ZipMap")
def zip_map(call: Call, x: Any) -> Any:
    """The probabilities (N, C) themselves, not a dict for each sample."""
    return x


@reads("ai.onnx.ml.Scaler")
def scaler(call: Call, x: Any) -> Any:
    """(x - offset) · scale."""
    x = tensor(x).float()
    return (x - np.asarray(call.get("offset", []), x.dtype)) * np.asarray(call.get("scale", []), x.dtype)


@reads("ai.onnx.ml.Normalizer")
def normalizer(call: Call, x: Any) -> Any:
    """Rows by their largest entry, the sum of their absolute values, or their length."""
    x = tensor(x).float()
    norm = call.get("norm", "MAX")
    size = (
        x.amax(-1, True) if norm == "MAX" else x.abs().sum(-1, True) if norm == "L1" else (x * x).sum(-1, True).sqrt()
    )
    return x / op("where")(size == 0, np.ones((), x.dtype), size)


@reads("ai.onnx.ml.Binarizer")
def binarizer(call: Call, x: Any) -> Any:
    """1 above the threshold, else 0."""
    x = tensor(x)
    return (x > call.get("threshold", 0.0)).astype(x.dtype)


@reads("ai.onnx.ml.OneHotEncoder")
def one_hot_encoder(call: Call, x: Any) -> Any:
    """(...) -> (..., categories): 1 where an entry is that category; nothing but 0 for what is none of them.

    ONNX would have an error for these where its `zeros` is 0, which a plan cannot raise: it has no values.
    """
    categories = call.get("cats_int64s")
    if categories is None:
        raise call.refuse("categories of text")
    x = tensor(x)
    return (x.unsqueeze(-1) == np.asarray(categories).astype(x.dtype)).astype(np.float32)


@reads("ai.onnx.ml.Imputer")
def imputer(call: Call, x: Any) -> Any:
    """x, with values in the place of the missing ones."""
    x = tensor(x)
    floats = call.get("imputed_value_floats")
    values = np.asarray(floats or call.get("imputed_value_int64s", []), x.dtype)
    missing = call.get("replaced_value_float", 0.0) if floats else call.get("replaced_value_int64", 0)
    gone = op("isnan")(x) if missing != missing else x == missing
    return op("where")(gone, values, x)


_POST = {"NONE": None, "LOGISTIC": "sigmoid", "SOFTMAX": "softmax"}


@reads("ai.onnx.ml.LinearRegressor", "ai.onnx.ml.LinearClassifier")
def linear(call: Call, x: Any, weight: Any, bias: Any = None) -> Any:
    """x @ weight.T + bias, for a classifier with the labels before; the weights are inputs since the file was read."""
    y = op("linear")(tensor(x).float(), tensor(weight), None if bias is None else tensor(bias))
    post, classifies = call.get("post_transform", "NONE"), call.operator.endswith("Classifier")
    if post not in _POST:
        raise call.refuse(f"post_transform {post!r}")
    if classifies and y.shape[1] == 1:
        y = op("cat")([-y, y] if post == "LOGISTIC" else [1 - y, y], 1)
    best, after = y.argmax(1), _POST[post]
    y = y if after is None else op(after)(y)
    if not classifies:
        return y
    labels = call.get("classlabels_ints")  # text has no tensors: then the class's number
    return (best if labels is None else Tensor(np.asarray(labels, np.int64))[best]), y
