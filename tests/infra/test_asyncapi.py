"""schemas/asyncapi.yaml, read by a parser that is not ours: it is a valid AsyncAPI document, its payloads take the
examples in schemas/examples and no others, and its queue and topic are those of the template.
"""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from rights import node_tools
from template import ROOT, Json, load

PATH = ROOT / "schemas/asyncapi.yaml"
EXAMPLES = ROOT / "schemas/examples"
MESSAGES = {"signing-request.v1": "signingRequest", "cancel-request.v1": "cancelRequest", "outcome.v1": "outcome"}


# One mistake each, that the parser must find.
MISTAKES = [
    ("asyncapi: ", "asyncapy: "),
    ("fifoQueue: true", "fifoQueue: perhaps"),
    ("deduplicationScope: messageGroup", "deduplicationScope: nowhere"),
    ("action: send", "action: shout"),
    ("#/channels/outcomeTopic/messages/outcome", "#/channels/outcomeTopic/messages/income"),
    ("#/components/schemas/Quantity", "#/components/schemas/Quality"),
    ("type: standard", "type: unusual"),
]


@cache
def parsed() -> list[Json]:
    """The document as it is, and with each mistake."""
    text = PATH.read_text()
    assert all(old in text for old, _ in MISTAKES)
    texts = [text] + [text.replace(old, new) for old, new in MISTAKES]
    program = ["node", str(Path(__file__).with_name("asyncapi.mjs")), str(node_tools())]
    ran = subprocess.run(program, input=json.dumps(texts), capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    answers: list[Json] = json.loads(ran.stdout)
    assert len(answers) == len(texts)
    return answers


def document() -> Json:
    return parsed()[0]


def errors(answer: Json) -> list[Json]:
    """Severity 0 is an error, 1 a warning; below that are hints, such as that AsyncAPI has a newer version."""
    return [problem for problem in answer["problems"] if problem["severity"] <= 1]


def test_it_is_a_valid_asyncapi_document() -> None:
    assert errors(document()) == []


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_a_broken_document_is_found(number: int) -> None:
    assert errors(parsed()[number + 1])


def test_requests_are_received_and_outcomes_are_sent() -> None:
    operations = document()["operations"].items()
    assert {name: (one["action"], one["channels"], sorted(one["messages"])) for name, one in operations} == {
        "receiveRequest": ("receive", ["signingQueue"], ["cancelRequest", "signingRequest"]),
        "sendOutcome": ("send", ["outcomeTopic"], ["outcome"]),
    }


@pytest.mark.parametrize("schema", MESSAGES)
def test_payloads_take_the_examples_and_no_others(schema: str) -> None:
    message = document()["messages"][MESSAGES[schema]]
    assert message["name"] == schema
    validator = Draft7Validator(message["payload"])
    examples = {path.stem: json.loads(path.read_text()) for path in (EXAMPLES / schema).glob("*.json")}
    assert len(examples) > 1
    taken = {name for name, example in examples.items() if validator.is_valid(example)}
    assert taken == {name for name in examples if not name.startswith("bad-")}
    assert message["examples"] == {name: examples[name] for name in taken}


def test_the_headers_are_the_attributes_that_the_topic_sends() -> None:
    sent = set(re.findall(r'message_attributes\("(\w+)"', (ROOT / "crates/aws/src/sns.rs").read_text()))
    headers = document()["messages"]["outcome"]["headers"]
    assert set(headers["properties"]) == sent
    schema = json.loads((ROOT / "schemas/outcome.v1.json").read_text())
    assert sent - {"traceparent"} <= set(schema["properties"])


def named(value: Any) -> str:
    """A name of the template with the default prefix."""
    prefix = load()["Parameters"]["NamePrefix"]["Default"]
    return str(value["Fn::Sub"]).replace("${NamePrefix}", prefix)


def test_the_queue_is_that_of_the_template() -> None:
    resources = load()["Resources"]
    queue, dead = (resources[name]["Properties"] for name in ("SigningQueue", "SigningDeadLetters"))
    channel = document()["channels"]["signingQueue"]
    assert channel["address"] == named(queue["QueueName"])
    shown = channel["bindings"]["sqs"]
    assert shown["queue"] == {
        "name": named(queue["QueueName"]),
        "fifoQueue": queue["FifoQueue"],
        "deduplicationScope": queue["DeduplicationScope"],
        "fifoThroughputLimit": queue["FifoThroughputLimit"],
        "visibilityTimeout": queue["VisibilityTimeout"],
        "messageRetentionPeriod": queue["MessageRetentionPeriod"],
        "redrivePolicy": {
            "deadLetterQueue": {"name": named(dead["QueueName"])},
            "maxReceiveCount": queue["RedrivePolicy"]["maxReceiveCount"],
        },
    }
    assert shown["deadLetterQueue"] == {
        "name": named(dead["QueueName"]),
        "fifoQueue": dead["FifoQueue"],
        "messageRetentionPeriod": dead["MessageRetentionPeriod"],
    }


def test_the_topic_is_that_of_the_template() -> None:
    parameters, topic = load()["Parameters"], load()["Resources"]["OutcomeTopic"]["Properties"]
    assert parameters["FifoTopic"]["Default"] == "false"
    _, _, standard = topic["TopicName"]["Fn::If"]
    channel = document()["channels"]["outcomeTopic"]
    assert channel["address"] == channel["bindings"]["sns"]["name"] == named(standard)
