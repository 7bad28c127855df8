"""The permissions of infra/template.yaml, checked with an independent evaluator of IAM policies: every needed call is
allowed to its component, every call of a compromised component is denied, and the removal of any permission, condition
or denial is noticed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

import template as read
from denied import denied
from deployed import DOCUMENTS
from rights import (
    DEPLOYMENTS,
    EVERYTHING,
    MANAGED,
    STAGES,
    Call,
    Place,
    allowed_by_parameter,
    evaluate,
    made_by_aws,
    observed,
)
from template import Json, changed

DENIED_MIN = 60


def calls() -> list[Call]:
    return [*observed(), *made_by_aws(), *allowed_by_parameter()]


def places(template: Json) -> list[Place]:
    return [Place(template, parameters) for parameters in DEPLOYMENTS.values()]


def asked(template: Json, rows: list[Call]) -> list[tuple[Place, Call]]:
    """The rows in every deployment that has their resources."""
    return [(place, row) for place in places(template) for row in rows if place.has(row)]


@pytest.fixture(scope="module")
def shipped() -> Json:
    return read.load()


def test_every_needed_call_is_allowed(shipped: Json) -> None:
    pairs = asked(shipped, calls())
    refused = [
        f"{row}: {verdict}" for (_, row), verdict in zip(pairs, evaluate(pairs), strict=True) if verdict != "Allowed"
    ]
    assert refused == []


def test_calls_of_a_compromised_component_are_denied(shipped: Json) -> None:
    rows = denied()
    assert len(set(rows)) == len(rows) >= DENIED_MIN
    assert all(row.why for row in rows)
    pairs = asked(shipped, rows)
    allowed = [
        f"{row}: {row.why}" for (_, row), verdict in zip(pairs, evaluate(pairs), strict=True) if verdict == "Allowed"
    ]
    assert allowed == []


def test_no_component_may_make_calls_of_another_component(shipped: Json) -> None:
    """Tries every component's calls as every other component."""
    made = set(observed())
    mine = {(row.who, row.action, row.on) for row in calls()}
    parts = [*STAGES, *MANAGED]
    foreign = [
        Call(who, row.action, row.on, row.conditions)
        for who in parts
        for row in made
        if (who, row.action, row.on) not in mine and not inherited(who, row, mine)
    ]
    assert len(foreign) > len(made)
    pairs = [(place, row) for place in places(shipped) for row in foreign]
    allowed = [str(row) for (_, row), verdict in zip(pairs, evaluate(pairs), strict=True) if verdict == "Allowed"]
    assert allowed == []


def inherited(who: str, row: Call, mine: set[tuple[str, str, str]]) -> bool:
    """Whether an operator may make a call because it also has the viewer's policy."""
    return who == "operator" and ("viewer", row.action, row.on) in mine


def test_denied_calls_are_allowed_without_our_policies(shipped: Json) -> None:
    """With all permissions and no denial each row is allowed. So no row is denied because of a typo."""
    place = places(shipped)[0]

    class Open(Place):
        def question(self, asked: Call) -> Json:
            question = super().question(asked)
            whose = {**question, "identity": [EVERYTHING], "endpoint": None}
            own = {"Version": "2012-10-17", "Statement": [{**EVERYTHING["Statement"][0], "Principal": "*"}]}
            if asked.action.startswith("sts:"):
                own["Statement"][0] = {
                    "Effect": "Allow",
                    "Principal": {"AWS": "*", "Service": "*"},
                    "Action": "sts:AssumeRole",
                }
            return {**whose, "of_resource": own, "identity": [] if asked.who == "lambda" else [EVERYTHING]}

    opened = Open(shipped, place.deployed.given)
    pairs: list[tuple[Place, Call]] = [(opened, row) for row in denied()]
    refused = [str(row) for (_, row), verdict in zip(pairs, evaluate(pairs), strict=True) if verdict != "Allowed"]
    assert refused == []


# --- every permission, condition and denial is needed


@dataclass(frozen=True)
class Statement:
    """One policy statement of the template with its path."""

    resource: str
    path: str
    body: Json

    def __hash__(self) -> int:
        return hash(self.path)

    def __str__(self) -> str:
        return f"{self.resource}/{self.body.get('Sid', self.path.rpartition('/')[2])}"

    @property
    def actions(self) -> list[str]:
        written = self.body["Action"]
        return list(written) if isinstance(written, list) else [written]


def statements(template: Json) -> Iterator[Statement]:
    for name, body in template["Resources"].items():
        if body["Type"] in DOCUMENTS:
            document = DOCUMENTS[body["Type"]]
            for at, statement in enumerate(body["Properties"][document]["Statement"]):
                path = f"Resources/{name}/Properties/{document}/Statement/{at}"
                if "Fn::If" in statement:
                    yield Statement(name, f"{path}/Fn::If/1", statement["Fn::If"][1])
                else:
                    yield Statement(name, path, statement)


def without_statement(template: Json, statement: Statement) -> Json:
    if "/Fn::If/" in statement.path:
        return changed(template, statement.path, {"Ref": "AWS::NoValue"})
    return changed(template, statement.path)


