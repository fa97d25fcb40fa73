"""Run a module as `python -m` would, and write down what it took: ``weighed.py OUT.json MODULE ARGUMENT...``.

The most memory the process ever held is read in the process itself: what its parent could read after it would be, on
Linux, at least what the parent held when it started the child.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path


def peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    import resource  # which Windows lacks

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    _, out, module, *arguments = sys.argv
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        Path(out).write_text(json.dumps({"peak_bytes": peak_bytes()}))
