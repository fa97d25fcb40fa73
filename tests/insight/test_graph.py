"""The computational graph: values and gradients of every node, names, layers, text and SVG."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

import fastnn as fnn
from fastnn import nn
from fastnn.errors import ArgumentError, GraphError, ShapeError

SVG = "{http://www.w3.org/2000/svg}"


class Residual(nn.Module):
    """Operators of its own before, between and after its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        return x + self.second(self.first(x * 0.5).relu())


def network() -> nn.Sequential:
    fnn.manual_seed(0)
    return nn.Sequential(nn.Normalize(0.5, 0.5), nn.Linear(6, 4), nn.Tanh(), Residual(), nn.Linear(4, 3))


def lecture() -> tuple[fnn.Tensor, dict[str, fnn.Tensor]]:
    """f = 1 + e^(w1·x + w0), at w1 = 2, x = 0.5, w0 = -0.25."""
    names = {"w1": fnn.Tensor(2.0, requires_grad=True), "w0": fnn.Tensor(-0.25, requires_grad=True)}
    names["x"] = fnn.Tensor(0.5)
    names["z"] = names["w1"] * names["x"] + names["w0"]
    return 1 + names["z"].exp(), names


# ---- values and gradients --------------------------------------------------------------------------------------------


def test_the_lectures_function_node_by_node() -> None:
    f, names = lecture()
    graph = fnn.graph(f, names=names)
    e = math.exp(0.75)
    expected = {  # operator, inputs, value, gradient
        "w1": ("", [], 2, 0.5 * e),
        "x": ("", [], 0.5, None),
        "t1": ("×", ["w1", "x"], 1, e),
        "w0": ("", [], -0.25, e),
        "z": ("+", ["t1", "w0"], 0.75, e),
        "1": ("", [], 1, None),
        "t2": ("exp", ["z"], e, 1),
        "t3": ("+", ["1", "t2"], 1 + e, 1),
    }
    assert {node.name for node in graph.nodes} == set(expected)
    for name, (operator, inputs, value, gradient) in expected.items():
        node = graph[name]
        assert (node.operator, [i.name for i in node.inputs]) == (operator, inputs)
        assert node.value.item() == pytest.approx(value, rel=1e-6)
        if gradient is None:
            assert node.gradient is None
        else:
            assert node.gradient is not None
            assert node.gradient.item() == pytest.approx(gradient, rel=1e-6)


def test_gradients_of_all_paths_are_added() -> None:
    """u = (ab + a)², v = ab: du/da = 2(ab + a)(b + 1), du/d(ab) = 2(ab + a)."""
    a, b = fnn.Tensor(3.0, requires_grad=True), fnn.Tensor(2.0, requires_grad=True)
    v = a * b
    s = v + a
    graph = fnn.graph(s * s, names={"a": a, "b": b, "v": v, "s": s})
    assert {name: graph[name].gradient.item() for name in "absv"} == {"a": 54, "b": 54, "s": 18, "v": 18}


def test_nothing_is_disturbed() -> None:
    f, names = lecture()
    names["w0"].grad = np.float32(7.0)
    fnn.graph(f)
    assert names["w0"].grad.item() == 7
    assert names["w1"].grad is None
    f.backward()
    assert names["w0"].grad.item() == pytest.approx(7 + math.exp(0.75))


def test_a_gradient_of_ones_own() -> None:
    x = fnn.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    y = x * x
    assert fnn.graph(y, names={"x": x})["x"].gradient is None
    given = np.array([[1.0, 0.0], [0.0, 10.0]])
    graph = fnn.graph(y, names={"x": x}, gradient=given)
    np.testing.assert_array_equal(graph["x"].gradient, 2 * x.data * given)
    with pytest.raises(ShapeError, match=r"expected a gradient of shape \(2, 2\), got \(2,\)"):
        fnn.graph(y, gradient=[1.0, 2.0])


# ---- networks --------------------------------------------------------------------------------------------------------


