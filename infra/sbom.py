"""What a function's program is made of, as a CycloneDX document (ECMA-424, version 1.6).

Used by `package.py`. Lists what cargo links into the program, with the digests of Cargo.lock, and the compiler with
its standard library. What only runs while it is built (build scripts, procedural macros) is not in it. The document
depends on the sources and the compiler alone: it has no date and no random number, so two builds can be compared.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

# `3tokio v1.50.0 (proc-macro)|MIT (*)`: depth, name, version, remarks, licence, and a star where cargo has shown
# what is below already.
LINE = re.compile(r"(?P<depth>\d+)(?P<name>[A-Za-z][\w-]*) v(?P<version>\S+)(?P<remarks>[^|]*)\|(?P<license>[^(]*)")

Package = tuple[str, str]


@dataclass
class Linked:
    """The packages of a program, the program's own first: their licences, and who uses whom."""

    licenses: dict[Package, str] = field(default_factory=dict)
    uses: dict[Package, set[Package]] = field(default_factory=dict)


def linked(tree: str) -> Linked:
    """Reads what `cargo tree --prefix depth --format '{p}|{l}'` prints."""
    found = Linked()
    above: list[Package] = []
    for line in tree.splitlines():
        read = LINE.match(line)
        if not read:
            raise ValueError(f"not a line of cargo tree: {line!r}")
        package = (read["name"], read["version"])
        found.licenses[package] = read["license"].strip().replace("/", " OR ")
        found.uses.setdefault(package, set())
        del above[int(read["depth"]) :]
        if above:
            found.uses[above[-1]].add(package)
        above.append(package)
    return found


def checksums(lock: Path) -> dict[Package, str]:
    """The SHA-256 of each package of a registry, by Cargo.lock."""
    packages = tomllib.loads(lock.read_text())["package"]
    return {(one["name"], one["version"]): one["checksum"] for one in packages if "checksum" in one}


def reference(package: Package) -> str:
    """A name that is the package's alone in the document: its package URL."""
    name, version = package
    return f"pkg:cargo/{name}@{quote(version, safe='.-~')}"


def component(package: Package, license: str, checksum: str | None) -> dict[str, Any]:
    """A library. Ours have no digest: they are no packages of a registry, but the sources themselves."""
    name, version = package
    found: dict[str, Any] = {"type": "library", "bom-ref": reference(package), "name": name, "version": version}
    if checksum:
        found |= {"hashes": [{"alg": "SHA-256", "content": checksum}], "purl": reference(package)}
    if license:
        found["licenses"] = [{"expression": license}]
    return found


def compiler(described: str) -> dict[str, Any]:
    """The compiler, whose standard library is in every program; from `rustc -vV`."""
    told = dict(line.split(": ", 1) for line in described.splitlines() if ": " in line)
    version, commit = told["release"], told["commit-hash"]
    name = f"rust-std-{version}"
    return {
        "type": "library",
        "bom-ref": name,
        "name": "rust-std",
        "version": version,
        "description": f"the standard library of rustc {version}, commit {commit}",
        "licenses": [{"expression": "MIT OR Apache-2.0"}],
    }


def document(name: str, program: bytes, tree: str, lock: Path, described: str, target: str) -> bytes:
    """The document of one program, as bytes of a file."""
    found, known, std = linked(tree), checksums(lock), compiler(described)
    own, *others = found.licenses
    main = {
        "type": "application",
        "bom-ref": name,
        "name": name,
        "version": own[1],
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(program).hexdigest()}],
        "licenses": [{"expression": found.licenses[own]}],
        "properties": [{"name": "signpost:target", "value": target}],
    }
    uses = {name if one == own else reference(one): sorted(map(reference, used)) for one, used in found.uses.items()}
    uses[name].append(std["bom-ref"])
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"lifecycles": [{"phase": "build"}], "component": main},
        "components": [std, *(component(one, found.licenses[one], known.get(one)) for one in sorted(others))],
        "dependencies": [{"ref": ref, "dependsOn": used} for ref, used in sorted(uses.items())],
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def of_program(name: str, package: str, program: bytes, target: str, root: Path) -> bytes:
    """Asks cargo and the compiler, and writes the document of a program that was built of a package alone."""
    command = ["cargo", "tree", "--locked", "--package", package, "--edges", "normal,no-proc-macro"]
    command += ["--target", target, "--prefix", "depth", "--format", "{p}|{l}", "--charset", "ascii"]
    tree, described = (
        subprocess.run(asked, cwd=root, stdout=subprocess.PIPE, text=True, check=True).stdout
        for asked in (command, ["rustc", "-vV"])
    )
    return document(name, program, tree, root / "Cargo.lock", described, target)
