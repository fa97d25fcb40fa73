"""The node tests that the package onnx ships, run on `fnn.onnx.load`, and the table of what passes.

`python tests/interop/onnx_conformance.py` writes the table in docs/howto/onnx_load.md; `--failures` lists what fails.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib
import platform
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import fastnn as fnn
from fastnn.interop.onnx.operators import OPERATORS

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "onnx_load.md"
OWN = {*OPERATORS, "Constant", "If"}
NODE = "onnx.backend.test.case.node"


def cases(modules: Iterable[str] = ()) -> list[Any]:
    """All node tests, or those of some of onnx's modules, such as "conv", which is faster."""
    node = importlib.import_module(NODE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in modules:
            importlib.import_module(f"{NODE}.{name}")
        return list(node._NodeTestCases) if modules else list(node.collect_testcases())


def operator_of(case: Any, operators: dict[str, str]) -> str:
    """The operator that a test is about; of an expanded one that of the test it was made of."""
    if "_expanded" not in case.name:
        node = case.model.graph.node[-1] if len(case.model.graph.node) > 1 else case.model.graph.node[0]
        name = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        operators[case.name] = name
        return name
    return operators.get(re.sub(r"_expanded.*", "", case.name), case.model.graph.node[-1].op_type)


def foreign(case: Any) -> bool:
    """Whether a test has values that fastnn's tensors do not hold: text, sequences, complex numbers, tiny types."""
    import onnx

    types = [each.type for each in (*case.model.graph.input, *case.model.graph.output)]
    if any(each.WhichOneof("value") != "tensor_type" for each in types):
        return True
    T = onnx.TensorProto
    own = {T.FLOAT, T.DOUBLE, T.FLOAT16, T.BFLOAT16, T.BOOL, T.INT8, T.INT16, T.INT32, T.INT64, T.UINT8, T.UINT16,
           T.UINT32, T.UINT64}  # fmt: skip
    return not {each.tensor_type.elem_type for each in types} <= own


def plain(array: Any) -> Any:
    """An array as fastnn takes it: 16-bit floats as float32."""
    import onnx

    array = onnx.numpy_helper.to_array(array) if isinstance(array, onnx.TensorProto) else np.asarray(array)
    return array.astype(np.float32) if array.dtype.kind == "V" or array.dtype.name in ("float16", "bfloat16") else array


def precision(case: Any) -> float:
    """How far results may be off where values of 16 bits are computed in float32."""
    import onnx

    T = onnx.TensorProto
    kinds = {each.type.tensor_type.elem_type for each in (*case.model.graph.input, *case.model.graph.output)}
    return 2e-2 if T.BFLOAT16 in kinds else 2e-3 if T.FLOAT16 in kinds else 0.0


def failure(case: Any, folder: Path) -> str:
    """What is wrong with fastnn's results of a test; "" where they are right."""
    path = folder / "model.onnx"
    path.write_bytes(case.model.SerializeToString())
    names = [each.name for each in case.model.graph.input]
    try:
        model = fnn.onnx.load(path).eval()
        for inputs, wanted in case.data_sets:
            given = dict(zip(names, map(plain, inputs), strict=False))
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                found = model(**given) if all(name.isidentifier() for name in names) else model(*given.values())
            outputs = found if isinstance(found, tuple) else (found,)
            if len(outputs) != len(wanted):
                return f"{len(outputs)} outputs for {len(wanted)}"
            for y, expected in zip(outputs, wanted, strict=True):
                low = precision(case)
                kind = plain(expected)
                if y.dtype != kind.dtype or y.shape != kind.shape:
                    return f"{y.dtype} {y.shape} for {kind.dtype} {kind.shape}"
                np.testing.assert_allclose(y.detach().numpy(), kind, max(case.rtol, low), max(1e-6, low))
    except AssertionError as error:
        return " ".join(str(error).split())[:150]
    except fnn.FastnnError as error:
        return f"{type(error).__name__}: {error}"[:420]
    return ""


def run(found: Iterable[Any]) -> dict[str, list[tuple[str, str]]]:
    """By operator, each test's name and what is wrong; "foreign" for those of other types."""
    operators: dict[str, str] = {}
    results: dict[str, list[tuple[str, str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for case in found:
            operator = operator_of(case, operators)
            said = "foreign" if foreign(case) else failure(case, Path(folder))
            results.setdefault(operator, []).append((case.name, said))
    return results


def table(results: dict[str, list[tuple[str, str]]]) -> tuple[str, int, int]:
    """The table in Markdown, and how many tests of operators that fastnn has pass, of how many."""
    rows, passed, total = [], 0, 0
    for operator in sorted(name for name in results if name in OWN):
        own = [said for _, said in results[operator] if said != "foreign"]
        if own:
            rows.append(f"{operator} {own.count('')}/{len(own)}")
            passed, total = passed + own.count(""), total + len(own)
    rows += [""] * (-len(rows) % 5)
    lines = [" | ".join(rows[i : i + 5]) for i in range(0, len(rows), 5)]
    return "\n".join(["| | | | | |", "|---|---|---|---|---|", *(f"| {line} |" for line in lines)]), passed, total


def main() -> None:
    import onnx

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--failures", action="store_true", help="list what fails, and write nothing")
    parser.add_argument("modules", nargs="*", help="of onnx's node tests, such as conv; all by default")
    arguments = parser.parse_args()
    results = run(cases(arguments.modules))
    text, passed, total = table(results)
    if arguments.failures or arguments.modules:
        for operator, each in sorted(results.items()):
            for name, said in each:
                if said not in ("", "foreign"):
                    print(f"{operator:24} {name}: {said}")
        print(f"{passed} of {total}; other types: {Counter(s for e in results.values() for _, s in e)['foreign']}")
        return
    foreign_ones = sum(said == "foreign" for each in results.values() for _, said in each)
    others = {
        name: [said for _, said in each if said != "foreign"] for name, each in results.items() if name not in OWN
    }
    defined = ", ".join(f"{name} {each.count('')}/{len(each)}" for name, each in sorted(others.items()) if "" in each)
    missing = ", ".join(name for name, each in sorted(others.items()) if "" not in each)
    said = f"""{passed} of {total} tests of the operators that fastnn has pass, {passed / total:.1%}: onnx
{onnx.__version__}, NumPy {np.__version__}, Python {platform.python_version()}, {datetime.date.today()}, by
`python tests/interop/onnx_conformance.py`. {foreign_ones} others have values that fastnn's tensors do not hold (text,
sequences, complex numbers, types of fewer than 8 bits, floats of 8 bits). 16-bit floats are computed in float32. What
Bernoulli and Dropout draw is random, and differs.

{text}

Read as ONNX defines them by other operators: {defined}.

Not there: {missing}.
"""
    page = PAGE.read_text()
    before, after = (page.split(mark)[k] for k, mark in ((0, "<!-- table -->"), (1, "<!-- end -->")))
    PAGE.write_text(f"{before}<!-- table -->\n{said}<!-- end -->{after}")


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
