"""Builds fastnn's one extension, fastnn._kernels: C11 with one translation unit per instruction set.

Everything else about the package stands in pyproject.toml. FASTNN_NO_NATIVE=1 builds the package without the extension,
FASTNN_SANITIZE=1 with one that watches its own memory accesses and arithmetic (.ci/sanitize), and FASTNN_SYMBOLS=1 with
one that a debugger or a profiler can read: names, lines and frames, and the same instructions.
"""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, CompileError, ExecError, PlatformError

# -ffast-math would turn denormals off in the whole process and lose NaN; these three do neither.
FLAGS = [
    "-std=gnu11", "-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fvisibility=hidden",
]  # fmt: skip
SANITIZE = os.environ.get("FASTNN_SANITIZE", "0") not in ("", "0")
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
SYMBOLS = SANITIZE or os.environ.get("FASTNN_SYMBOLS", "0") not in ("", "0")
# Names of functions and the tables of their frames would be 65 kB of a wheel.
STRIP = [] if SYMBOLS else ["-Wl,-x"] if sys.platform == "darwin" else ["-Wl,-s"]
FLAGS.append("-g1" if SYMBOLS else "-fno-asynchronous-unwind-tables")
if SANITIZE:
    FLAGS += [*SANITIZERS, "-O0", "-g1", "-w"]  # optimised, they take several times as long to compile
SMALLER = [] if SANITIZE else ["-O2"]
# The binding, with fewer conversions of arguments inlined: a quarter less code than by -O3, and a small call as fast as
# by -O2, within 2 %. By -Os it would be half of that, and a call would take a fifth longer.
BINDING = [*SMALLER, "--param", "max-inline-insns-single=35"]
# CPUs of before 2013: a fifth less than by -O2, a third less than by -O3, and a few per cent slower.
BASELINE = [] if SANITIZE else ["-Os"]
# What -O3 makes of loops whose length it does not know, where they are written in vectors already: a sixth of the code,
# and no step or prediction is faster for it; and the copies of loops for each answer to a question within them, a
# thirtieth; and what they do to expressions that are in part redundant, a hundredth. Clang has no such options.
OF_GCC = [
    "-fno-peel-loops", "-fno-split-loops", "-fno-split-paths", "-fno-version-loops-for-strides", "-fno-ipa-cp-clone",
    "-fno-unswitch-loops", "-fno-tree-partial-pre", "-fno-loop-unroll-and-jam", "-fno-tree-loop-distribution",
    "-fno-gcse-after-reload", "-fno-predictive-commoning", "-fno-split-wide-types",
]  # fmt: skip
FILE_FLAGS = {
    "_kernels.c": BINDING,
    "isa_baseline.c": BASELINE if platform.machine() in ("x86_64", "AMD64") else [],
    "isa_avx2.c": ["-mavx2", "-mfma"],
    "isa_avx512.c": ["-mavx512f", "-mavx512vl", "-mavx512dq", "-mavx512bw", "-mfma", "-mprefer-vector-width=512"],
}
UNITS = {"x86_64": ["isa_avx2.c", "isa_avx512.c"], "AMD64": ["isa_avx2.c", "isa_avx512.c"],
         "aarch64": ["isa_neon.c"], "arm64": ["isa_neon.c"]}  # fmt: skip

NO_COMPILER = """
fastnn needs a C compiler, GCC or Clang, and Python's headers to build its kernels, and {missing}:
{error}
Install them (Debian, Ubuntu: apt install build-essential python3-dev; Fedora: dnf install gcc python3-devel;
macOS: xcode-select --install), or set FASTNN_NO_NATIVE=1 to install without compiled kernels and run on Numba:
pip install "fastnn-cpu[jit]"."""


def is_gcc(compiler) -> bool:
    """Whether it is GCC, which is called by many names; not Clang, which is called gcc on macOS."""
    try:
        command = [compiler.compiler_so[0], "--version"]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except (AttributeError, OSError):  # another kind of compiler, or none: to compile says so
        return False
    return "Free Software Foundation" in said


class BuildKernels(build_ext):
    """build_ext with flags of its own for each instruction set's file; without a compiler it says what to install."""

    @staticmethod
    def compile_side_by_side(compile_in_turn):
        """The files take as long as their number of instruction sets: each is compiled by a thread of its own."""

        def compile_all(sources, *args, **kwargs):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                objects = pool.map(lambda source: compile_in_turn([source], *args, **kwargs), sources)
                return [name for names in objects for name in names]

        return compile_all

    def build_extension(self, ext: Extension) -> None:
        """Not again what lies beside the package's sources, where `pip install -e .` puts it, and is newer than all."""
        made, wanted = self.get_ext_filename(ext.name), self.get_ext_fullpath(ext.name)
        sources = ["setup.py", *filter(os.path.isfile, glob("kernels/**", recursive=True))]
        changed = not os.path.isfile(made) or max(map(os.path.getmtime, sources)) > os.path.getmtime(made)
        if self.force or SANITIZE or changed:
            super().build_extension(ext)
        elif not (os.path.exists(wanted) and os.path.samefile(made, wanted)):
            os.makedirs(os.path.dirname(wanted), exist_ok=True)
            shutil.copy2(made, wanted)

    def build_extensions(self) -> None:
        compile_one = self.compiler._compile
        shorter = OF_GCC if is_gcc(self.compiler) and not SANITIZE else []

        def compile_for_isa(obj, src, ext, cc_args, extra_postargs, pp_opts):
            name = os.path.basename(src)
            # Python's -fwrapv hides from the compiler where loops end: a layer norm takes a quarter longer with it.
            extra = [*FILE_FLAGS.get(name, []), *(["-fno-wrapv", *shorter] if name.startswith("isa_") else [])]
            compile_one(obj, src, ext, cc_args, [*extra_postargs, *extra], pp_opts)

        self.compiler._compile = compile_for_isa
        self.compiler.compile = self.compile_side_by_side(self.compiler.compile)
        try:
            super().build_extensions()
        except (CCompilerError, CompileError, ExecError, PlatformError) as error:
            headers = os.path.isfile(os.path.join(sysconfig.get_path("include"), "Python.h"))
            missing = "the compiler did not work here" if headers else "the headers (Python.h) are missing here"
            raise SystemExit(NO_COMPILER.format(missing=missing, error=error)) from None


def extensions() -> list[Extension]:
    if os.environ.get("FASTNN_NO_NATIVE", "0") not in ("", "0"):
        return []
    import numpy
    from Cython.Build import cythonize

    shared = [
        "_kernels.pyx",
        "dispatch.c",
        "base/memory.c",
        "base/stopping.c",
        "base/threads.c",
        "plan/program.c",
        "isa_baseline.c",
    ]
    sources = [*shared, *UNITS.get(platform.machine(), [])]
    kernels = Extension(
        "fastnn._kernels",
        [f"kernels/{name}" for name in sources],
        include_dirs=["kernels", numpy.get_include()],
        depends=["setup.py", *glob("kernels/**/*.h", recursive=True)],
        # Without complex.h, which Cython includes where NumPy is older than 2, and whose I is a macro.
        define_macros=[
            ("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"),
            ("_GNU_SOURCE", "1"),
            ("CYTHON_CCOMPLEX", "0"),
        ],
        extra_compile_args=[*FLAGS, "-pthread"],
        extra_link_args=["-pthread", *STRIP, *(SANITIZERS if SANITIZE else [])],
    )
    return cythonize([kernels], build_dir="build", language_level=3)


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildKernels})
