"""infra/template.yaml keeps every rule, and two linters have no finding without an explanation here. Each of these
checks fails on a broken template.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cloudformation_validate import CompositeEngine, TemplateContent

import template as read
import rules_access  # noqa: F401  (adds its rules to RULES)
import rules_watch  # noqa: F401
from rules import RULES, Break, Rule, sets
from template import Json

# CloudFormation's limit for templates in S3 (user guide, "Quotas": 1 MB). Without S3 it is 51,200 bytes.
BODY_BYTES_MAX = 1_000_000
# Pages that show a deployment.
PAGES = ("infra/README.md", "infra/CHAPEL.md")

NOT_RETAINED = "no function can process messages after the stack is deleted; keys and tables are retained"
# Accepted findings of cfn-lint with the reason: the rule, and a part of its path or message.
LINT_EXPLAINED = {
    ("I3011", "Queue"): NOT_RETAINED,
    ("I3011", "DeadLetters"): NOT_RETAINED,
    ("W1030", "SignDirectKeyArn"): "its default is empty; a condition uses it only when it is given",
    ("W1033", "Fn::Split"): "the default of KmsKeyArns is empty; a rule requires it if no key is created",
}
# Accepted findings of cloudformation-validate with the reason.
VALIDATE_EXPLAINED = {
    ("W1030", ""): "the default of an ARN is empty; a condition uses it only when it is given",
    ("W2509", "RpcSecretArn"): "it is the secret's ARN, not its value",
    ("I3011", "Queue"): NOT_RETAINED,
    ("I3011", "DeadLetters"): NOT_RETAINED,
    ("I4010", ""): "a description for other programs; comments are enough for people",
    ("I9001", ""): "reports what a change would replace; resources are named so that policies can refer to them",
    ("I9040", ""): "tags are the user's: `aws cloudformation deploy --tags` puts them on every resource",
}

Finding = tuple[str, str]
BREAKS = [(rule, number) for rule in RULES for number in range(len(rule.breaks))]


@pytest.fixture(scope="module")
def shipped() -> Json:
    return read.load()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_template_keeps_rule(rule: Rule, shipped: Json) -> None:
    assert list(rule.check(shipped)) == []
    assert rule.breaks, "a rule without a break is not tested"


@pytest.mark.parametrize(("rule", "number"), BREAKS, ids=[f"{rule.name}-{number}" for rule, number in BREAKS])
def test_broken_template_is_caught(rule: Rule, number: int, shipped: Json) -> None:
    broken = rule.breaks[number](shipped)
    assert broken != shipped, "the break must change the template"
    # The rule must report a problem. A crash is not enough, since it does not name the problem.
    assert list(rule.check(broken)), "the rule must find a problem"


def test_template_fits_cloudformations_limit_for_s3_templates() -> None:
    assert len(read.text().encode()) <= BODY_BYTES_MAX
    for page in PAGES:
        commands = re.findall(r"aws cloudformation deploy (?:.*\\\n)*.*", (read.ROOT / page).read_text())
        assert commands, page
        assert all('--s3-bucket "$BUCKET"' in command for command in commands), page


def test_every_wildcard_has_a_comment_with_its_reason() -> None:
    lines = read.text().splitlines()
    inside_key_policy = False
    for at, line in enumerate(lines):
        if re.match(r"    \w|  \w", line):
            inside_key_policy = False
        if "KeyPolicy:" in line:
            # In a key policy the wildcard is the key itself.
            inside_key_policy = True
        if re.search(r"(Action|Resource): '?[\w:]*\*'?$", line) and not inside_key_policy:
            nearby = lines[max(0, at - 3) : at + 1]
            assert any("#" in near for near in nearby) or "Deny" in "".join(nearby), f"line {at + 1}: {line.strip()}"


def test_each_alarm_has_a_runbook() -> None:
    entries = set(re.findall(r"^(?:###|\|) `([a-z-]+)`(?:$| \|)", (read.ROOT / "infra/OPERATING.md").read_text(), re.M))
    alarms = read.of_type(read.load(), "AWS::CloudWatch::Alarm").values()
    slugs = {alarm["Properties"]["AlarmName"]["Fn::Sub"].removeprefix("${NamePrefix}-") for alarm in alarms}
    assert entries == slugs
    # EventBridge reports changes. They share one entry.
    page = (read.ROOT / "infra/OPERATING.md").read_text()
    events = {
        name
        for name, body in read.of_type(read.load(), "AWS::Events::Rule").items()
        if "EventPattern" in body["Properties"]
    }
    for name in events:
        slug = read.properties(read.load(), name)["Name"]["Fn::Sub"].removeprefix("${NamePrefix}-")
        assert f"`{slug}`" in page, slug


def test_deploy_commands_of_pages_use_existing_parameters() -> None:
    template = read.load()
    for page in PAGES:
        contents = (read.ROOT / page).read_text()
        # The first deployment; a later one names what changes.
        overrides = re.findall(r"--parameter-overrides(?: \\\n)?(.*)$", contents, re.M)
        first, *later = [set(re.findall(r"(\w+)=", command)) for command in overrides]
        needed = {name for name, parameter in template["Parameters"].items() if "Default" not in parameter}
        assert needed <= first <= template["Parameters"].keys(), f"{page}: {first}"
        assert all(given <= template["Parameters"].keys() for given in later), f"{page}: {later}"
        assert first & {"AlarmEmail", "AlarmTopicArn"}, f"{page}: the alarms have no recipient"
        assert "Outputs[?OutputKey=='SignpostToml']" in contents and "SignpostToml" in template["Outputs"]


def test_deploying_takes_five_commands() -> None:
    contents = (read.ROOT / "infra/README.md").read_text()
    block = next(b for b in re.findall(r"```sh aws\n(.*?)```", contents, re.S) if "cloudformation deploy" in b)
    commands = block.replace("\\\n", " ").strip().splitlines()
    assert len(commands) <= 5, f"deploying takes {len(commands)} commands"


def lint(path: Path) -> list[Finding]:
    """cfn-lint's findings, including informational ones: the rule, and its path and message."""
    program = Path(sys.executable).with_name("cfn-lint")
    command = [str(program), "--include-checks", "I", "--format", "json", "--", str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ran.stdout.strip(), ran.stderr
    place = [".".join(map(str, found["Location"]["Path"] or [])) for found in json.loads(ran.stdout)]
    return [
        (found["Rule"]["Id"], f"{at}: {found['Message']}")
        for at, found in zip(place, json.loads(ran.stdout), strict=True)
    ]


def validate(contents: str) -> list[Finding]:
    """cloudformation-validate's findings: the rule and the resource."""
    report = CompositeEngine().validate_template(TemplateContent(contents, read.PATH.name))
    return [(found.rule_id, found.entity.logical_id or "" if found.entity else "") for found in report.diagnostics]


def unexplained(findings: list[Finding], explained: dict[Finding, str]) -> list[Finding]:
    def is_explained(finding: Finding) -> bool:
        return any(finding[0] == rule and part in finding[1] for rule, part in explained)

    return [finding for finding in findings if not is_explained(finding)]


def unused(findings: list[Finding], explained: dict[Finding, str]) -> list[Finding]:
    return [(rule, part) for rule, part in explained if not any(f[0] == rule and part in f[1] for f in findings)]


def test_cfn_lint_finds_nothing_unexplained() -> None:
    findings = lint(read.PATH)
    assert unexplained(findings, LINT_EXPLAINED) == []
    assert unused(findings, LINT_EXPLAINED) == [], "unused explanations"


def test_cloudformation_validate_finds_nothing_unexplained() -> None:
    findings = validate(read.text())
    assert unexplained(findings, VALIDATE_EXPLAINED) == []
    assert unused(findings, VALIDATE_EXPLAINED) == [], "unused explanations"


# Errors that linters must find.
MISTAKES: dict[str, Break] = {
    "an unknown property": sets("SigningQueue/Properties/VisibilityTimeOut", 180),
    "an invalid value": sets("Key/Properties/KeySpec", "ECC_SECG_P256R1"),
    "a reference to nothing": sets("KeyAlias/Properties/TargetKeyId", {"Ref": "Keys"}),
    "a word instead of a number": sets("SignerFunction/Properties/Timeout", "soon"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_linters_catch(mistake: str, shipped: Json, tmp_path: Path) -> None:
    broken = tmp_path / "template.json"
    broken.write_text(read.as_json(MISTAKES[mistake](shipped)))
    assert unexplained(lint(broken), LINT_EXPLAINED), "cfn-lint must find it"
    assert unexplained(validate(broken.read_text()), VALIDATE_EXPLAINED), "cloudformation-validate must find it"
