"""checkov finds nothing in infra/template.yaml that is not explained here.

It needs other versions of packages than the rest of the tests, and so an environment of its own, made once beside the
local stack's tools.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import template as read

REQUIREMENTS = read.ROOT / "tests/infra/checkov.txt"

# What it finds and we leave, and why: the check, and the resources it may be found at.
EXPLAINED = {
    "CKV_AWS_18": ({"TrailBucket"}, "a log of who reads a trail would need a bucket of its own; CloudTrail's data events are for that"),
    "CKV_AWS_26": ({"AlarmTopic"}, "CloudWatch may not use SNS's own key, and an alarm's text holds nothing that needs one"),
    "CKV_AWS_27": (
        {f"{queue}{kind}" for queue in ("Signing", "Resign", "Broadcast") for kind in ("Queue", "DeadLetters")},
        "they are encrypted with SQS's own key (SqsManagedSseEnabled), which the check does not know",
    ),
    "CKV_AWS_115": ({"SignerFunction", "BroadcasterFunction"}, "a batch refused for a reservation counts as received; MaximumConcurrency bounds them, and throttles ring"),
    "CKV_AWS_116": ({"SignerFunction", "BroadcasterFunction"}, "messages come from queues that have dead-letter queues; a lost sweep is made up by the next"),
    "CKV_AWS_117": ({"BroadcasterFunction"}, "it speaks to nodes on the internet; the signer's network is a parameter"),
    "CKV_AWS_119": ({"RequestsTable", "AccountsTable"}, "a key of one's own is the parameter TableKmsKeyArn"),
    "CKV_AWS_149": ({"SealSecret"}, "only the signer's role may read it, by the secret's own policy; AWS's key encrypts it"),
    "CKV_AWS_173": ({"SignerFunction", "BroadcasterFunction"}, "no secret is in the environment: the rules of this directory see to it"),
}


@pytest.fixture(scope="module")
def checkov() -> Path:
    """The program, installed if it is not there in these versions."""
    place = Path(os.environ["SIGNPOST_TOOLS"]) / f"checkov-{sys.version_info.major}.{sys.version_info.minor}"
    program, stamp = place / "bin/checkov", place / "installed-for-tests"
    wanted = REQUIREMENTS.read_text()
    if not (stamp.exists() and stamp.read_text() == wanted):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        pip = [str(place / "bin/python"), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
        pip += ["--require-hashes", "--only-binary", ":all:", "--no-deps"]
        subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True, stdin=subprocess.DEVNULL)
        stamp.write_text(wanted)
    return program


def findings(checkov: Path, template: Path) -> set[tuple[str, str]]:
    """The check and the resource of each finding."""
    command = [str(checkov), "--file", str(template), "--framework", "cloudformation", "--skip-download", "--compact", "--quiet", "--output", "json"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    report = json.loads(ran.stdout)
    assert report["summary"]["parsing_errors"] == 0 and report["summary"]["passed"] > 20, report["summary"]
    return {(found["check_id"], found["resource"].split(".")[-1]) for found in report["results"]["failed_checks"]}


def test_checkov_finds_nothing_unexplained(checkov: Path) -> None:
    found = findings(checkov, read.PATH)
    explained = {(check, resource) for check, (resources, _) in EXPLAINED.items() for resource in resources}
    assert found - explained == set(), "new findings"
    assert explained - found == set(), "explanations of nothing"


def test_checkov_finds_more_in_a_worse_template(checkov: Path, tmp_path: Path) -> None:
    worse = tmp_path / "template.json"
    worse.write_text(read.as_json(read.changed(read.load(), "Resources/RequestsTable/Properties/PointInTimeRecoverySpecification")))
    assert findings(checkov, worse) > findings(checkov, read.PATH)
