"""The bill of materials of a function's program, as a CycloneDX document (ECMA-424, version 1.6).

Used by `package.py`. Lists the packages that cargo links into the program, with the digests of Cargo.lock, and the
compiler with its standard library. Packages that only run during the build (build scripts, procedural macros) are not
listed. The document depends only on the sources and the compiler: it has no date and no random number, so two builds
can be compared.
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

# `3tokio v1.50.0 (proc-macro)|MIT (*)`: depth, name, version, remarks, licence, and a star if cargo has already shown
# the dependencies.
LINE = re.compile(r"(?P<depth>\d+)(?P<name>[A-Za-z][\w-]*) v(?P<version>\S+)(?P<remarks>[^|]*)\|(?P<license>[^(]*)")

Package = tuple[str, str]


@dataclass
class Linked:
    """The packages of a program, starting with its own: their licences and their dependencies."""

    licenses: dict[Package, str] = field(default_factory=dict)
    uses: dict[Package, set[Package]] = field(default_factory=dict)


def linked(tree: str) -> Linked:
    """Parses the output of `cargo tree --prefix depth --format '{p}|{l}'`."""
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
    """The SHA-256 of each registry package in Cargo.lock."""
    packages = tomllib.loads(lock.read_text())["package"]
    return {(one["name"], one["version"]): one["checksum"] for one in packages if "checksum" in one}


def reference(package: Package) -> str:
    """The unique reference of a package in the document: its package URL."""
    name, version = package
    return f"pkg:cargo/{name}@{quote(version, safe='.-~')}"


def component(package: Package, license: str, checksum: str | None) -> dict[str, Any]:
    """A library. Our own have no digest, since they are not from a registry."""
    name, version = package
    found: dict[str, Any] = {"type": "library", "bom-ref": reference(package), "name": name, "version": version}
    if checksum:
        found |= {"hashes": [{"alg": "SHA-256", "content": checksum}], "purl": reference(package)}
    if license:
        found["licenses"] = [{"expression": license}]
    return found


def compiler(described: str) -> dict[str, Any]:
    """The compiler's standard library, which is in every program. Parses the output of `rustc -vV`."""
    fields = dict(line.split(": ", 1) for line in described.splitlines() if ": " in line)
    version, commit = fields["release"], fields["commit-hash"]
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
    """The document of one program, as the bytes of a file."""
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
    """The document of a program from a package that was built alone. Runs cargo and the compiler."""
    command = ["cargo", "tree", "--locked", "--package", package, "--edges", "normal,no-proc-macro"]
    command += ["--target", target, "--prefix", "depth", "--format", "{p}|{l}", "--charset", "ascii"]
    tree, described = (
        subprocess.run(asked, cwd=root, stdout=subprocess.PIPE, text=True, check=True).stdout
        for asked in (command, ["rustc", "-vV"])
    )
    return document(name, program, tree, root / "Cargo.lock", described, target)
