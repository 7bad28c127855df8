"""The threat model names a test for each of its claims. These tests check that the named tests exist."""

from __future__ import annotations

import re
from pathlib import Path

from denied import denied

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "infra/SECURITY.md"


def test_every_test_named_in_the_threat_model_exists() -> None:
    named = re.findall(r"\[`(\w+)`\]\((\.\./[^)#]+\.(?:rs|py))\)", PAGE.read_text())
    assert len(named) > 50, "the threat model names its tests"
    gone = [
        f"{name} in {path}"
        for name, path in named
        if not re.search(rf"^\s*(?:async )?(?:fn|def) {name}\(", (PAGE.parent / path).read_text(), re.M)
    ]
    assert not gone, gone


def test_threat_model_names_every_list_of_denied_calls() -> None:
    lists = (ROOT / "tests/infra/denied.py").read_text()
    named = {
        name
        for names in re.findall(r"rows ((?:`\w+`(?:, )?)+)", PAGE.read_text())
        for name in re.findall(r"\w+", names)
    }
    assert named == set(re.findall(r"^def (\w+)\(\) -> list", lists, re.M)) - {
        denied.__name__
    }, "each party's rows are named"