def test_a_networks_layers_and_gradients(rng: np.random.Generator) -> None:
    """Parameters as backward() fills .grad; the logits' gradient is (softmax - onehot) / N; who ran what."""
    model, x, y = network(), rng.normal(size=(5, 6)).astype(np.float32), np.array([0, 2, 1, 1, 0])
    logits = model(x)
    loss = nn.CrossEntropyLoss()(logits, y)
    graph = fnn.graph(loss, model, names={"logits": logits})
    exponentials = np.exp(logits.data.astype(np.float64))
    expected = (exponentials / exponentials.sum(1, keepdims=True) - np.eye(3)[y]) / 5
    np.testing.assert_allclose(graph["logits"].gradient, expected, atol=1e-7)
    loss.backward()
    for name, parameter in model.named_parameters():
        np.testing.assert_array_equal(graph[name].gradient, parameter.grad)
        assert graph[name].group == name.rpartition(".")[0]
    computed = [(node.group, node.operator) for node in graph.nodes if node.kind == "operator"]
    assert computed == [
        ("1", "linear"), ("2", "tanh"), ("3", "×"), ("3.first", "linear"), ("3", "relu"), ("3.second", "linear"),
        ("3", "+"), ("4", "linear"), ("CrossEntropyLoss", "cross_entropy"),
    ]  # fmt: skip


def test_the_text_has_a_heading_for_each_layer() -> None:
    model = network()
    text = repr(fnn.graph(nn.CrossEntropyLoss()(model(np.zeros((5, 6), np.float32)), np.zeros(5, int)), model))
    blocks = text.split("\n\n")
    assert [block.splitlines()[0] for block in blocks[1:]] == [
        "1  Linear(in_features=6, out_features=4, bias=True)", "2  Tanh()", "3  Residual",
        "3.first  Linear(in_features=4, out_features=4, bias=True)", "3  Residual",
        "3.second  Linear(in_features=4, out_features=4, bias=True)", "3  Residual",
        "4  Linear(in_features=4, out_features=3, bias=True)", "CrossEntropyLoss()",
    ]  # fmt: skip
    row = next(line for line in text.splitlines() if line.startswith("1.weight"))
    assert row.split()[:2] == ["1.weight", "parameter"]
    assert "(4, 6)" in row  # large: the shape, and the gradient's norm
    assert "norm" in row


def test_without_a_model_there_are_no_layers() -> None:
    graph = fnn.graph(network()(np.zeros((5, 6), np.float32)).sum())
    assert {node.group for node in graph.nodes} == {""}
    assert [n.name for n in graph.nodes if n.kind == "parameter"] == [f"p{i}" for i in range(1, 9)]


def test_a_layer_used_twice_has_two_places() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.Tanh(), shared)
    graph = fnn.graph(model(np.ones((1, 4), np.float32)).sum(), model)
    assert [node.group for node in graph.nodes if node.kind == "operator"] == ["0", "1", "0", ""]
    assert repr(graph).count("0  Linear(") == 2
    assert len([text for text in texts(graph.svg()) if text.startswith("0  Linear(")]) == 2


def test_the_module_is_not_kept_after_its_forward() -> None:
    """Also not where it raised."""
    model = network()
    with pytest.raises(ShapeError):
        model(np.zeros((5, 7), np.float32))
    w = fnn.Tensor(1.0, requires_grad=True)
    assert (w * 2).node.module is None


# ---- drawing ---------------------------------------------------------------------------------------------------------


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def boxes(svg: str) -> list[tuple[float, float, float, float]]:
    """(left, top, right, bottom) of every node."""
    found = []
    for group in ElementTree.fromstring(svg).iter(f"{SVG}g"):
        r = group.find(f"{SVG}rect").attrib
        x, y, width, height = (float(r[name]) for name in ("x", "y", "width", "height"))
        found.append((x, y, x + width, y + height))
    return found