def without_action(template: Json, statement: Statement, action: str) -> Json:
    left = [other for other in statement.actions if other != action]
    return changed(template, f"{statement.path}/Action", left) if left else without_statement(template, statement)


def test_removing_any_permission_is_noticed(shipped: Json) -> None:
    """Without any action of an Allow statement, a needed call is not allowed."""
    pairs, taken = [], []
    for statement in statements(shipped):
        if statement.body["Effect"] != "Allow":
            continue
        for action in statement.actions:
            of_action = asked(
                without_action(shipped, statement, action), [row for row in calls() if row.action == action]
            )
            pairs += of_action
            taken += [f"{statement}: {action}"] * len(of_action) or [f"{statement}: {action}"]
            assert of_action, f"{statement}: no component makes the call {action}"
    noticed = {right for right, verdict in zip(taken, evaluate(pairs), strict=True) if verdict != "Allowed"}
    assert sorted(set(taken) - noticed) == []


def test_removing_any_denial_or_condition_is_noticed(shipped: Json) -> None:
    """Without any Deny statement, or any condition of an Allow statement, a call that must be denied is allowed."""
    pairs, taken = [], []
    for statement in statements(shipped):
        mutants = {}
        if statement.body["Effect"] == "Deny":
            mutants[f"{statement}"] = without_statement(shipped, statement)
        for operator in statement.body.get("Condition", {}) if statement.body["Effect"] == "Allow" else []:
            mutants[f"{statement}: {operator}"] = changed(shipped, f"{statement.path}/Condition/{operator}")
        for name, mutant in mutants.items():
            rows = [row for row in denied() if matches(statement, row)]
            assert rows, f"{name}: no row has its actions"
            of_mutant = asked(mutant, rows)
            pairs += of_mutant
            taken += [name] * len(of_mutant)
    noticed = {part for part, verdict in zip(taken, evaluate(pairs), strict=True) if verdict == "Allowed"}
    assert sorted(set(taken) - noticed) == sorted(REDUNDANT)


def matches(statement: Statement, row: Call) -> bool:
    wanted = [action.removesuffix("*") for action in statement.actions]
    return any(row.action == action or (action.endswith(":") and row.action.startswith(action)) for action in wanted)


# Parts that may be removed alone, since another part denies the same calls. A rule in rules.py requires each of them.
REDUNDANT = {
    "Key/NobodyElseSigns": "no other policy allows it; this one is against grants, and no policy shows those",
    "SignDirectKey/NobodyElseSigns": "no other policy allows it; this one is against grants, and no policy shows those",
    "SignerRights/Sign: StringEquals": "the key's policy has the same condition",
    "SignDirectRights/Sign: StringEquals": "the key's policy has the same condition",
    "Key/OnlyFromTheNetwork": "the role's own policy allows signing in the function only, which is in the network",
    "KmsEndpoint/0: ArnEquals": "the key's policy names the one role",
    "SecretsEndpoint/0: ArnEquals": "the secret's own policy refuses all but the signer",
    "SqsEndpoint/0: ArnEquals": "the queue's policy refuses all but the stages",
    "SnsEndpoint/0: ArnEquals": "the topic's policy refuses all but the stages",
}


def test_adding_any_permission_is_noticed(shipped: Json) -> None:
    """Allows each call to each component that does not make it. Then the call is allowed, and a test above would notice
    that; or the resource's own policy still denies it."""
    universe = sorted({(row.action, row.on, row.conditions) for row in observed()})
    mine = {(row.who, row.action, row.on) for row in calls()}
    effective, refused = 0, set()
    pairs, added = [], []
    for who in [*STAGES, *MANAGED]:
        for action, on, conditions in universe:
            row = Call(who, action, on, conditions)
            if (who, action, on) in mine or inherited(who, row, mine):
                continue
            pairs.append((Granted(shipped, DEPLOYMENTS["usual"], row), row))
            added.append(row)
    for row, verdict in zip(added, evaluate(pairs), strict=True):
        effective += verdict == "Allowed"
        if verdict != "Allowed":
            refused.add((row.action, row.on))
    assert effective > len(added) / 2
    # Resources with their own policies: keys, inner queues, the topic and the seal secret.
    assert refused <= {
        ("kms:Sign", "Key"),
        ("kms:Sign", "SignDirectKey"),
        ("kms:GetPublicKey", "Key"),
        ("kms:GetPublicKey", "SignDirectKey"),
        ("sqs:SendMessage", "ResignQueue"),
        ("sqs:SendMessage", "BroadcastQueue"),
        ("sns:Publish", "OutcomeTopic"),
        ("secretsmanager:GetSecretValue", "SealSecret"),
    }


class Granted(Place):
    """A deployment in which a component has one more permission."""

    def __init__(self, template: Json, parameters: dict[str, str], more: Call) -> None:
        super().__init__(template, parameters)
        self.more = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": more.action, "Resource": self.thing(more.on)[0]}],
        }

    def identity(self, who: str) -> tuple[str, list[Json]]:
        role, policies = super().identity(who)
        return role, [*policies, self.more]
