"""checkov has no finding in infra/template.yaml without an explanation here.

It needs other package versions than the rest of the tests. So it has a separate environment, created once beside the
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

# Accepted findings: the check, the resources, and the reason.
EXPLAINED = {
    "CKV_AWS_18": (
        {"TrailBucket"},
        "an access log would need a second bucket; CloudTrail's data events record the access",
    ),
    "CKV_AWS_26": ({"AlarmTopic"}, "CloudWatch may not use SNS's own key, and an alarm's text is not confidential"),
    "CKV_AWS_27": (
        {f"{queue}{kind}" for queue in ("Signing", "Resign", "Broadcast") for kind in ("Queue", "DeadLetters")},
        "they are encrypted with SQS's own key (SqsManagedSseEnabled), and the check does not know it",
    ),
    "CKV_AWS_115": (
        {"SignerFunction", "BroadcasterFunction"},
        "a batch refused for a reservation counts as received; MaximumConcurrency limits it, and throttles alarm",
    ),
    "CKV_AWS_116": (
        {"SignerFunction", "BroadcasterFunction"},
        "messages come from queues with dead-letter queues; the next sweep replaces a lost one",
    ),
    "CKV_AWS_117": ({"BroadcasterFunction"}, "it calls nodes on the internet; the signer's network is a parameter"),
    "CKV_AWS_119": ({"RequestsTable", "AccountsTable"}, "a customer key is the parameter TableKmsKeyArn"),
    "CKV_AWS_149": (
        {"SealSecret"},
        "only the signer's role may read it, by the secret's own policy; AWS's key encrypts it",
    ),
    "CKV_AWS_173": (
        {"SignerFunction", "BroadcasterFunction"},
        "no secret is in the environment: the rules in this directory check that",
    ),
}


@pytest.fixture(scope="module")
def checkov() -> Path:
    """The program. Installs it if these versions are missing."""
    place = Path(os.environ["SIGNPOST_TOOLS"]) / f"checkov-{sys.version_info.major}.{sys.version_info.minor}"
    program, stamp = place / "bin/checkov", place / "installed-for-tests"
    wanted = REQUIREMENTS.read_text()
    if not (stamp.exists() and stamp.read_text() == wanted):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        pip = [
            str(place / "bin/python"),
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
        ]
        pip += ["--require-hashes", "--only-binary", ":all:", "--no-deps"]
        subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True, stdin=subprocess.DEVNULL)
        stamp.write_text(wanted)
    return program


def findings(checkov: Path, template: Path) -> set[tuple[str, str]]:
    """Each finding as its check and its resource."""
    command = [
        str(checkov),
        "--file",
        str(template),
        "--framework",
        "cloudformation",
        "--skip-download",
        "--compact",
        "--quiet",
        "--output",
        "json",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    report = json.loads(ran.stdout)
    assert report["summary"]["parsing_errors"] == 0 and report["summary"]["passed"] > 20, report["summary"]
    return {(found["check_id"], found["resource"].split(".")[-1]) for found in report["results"]["failed_checks"]}


def test_checkov_finds_nothing_unexplained(checkov: Path) -> None:
    found = findings(checkov, read.PATH)
    explained = {(check, resource) for check, (resources, _) in EXPLAINED.items() for resource in resources}
    assert found - explained == set(), "new findings"
    assert explained - found == set(), "unused explanations"


def test_checkov_finds_more_in_a_worse_template(checkov: Path, tmp_path: Path) -> None:
    worse = tmp_path / "template.json"
    worse.write_text(
        read.as_json(read.changed(read.load(), "Resources/RequestsTable/Properties/PointInTimeRecoverySpecification"))
    )
    assert findings(checkov, worse) > findings(checkov, read.PATH)