def test_the_svg_shows_every_node(tmp_path: Path) -> None:
    f, names = lecture()
    graph = fnn.graph(f, names=names)
    svg = graph.svg()
    assert texts(svg)[:5] == ["w1", "2", f"{0.5 * math.exp(0.75):.5g}", "x", "0.5"]
    assert len(boxes(svg)) == len(graph) == 8
    assert svg.count("marker-end") == sum(len(node.inputs) for node in graph.nodes) == 7
    assert graph._repr_svg_() == svg
    graph.save(tmp_path / "f.svg")
    graph.save(tmp_path / "f.txt")
    assert (tmp_path / "f.svg").read_text() == svg
    assert (tmp_path / "f.txt").read_text() == repr(graph) + "\n"


@pytest.mark.parametrize("grouped", [False, True])
def test_boxes_do_not_overlap_and_edges_go_down(grouped: bool, rng: np.random.Generator) -> None:
    model = network()
    loss = nn.CrossEntropyLoss()(model(rng.normal(size=(5, 6)).astype(np.float32)), np.zeros(5, int))
    graph = fnn.graph(loss, model if grouped else None)
    found = boxes(graph.svg())
    for a, b in itertools.combinations(found, 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)
    place = dict(zip(map(id, graph.nodes), found, strict=True))
    for node in graph.nodes:
        for above in node.inputs:
            assert place[id(above)][3] < place[id(node)][1]
    width, height = (float(ElementTree.fromstring(graph.svg()).attrib[name]) for name in ("width", "height"))
    assert max(b[2] for b in found) - min(b[0] for b in found) < width
    assert max(b[3] for b in found) < height


def test_layers_stand_apart_and_edges_go_around_boxes(rng: np.random.Generator) -> None:
    """Each layer's panel is its own, with its parameters; no edge leads through a box, not even around a block."""
    model = network()
    graph = fnn.graph(nn.CrossEntropyLoss()(model(rng.normal(size=(5, 6)).astype(np.float32)), np.zeros(5, int)), model)
    svg = ElementTree.fromstring(graph.svg())
    panels = []
    for rect in svg.findall(f"{SVG}rect")[1:]:  # the first is the background
        x, y, width, height = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        panels.append((x, y, x + width, y + height))
    assert len(panels) == 9
    for a, b in itertools.pairwise(panels):
        assert a[3] < b[1]
    found = boxes(graph.svg())
    for panel, node in zip(panels[:1] * 4, found[:4], strict=True):  # x, weight, bias and linear of the first layer
        assert panel[0] < node[0]
        assert panel[1] < node[1]
        assert node[2] < panel[2]
        assert node[3] < panel[3]
    paths = [path.attrib["d"] for path in svg.findall(f"{SVG}path")]
    corners = [tuple(map(float, part.split()[-1].split(","))) for d in paths for part in d[1:].split(" C")]
    assert len(corners) > 2 * len(paths)  # those of the long edges
    for x, y in corners:
        assert not any(b[0] < x < b[2] and b[1] + 0.1 < y < b[3] - 0.1 for b in found)


def test_titles_are_escaped() -> None:
    w = fnn.Tensor(1.0, requires_grad=True)
    assert "<w&>" in texts(fnn.graph(w * w, names={"<w&>": w}).svg())


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_what_is_no_graph_is_refused(tmp_path: Path) -> None:
    f, names = lecture()
    with pytest.raises(GraphError, match="one that no operator computed"):
        fnn.graph(names["w1"])
    with fnn.no_grad(), pytest.raises(GraphError, match="not under no_grad"):
        fnn.graph(lecture()[0])
    with pytest.raises(GraphError, match="got float"):
        fnn.graph(2.0)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="expected a tensor as 'w', got float"):
        fnn.graph(f, names={"w": 2.0})  # type: ignore[dict-item]
    graph = fnn.graph(f, names=names)
    with pytest.raises(ArgumentError, match=r"expected one of w1, x, t1, .* got 'y'"):
        graph["y"]
    with pytest.raises(ArgumentError, match=r"\.svg or \.txt"):
        graph.save(tmp_path / "f.png")
    f.backward()
    with pytest.raises(GraphError, match=r"freed by backward\(\): look at it before"):
        fnn.graph(f)
