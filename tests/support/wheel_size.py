"""What a wheel weighs, and all that is downloaded with it: `python tests/support/wheel_size.py WHEEL`.

Exit code 1 where the wheel has more than 3 MB, or the whole more than 25 MB. pip downloads the dependencies for this
Python.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

MEGABYTE = 1_000_000
MOST_OF_WHEEL, MOST_OF_ALL = 3 * MEGABYTE, 25 * MEGABYTE


def main(wheel: Path) -> int:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--only-binary", ":all:", "-d", folder, str(wheel)]
        subprocess.run(command, check=True)
        sizes = {path.name: path.stat().st_size for path in Path(folder).iterdir()}
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"{size / MEGABYTE:8.2f} MB  {name}")
    total = sum(sizes.values())
    print(f"{total / MEGABYTE:8.2f} MB  in all")
    return int(sizes[wheel.name] > MOST_OF_WHEEL or total > MOST_OF_ALL)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
