"""infra/template.yaml as CloudFormation would deploy it with given parameters: names, ARNs and policies with all
functions resolved. Only for policies; other properties are not used.

Knows no permission. Read next: rights.py.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from template import POLICIES, Json, of_type

REGION = "eu-central-1"
ACCOUNT = "111122223333"
# The account that owns the keys in KmsKeyArns, and an unrelated account.
KEYS_ACCOUNT = "444455556666"
FOREIGN_ACCOUNT = "777788889999"
PSEUDO = {"AWS::Region": REGION, "AWS::AccountId": ACCOUNT, "AWS::Partition": "aws", "AWS::StackName": "signpost"}
NO_VALUE = object()

# The ARN of each type, from its name. {id} stands for an id that AWS chooses.
ARNS = {
    "AWS::IAM::Role": "arn:aws:iam::{account}:role/{name}",
    "AWS::IAM::ManagedPolicy": "arn:aws:iam::{account}:policy/{name}",
    "AWS::SQS::Queue": "arn:aws:sqs:{region}:{account}:{name}",
    "AWS::SNS::Topic": "arn:aws:sns:{region}:{account}:{name}",
    "AWS::DynamoDB::Table": "arn:aws:dynamodb:{region}:{account}:table/{name}",
    "AWS::Lambda::Function": "arn:aws:lambda:{region}:{account}:function:{name}",
    "AWS::KinesisFirehose::DeliveryStream": "arn:aws:firehose:{region}:{account}:deliverystream/{name}",
    "AWS::S3::Bucket": "arn:aws:s3:::{name}",
    "AWS::Logs::LogGroup": "arn:aws:logs:{region}:{account}:log-group:{name}:*",
    "AWS::SecretsManager::Secret": "arn:aws:secretsmanager:{region}:{account}:secret:{name}-AbCdEf",
    "AWS::KMS::Key": "arn:aws:kms:{region}:{account}:key/00000000-0000-0000-0000-{id}",
}
DOCUMENTS = {**POLICIES, "AWS::IAM::Role": "AssumeRolePolicyDocument"}
NAMES = (
    "RoleName",
    "ManagedPolicyName",
    "QueueName",
    "TopicName",
    "TableName",
    "FunctionName",
    "LogGroupName",
    "DeliveryStreamName",
    "BucketName",
    "Name",
)
# Types whose Ref is their ARN.
REF_IS_ARN = ("AWS::IAM::ManagedPolicy", "AWS::SNS::Topic", "AWS::SecretsManager::Secret")


@dataclass
class Deployed:
    """A template with its parameters."""

    template: Json
    given: dict[str, str]
    parameters: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        unknown = self.given.keys() - self.template["Parameters"].keys()
        assert not unknown, f"the template has no parameters {sorted(unknown)}"
        defaults = {name: str(body.get("Default", "")) for name, body in self.template["Parameters"].items()}
        self.parameters = {**defaults, **self.given}

    def holds(self, condition: Any) -> bool:
        """Evaluates a condition, given by name or as an expression."""
        if isinstance(condition, str):
            return self.holds(self.template["Conditions"][condition])
        [(function, value)] = condition.items()
        match function:
            case "Condition":
                return self.holds(value)
            case "Fn::Equals":
                left, right = (self.value(side) for side in value)
                return str(left) == str(right)
            case "Fn::Not":
                return not self.holds(value[0])
            case "Fn::And":
                return all(map(self.holds, value))
            case "Fn::Or":
                return any(map(self.holds, value))
        raise AssertionError(f"unknown condition {condition}")

    def exists(self, name: str) -> bool:
        """Whether a resource is deployed with these parameters."""
        body = self.template["Resources"].get(name)
        return body is not None and ("Condition" not in body or self.holds(body["Condition"]))

    def value(self, written: Any) -> Any:
        """Resolves all functions in a value. Members that resolve to NoValue are removed from lists and maps."""
        if isinstance(written, list):
            return [value for value in map(self.value, written) if value is not NO_VALUE]
        if not isinstance(written, dict):
            return written
        if len(written) == 1:
            [(function, operand)] = written.items()
            if function == "Ref" or function.startswith("Fn::"):
                return self.called(function, operand)
        resolved = {name: self.value(value) for name, value in written.items()}
        return {name: value for name, value in resolved.items() if value is not NO_VALUE}

    def called(self, function: str, operand: Any) -> Any:
        match function:
            case "Ref":
                return self.named(operand)
            case "Fn::GetAtt":
                name, attribute = operand
                return self.arn(name) if attribute in ("Arn", "TopicArn") else f"{attribute} of {name}"
            case "Fn::If":
                condition, then, otherwise = operand
                return self.value(then if self.holds(condition) else otherwise)
            case "Fn::Sub":
                text, own = operand if isinstance(operand, list) else (operand, {})
                values = {name: self.value(value) for name, value in own.items()}
                return re.sub(r"\$\{([^}]+)\}", lambda found: str(self.part(found[1], values)), text)
            case "Fn::Split":
                return self.value(operand[1]).split(operand[0])
            case "Fn::FindInMap":
                table, row, column = (self.value(part) for part in operand)
                return self.template["Mappings"][table][row][column]
            case "Fn::Select":
                return self.value(operand[1])[int(operand[0])]
        raise AssertionError(f"unknown function {function}")

    def part(self, name: str, values: dict[str, Any]) -> Any:
        if name in values:
            return values[name]
        return self.arn(name.removesuffix(".Arn")) if name.endswith(".Arn") else self.named(name)

    def named(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.parameters:
            return self.parameters[name]
        kind = self.template["Resources"][name]["Type"]
        return self.arn(name) if kind in REF_IS_ARN else self.name(name)

    def name(self, resource: str) -> str:
        members = self.template["Resources"][resource]["Properties"]
        found = [self.value(members[what]) for what in NAMES if what in members]
        return str(found[0]) if found else resource

    def arn(self, resource: str) -> str:
        kind = self.template["Resources"][resource]["Type"]
        number = format(sorted(self.template["Resources"]).index(resource), "012d")
        return ARNS[kind].format(region=REGION, account=ACCOUNT, name=self.name(resource), id=number)

    def policies(self, kind: str) -> dict[str, Json]:
        """The policies of the deployed resources of a type."""
        bodies = {name: body for name, body in of_type(self.template, kind).items() if self.exists(name)}
        return {name: self.value(body["Properties"][DOCUMENTS[kind]]) for name, body in bodies.items()}
