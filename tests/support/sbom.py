"""What the wheels of a release are made of, as a CycloneDX document on standard output:
`python tests/support/sbom.py WHEEL ...`.

It names each wheel with its SHA-256 and the compiled files in it, and the packages that they need at run time. Their
versions are those that the wheels ask for: which ones are installed is decided on the user's machine.
"""

from __future__ import annotations

import email
import hashlib
import json
import re
import sys
import zipfile
from email.message import Message
from pathlib import Path
from typing import Any


def file(name: str, content: bytes, **more: Any) -> dict[str, Any]:
    return {
        "type": "file",
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}],
        **more,
    }


def described(wheel: Path) -> tuple[Message, dict[str, Any]]:
    """A wheel's metadata, and its component: itself with the compiled files in it."""
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        names = sorted(name for name in archive.namelist() if {".so", ".dylib", ".pyd"} & set(Path(name).suffixes))
        compiled = [file(name, archive.read(name)) for name in names]
        return email.message_from_bytes(archive.read(metadata)), file(
            wheel.name, wheel.read_bytes(), components=compiled
        )


def packages(about: Message) -> list[dict[str, Any]]:
    """What a wheel needs, without extras."""
    found = []
    for requirement in about.get_all("Requires-Dist", []):
        if "extra ==" not in requirement:
            name, versions = re.fullmatch(r"([\w.-]+)\s*(.*?)(?:;.*)?", requirement).groups()  # type: ignore[union-attr]
            asked = [{"name": "fastnn:requires", "value": versions.strip("() ")}]
            package = {"type": "library", "bom-ref": name, "name": name, "purl": f"pkg:pypi/{name}"}
            found.append({**package, "properties": asked})
    return found


def sbom(wheels: list[Path]) -> dict[str, Any]:
    """The document: the same for the same bytes."""
    abouts, components = zip(*map(described, sorted(wheels)), strict=True)
    this, needed = f"pkg:pypi/{abouts[0]['Name']}@{abouts[0]['Version']}", packages(abouts[0])
    licence = [{"license": {"id": abouts[0]["License-Expression"]}}]
    about = {
        "type": "library",
        "bom-ref": this,
        "name": abouts[0]["Name"],
        "version": abouts[0]["Version"],
        "purl": this,
    }
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**about, "licenses": licence}},
        "components": [*needed, *components],
        "dependencies": [{"ref": this, "dependsOn": [package["bom-ref"] for package in needed]}],
    }


if __name__ == "__main__":
    print(json.dumps(sbom([Path(wheel) for wheel in sys.argv[1:]]), indent=2))
