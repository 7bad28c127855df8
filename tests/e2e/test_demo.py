"""`signpost demo`, as in the README."""

from __future__ import annotations

import json

from stack import run

COUNT = 12


def test_demo_totals_are_consistent() -> None:
    result = run("demo", "--count", str(COUNT), "--json", within_s=120)
    assert result.code == 0, result.err
    totals = json.loads(result.out.splitlines()[-1])
    assert totals["submitted"] == COUNT
    assert totals["confirmed"] + totals["reverted"] + totals["rejected"] == COUNT
    assert totals["kmsSigns"] == totals["confirmed"] + totals["reverted"]
    assert (totals["duplicates"], totals["nonceGaps"]) == (0, 0)
    assert min(totals["confirmed"], totals["reverted"], totals["rejected"]) > 0, "the demo has requests of each status"
    for name in ("MinedMs", "FinalMs"):
        assert 0 < totals[f"p50{name}"] <= totals[f"p99{name}"]
