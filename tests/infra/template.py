"""Reads infra/template.yaml as CloudFormation does, with helpers for the rules.

Knows no rule: those are in rules.py.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
PATH = ROOT / "infra/template.yaml"

Json = dict[str, Any]


class Loader(yaml.SafeLoader):
    """Reads YAML and expands CloudFormation's short function forms to the long ones."""


def long_form(loader: Loader, suffix: str, node: yaml.Node) -> Json:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = value.split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


Loader.add_multi_constructor("!", long_form)


def text() -> str:
    return PATH.read_text()


def load() -> Json:
    """Loads a new copy of the template."""
    loaded: Json = yaml.load(text(), Loader)
    return loaded


def as_json(template: Json) -> str:
    return json.dumps(template)


def changed(template: Json, path: str, value: Any = None) -> Json:
    """A copy with another value at a path of names and indices, `Resources/Key/Type`. Without a value, it is
    removed."""
    copied = copy.deepcopy(template)
    *parents, last = [int(name) if name.isdigit() else name for name in path.split("/")]
    place: Any = copied
    for name in parents:
        place = place[name]
    if value is None:
        del place[last]
    elif isinstance(place, list) and last == len(place):
        place.append(value)
    else:
        place[last] = value
    return copied


def of_type(template: Json, kind: str) -> dict[str, Json]:
    return {name: body for name, body in template["Resources"].items() if body["Type"] == kind}


def properties(template: Json, name: str) -> Json:
    found: Json = template["Resources"][name]["Properties"]
    return found


def ref(value: Any) -> str:
    """The resource or parameter of a `!Ref X` or `!GetAtt X.Arn`."""
    if isinstance(value, dict) and "Ref" in value:
        return str(value["Ref"])
    if isinstance(value, dict) and "Fn::GetAtt" in value:
        return str(value["Fn::GetAtt"][0])
    return ""


def either(value: Any) -> Iterator[Any]:
    """Every value that an expression can have, for any conditions. Lists are flattened, and NoValue is dropped."""
    if isinstance(value, list):
        for member in value:
            yield from either(member)
    elif isinstance(value, dict) and "Fn::If" in value:
        yield from either(value["Fn::If"][1:])
    elif isinstance(value, dict) and "Fn::Split" in value:
        yield from either(value["Fn::Split"][1])
    elif value != {"Ref": "AWS::NoValue"}:
        yield value


def statements(document: Json) -> list[Json]:
    return list(either(document["Statement"]))


POLICIES = {
    "AWS::KMS::Key": "KeyPolicy",
    "AWS::IAM::Policy": "PolicyDocument",
    "AWS::IAM::ManagedPolicy": "PolicyDocument",
    "AWS::SQS::QueuePolicy": "PolicyDocument",
    "AWS::SNS::TopicPolicy": "PolicyDocument",
    "AWS::S3::BucketPolicy": "PolicyDocument",
    "AWS::EC2::VPCEndpoint": "PolicyDocument",
    "AWS::Lambda::ResourcePolicy": "PolicyDocument",
    "AWS::SecretsManager::ResourcePolicy": "ResourcePolicy",
}


def policies(template: Json, *kinds: str) -> Iterator[tuple[str, Json]]:
    """Every policy statement of these resource types, with the name of its resource."""
    for name, body in template["Resources"].items():
        if body["Type"] in (kinds or POLICIES) and body["Type"] in POLICIES:
            for statement in statements(body["Properties"][POLICIES[body["Type"]]]):
                yield name, statement


def metrics(alarm: Json) -> list[Json]:
    """The metrics of an alarm: one, or those of its metric math, with the main one first."""
    if "Metrics" not in alarm:
        return [{name: alarm.get(name) for name in ("Namespace", "MetricName", "Dimensions", "Statistic")}]
    return [query["MetricStat"]["Metric"] for query in either(alarm["Metrics"]) if "MetricStat" in query]


def actions(statement: Json) -> set[str]:
    return set(either(statement["Action"]))


def resources(statement: Json) -> set[str]:
    """The resource names in a statement. `*` and other values without a name stay as written."""
    found = set()
    for value in either(statement["Resource"]):
        if isinstance(value, dict) and "Fn::Sub" in value:
            text = str(value["Fn::Sub"])
            keys = {name for name in ("Key", "KmsKeyArns") if f"${{{name}" in text}
            inside = re.fullmatch(r"\$\{(\w+)\.Arn\}(/\*)", text)
            stream = {"TrailStream"} if text.endswith(":deliverystream/${NamePrefix}-trail") else set()
            found |= keys or stream or ({inside[1] + inside[2]} if inside else {str(value)})
        else:
            found.add(ref(value) or str(value))
    return found


def principals(statement: Json) -> set[str]:
    who = statement["Principal"]
    named = either(who["AWS"] if isinstance(who, dict) and "AWS" in who else who)
    return {ref(value) or json.dumps(value) for value in named}


def names(value: Any) -> set[str]:
    """The names in a condition's value."""
    return {ref(member) or str(member) for member in either(value)}
