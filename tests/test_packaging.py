"""What is built for others: the source distribution, a package without kernels, and a build without a compiler."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from wheel_size import MOST_OF_WHEEL

for required in ("build", "setuptools", "Cython"):
    pytest.importorskip(required)

ROOT = Path(__file__).parent.parent
EXTRAS = re.findall(
    r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text().split("optional-dependencies]")[1].split("\n[")[0], re.M
)
HIDDEN = ".[!c]*"  # but .ci
NOT_COPIED = shutil.ignore_patterns(HIDDEN, "build", "dist", "site", "v", "*.egg-info", "*.so", "__pycache__")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, because building writes into its folder."""
    return shutil.copytree(ROOT, tmp_path_factory.mktemp("sources") / "fastnn", ignore=NOT_COPIED)


@pytest.fixture(scope="module")
def without_kernels(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which a wheel built under FASTNN_NO_NATIVE=1 is unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    result = build(sources, "--wheel", folder, FASTNN_NO_NATIVE="1")
    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def build(sources: Path, kind: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m build` with this environment's setuptools, Cython and NumPy: nothing is downloaded."""
    return run(
        sources, sys.executable, "-m", "build", kind, "--no-isolation", "--outdir", str(folder), ".", **environment
    )


def run(folder: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FASTNN_", "PYTHON"))}
    return subprocess.run(command, cwd=folder, env={**clean, **environment}, capture_output=True, text=True)


def python(folder: Path, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program on the package in this folder.

    Without `site`, because an editable installation of fastnn adds an importer there that finds its own kernels.
    """
    paths = [str(folder), *(entry for entry in sys.path if entry and Path(entry) != ROOT)]
    command = [sys.executable, "-S", "-W", "always", "-c", program]
    return run(folder, *command, PYTHONPATH=os.pathsep.join(paths), **environment)


def files(*patterns: str) -> set[str]:
    return {str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern)}


def test_no_text_tells_to_install_the_package_of_this_name_on_pypi() -> None:
    """The distribution is fastnn-cpu; fastnn there is somebody else's. Line breaks and quotes may stand between."""
    told = re.compile(
        r"""(?<!un)install[\s"'\\]+(?:-\w+[\s"']+)*fastnn(?!-cpu)\b|(?<!-)\bfastnn\[(?:{})\]""".format("|".join(EXTRAS))
    )
    assert all(told.search(text) for text in ("install -U fastnn", 'install "\n    \'"fastnn[jit]"', "`fastnn[all]`"))
    texts = files(
        "*.md", "*.py", "*.toml", ".ci/*", *(f"{f}/**/*.*" for f in ("fastnn", "docs", "examples", "kernels"))
    )
    texts |= files("benchmarks/**/*.py", "tests/**/*.txt", "tests/**/*.py") - {"tests/test_packaging.py"}
    for name in sorted(texts):
        if "__pycache__" not in name and not name.endswith((".so", ".npz", ".png")):
            assert told.search((ROOT / name).read_text()) is None, name


def test_every_supported_python_gets_wheels() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    oldest = re.search(r'requires-python = ">=3\.(\d+)"', project)
    wheels = re.search(r'^\[tool\.cibuildwheel\]\nbuild = "(.*)"$', project, re.M)
    assert oldest is not None
    assert wheels is not None
    built = [int(version) for version in re.findall(r"cp3(\d+)-\*", wheels[1])]
    assert built == list(range(int(oldest[1]), built[-1] + 1))
    command = project.split("test-command = [")[1].split("]")[0]
    assert all((ROOT / name).exists() for name in re.findall(r"tests/\S+\.py", command))
    assert "MACOSX_DEPLOYMENT_TARGET" in project


def test_sbom_names_wheels_their_compiled_files_and_what_they_need(tmp_path: Path) -> None:
    metadata = "Metadata-Version: 2.4\nName: some\nVersion: 1.2\nLicense-Expression: MIT\nRequires-Dist: numpy>=1.25\n"
    for platform in ("a", "b"):
        with zipfile.ZipFile(tmp_path / f"some-1.2-{platform}.whl", "w") as wheel:
            wheel.writestr("some/_kernels.cpython-311.so", "abc")
            wheel.writestr("some/__init__.py", "")
            wheel.writestr(
                "some-1.2.dist-info/METADATA", f'{metadata}Requires-Dist: torch>=2; extra == "torch"\n\ntext'
            )
    result = run(tmp_path, sys.executable, str(ROOT / "tests/support/sbom.py"), "some-1.2-b.whl", "some-1.2-a.whl")
    found = json.loads(result.stdout)
    assert found["metadata"]["component"]["purl"] == "pkg:pypi/some@1.2"
    needed, *wheels = found["components"]
    assert needed["name"] == "numpy"
    assert needed["properties"] == [{"name": "fastnn:requires", "value": ">=1.25"}]
    assert [wheel["name"] for wheel in wheels] == ["some-1.2-a.whl", "some-1.2-b.whl"]
    (compiled,) = wheels[0]["components"]
    assert compiled["name"] == "some/_kernels.cpython-311.so"
    # FIPS 180-2, appendix B.1: the SHA-256 of "abc"
    assert compiled["hashes"][0]["content"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.long
def test_source_distribution(sources: Path, tmp_path: Path) -> None:
    """All that building and testing need, and nothing that is made from it."""
    result = build(sources, "--sdist", tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}
    written = files("kernels/*.pyx", "kernels/*.pxi", "kernels/**/*.c", "kernels/**/*.h")
    written |= files(
        "fastnn/**/*.py",
        "fastnn/**/*.pyi",
        *(f"tests/**/*.{kind}" for kind in ("py", "[ch]", "txt", "json", "ipynb")),
        "benchmarks/**/*.py",
        "benchmarks/**/*.c",
    )
    written |= files("examples/*.py", "docs/**/*.md", "docs/**/*.png", "docs/**/*.svg")
    written |= files("LICENSE", "*.md", "setup.py", "pyproject.toml", "fastnn/py.typed", "fastnn/data/digits.npz")
    written |= files("fastnn/*.txt", "docs/*.py", "mkdocs.yml", ".ci/*")
    assert {"kernels/_kernels.pyx", "kernels/dispatch.c", "kernels/base/simd.h", "fastnn/data/digits.npz"} <= written
    assert written - names == set()
    assert [name for name in names if name.endswith((".c", ".h", ".pyx")) and name not in written] == []
    assert [name for name in names if name.endswith((".so", ".pyc", ".o"))] == []


def test_wheel_holds_the_package_and_nothing_else(without_kernels: Path) -> None:
    held = {str(path.relative_to(without_kernels)) for path in without_kernels.rglob("*") if path.is_file()}
    code = {name for name in held if name.endswith(".py")}
    assert code == files("fastnn/**/*.py")
    assert {
        "fastnn/py.typed",
        "fastnn/__init__.pyi",
        "fastnn/pytorch_names.txt",
        "fastnn/data/digits.npz",
        "fastnn/data/DIGITS.md",
    } <= held
    assert {name.split("/")[0] for name in held if not name.endswith(".whl")} - {"fastnn"} == {
        f"fastnn_cpu-{name.split('-')[1]}.dist-info" for name in held if name.endswith(".whl")
    }


def test_a_wheel_with_kernels_does_not_grow(without_kernels: Path) -> None:
    """A wheel is a zip file: what it weighs is that of all but the kernels, and the kernels as zip deflates them.

    A release may have 3 MB (wheel_size.py), and so may what is between releases.
    """
    kernels = [path.read_bytes() for path in (ROOT / "fastnn").glob("_kernels*.so")]
    if not kernels or any(b".debug_info" in each for each in kernels):
        pytest.skip("no kernels here, or such with symbols")
    (rest,) = without_kernels.glob("*.whl")
    assert rest.stat().st_size + max(len(zlib.compress(each)) for each in kernels) <= MOST_OF_WHEEL


@pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="falls back on Numba")
def test_without_kernels_numba_runs_and_says_so_once(without_kernels: Path) -> None:
    program = "import fastnn.backends; print(fastnn.backends.name())"
    result = python(without_kernels, program)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["jit"]
    assert result.stderr.count("Warning") == 1
    assert "without its compiled kernels, so it runs on Numba" in result.stderr


def test_without_kernels_and_without_numba_importing_says_what_to_do(without_kernels: Path) -> None:
    result = python(without_kernels, "import sys; sys.modules['numba'] = None; import fastnn")
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    for advice in ("C compiler", 'pip install "fastnn-cpu[jit]"', "FASTNN_BACKEND=reference"):
        assert advice in last


def test_without_kernels_the_reference_runs_when_asked_for(without_kernels: Path) -> None:
    program = (
        "import sys; sys.modules['numba'] = None; import fastnn as fnn; print(fnn.nn.Linear(2, 3)([[1, 2]]).shape)"
    )
    result = python(without_kernels, program, FASTNN_BACKEND="reference")
    assert (result.stdout.strip(), result.stderr) == ("(1, 3)", "")
    asked = python(without_kernels, "import fastnn; fastnn.backends.name()", FASTNN_BACKEND="native")
    assert "installed without its compiled kernels" in asked.stderr.strip().splitlines()[-1]


@pytest.mark.long
def test_without_a_compiler_building_stops_with_a_sentence(sources: Path, tmp_path: Path) -> None:
    result = build(sources, "--wheel", tmp_path, CC="/nonexistent")
    said = result.stdout + result.stderr
    assert result.returncode != 0
    assert "fastnn needs a C compiler, GCC or Clang" in said
    assert "apt install build-essential" in said
    assert "FASTNN_NO_NATIVE=1" in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.long
def test_kernels_are_not_compiled_again_until_a_source_changes(sources: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(sources, tmp_path / "sources")
    made = folder / "fastnn" / f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}"
    made.write_bytes(b"made before")
    command = [sys.executable, "setup.py", "-q", "build_ext", "--build-lib"]
    assert run(folder, *command, str(tmp_path / "first"), CC="/nonexistent").returncode == 0
    assert (tmp_path / "first" / "fastnn" / made.name).read_bytes() == b"made before"
    os.utime(made, (0, 0))
    again = run(folder, *command, str(tmp_path / "second"), CC="/nonexistent")
    assert again.returncode != 0
    assert "fastnn needs a C compiler" in again.stderr
