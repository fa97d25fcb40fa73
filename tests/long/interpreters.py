"""Python 3.10 to 3.14 and NumPy 1.26 to the newest pass the tests.

Each interpreter that this machine has is given an environment of its own, with the oldest NumPy that has wheels for
it or the newest one, in turns, and a build of the kernels, and runs the tests that need no other packages. What cannot
be had here is named in the figure. At less than the full length (`.ci/run`: 0.5) only the oldest and the newest one run
the tests of operators, layers and optimisers. In short: all sources are Python 3.10.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

IN_CI = 0.01
ROOT = Path(__file__).parents[2]
VERSIONS = [f"3.{minor}" for minor in range(10, 15)]
OLDEST = {"3.10": "1.26", "3.11": "1.26", "3.12": "1.26", "3.13": "2.1", "3.14": "2.3"}  # NumPy with wheels for it
NEEDED = [
    "setuptools>=77",
    "Cython>=3.1",
    "safetensors",
    "tqdm",
    "pooch",
    "pytest>=8",
    "hypothesis>=6",
    "pillow",
    "scipy",
]
TESTS = ["backends", "ops", "nn", "optim", "plan", "train", "data", "autograd"]
FEWER = ["ops", "nn", "optim"]
# Builds are most of the time: with less optimisation the binding, whose speed matters little, and for fewer tests all.
COMPILER = """#!/bin/sh
case "$*" in {1}) exec {0} "$@" {2} ;; *) exec {0} "$@" ;; esac
"""
NOT_COPIED = shutil.ignore_patterns(
    ".git", "build", "dist", "*.so", "*.egg-info", "__pycache__", ".*_cache", "v", ".venv", "site"
)


def interpreters() -> dict[str, str]:
    """Version -> the interpreter's path: of PATH, pyenv and uv."""
    found = {}
    for version in VERSIONS:
        folders = [Path.home() / ".pyenv/versions", Path.home() / ".local/share/uv/python"]
        kept = [str(path) for folder in folders for path in sorted(folder.glob(f"*{version}.*/bin/python{version}"))]
        for candidate in [*kept, shutil.which(f"python{version}")]:
            asked = [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"] if candidate else ["false"]
            if subprocess.run(asked, capture_output=True, text=True).stdout.strip() == version:
                found[version] = str(candidate)
                break
    return found


def passes(version: str, python: str, numpy: str, tests: list[str]) -> str:
    """The tests' last line, and NumPy's version, in an environment of that interpreter."""
    with tempfile.TemporaryDirectory(prefix=f"fastnn-{version}-") as room:
        tree = shutil.copytree(ROOT, Path(room, "tree"), ignore=NOT_COPIED)
        compiler = Path(room, "cc")
        lowered = ("*_kernels.c*", "-O1") if tests == TESTS else ("*", "-O0")
        compiler.write_text(COMPILER.format(os.environ.get("CC", "gcc"), *lowered))
        compiler.chmod(0o755)
        inside = str(Path(room, "v/bin/python"))
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        environment = {**clean, "CC": str(compiler), "OMP_NUM_THREADS": "1"}

        def run(*command: str) -> str:
            done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, (
                f"Python {version}, NumPy {numpy}: {' '.join(command)}\n{(done.stdout + done.stderr)[-3000:]}"
            )
            return done.stdout

        run(python, "-m", "venv", str(Path(room, "v")))
        run(inside, "-m", "pip", "-q", "install", "--only-binary", ":all:", f"numpy{numpy}", *NEEDED)
        run(inside, "setup.py", "-q", "build_ext", "--inplace")
        said = run(
            inside,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            "addopts=-m 'not long'",
            *(f"tests/{name}" for name in tests),
        )
        got = run(inside, "-c", "import numpy; print(numpy.__version__)").strip()
        count = re.findall(r"(\d+) passed", said)
        return f"{version} with NumPy {got}" + (f" ({count[-1]} tests)" if count else "")


def measure(share: float = 1.0) -> str:
    """Which interpreters passed, with which NumPy, and which are not here; in short, that sources are of the oldest."""
    for path in (*(ROOT / "fastnn").rglob("*.py"), *(ROOT / "tests").rglob("*.py")):
        ast.parse(path.read_text(), str(path), feature_version=(3, 10))
    here = interpreters()
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in VERSIONS
    if share < 0.1:
        return f"sources are Python 3.10; {', '.join(here) or 'no interpreters'} found"
    others = [version for version in here if version != f"{sys.version_info[0]}.{sys.version_info[1]}"]
    chosen, tests = (list(here), TESTS) if share >= 1 else (list(dict.fromkeys([*others[:1], *others[-1:]])), FEWER)
    figures = [
        passes(version, here[version], f"=={OLDEST[version]}.*" if i % 2 == 0 else "", tests)
        for i, version in enumerate(chosen)
    ]
    absent = [version for version in VERSIONS if version not in here]
    return "; ".join([*figures, *([f"not to be had here: {', '.join(absent)}"] if absent else [])])
