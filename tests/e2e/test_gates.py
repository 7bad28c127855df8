"""`signpost dev --gate`: BSC's rules on the local stack, and a whole worker under each single fault."""

from __future__ import annotations

import json
import random
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit import SETTLED, Audit, Subscriber, deploy, published, settle
from conftest import StartStack, show_logs_if_failed
from figures import NEVER, figures
from gates import Gates, ask, without_gates
from scenario import Backend, send
from stack import Stack, run, start_stack

# The probability of a fault: high enough that a few requests meet it.
FAULT_PROBABILITY = 0.3
# Faults of batches first: after the others a worker sends single calls to an endpoint for minutes.
CHAIN_FAULTS = [
    "reorderBatch", "duplicateAnswers", "http429", "rpc429InBatch", "code32005", "http503", "html", "plainText",
    "error", "slow", "timeoutAfterForward", "resetBeforeForward", "resetAfterForward", "silentDrop", "nullReceipts",
    "indexing", "stale", "finalizedBack",
]  # fmt: skip
RATE_LIMITS = {"http429", "rpc429InBatch", "code32005"}
CLOUD_FAULTS = [
    "transactionConflict", "throttle", "noCapacity", "http500", "http503", "slow", "resetBeforeForward",
    "replyLost", "http500AfterForward", "timeoutAfterForward",
]  # fmt: skip
# A hanging call: shorter than the client's timeout, and rarer.
HANGS = {"probability": 0.05, "delayMs": 1_500}
# After a rate limit an endpoint is not used for 1 to 4 s. At every third call hardly any view would be complete.
LIMITS = {"probability": 0.1}
# A fault in every third call breaks most batches.
PUBLISHED_WITHIN_S = 180
REQUESTS_PER_FAULT = 4
# A fault that none of the requests met is tried again with new ones.
TRIES = 10


def raw(url: str, method: str, *params: Any) -> dict[str, Any]:
    """Makes one JSON-RPC call. Returns the whole answer, including an error."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


@pytest.fixture(scope="module")
def shared_gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = start_stack(tmp_path_factory.mktemp("gated"), "--gate", "--gate-nodes", "2")
    yield stack
    stack.stop()


@pytest.fixture
def gated(shared_gated: Stack, request: pytest.FixtureRequest) -> Iterator[Stack]:
    yield shared_gated
    show_logs_if_failed(shared_gated, request.node)


def test_ready_line_points_to_the_gates(gated: Stack) -> None:
    gate = gated.ready["gate"]
    assert gated.ready["rpcUrl"] == gate["rpcUrls"][0] and len(gate["rpcUrls"]) == 2
    assert gated.ready["awsEndpoint"] != gate["awsUpstream"]
    config = gated.config_file.read_text()
    assert all(url in config for url in gate["rpcUrls"]) and gate["rpcUpstream"] not in config


def test_gate_enforces_bsc_rules_and_upstream_node_does_not(gated: Stack) -> None:
    finalized = raw(gated.ready["rpcUrl"], "eth_getFinalizedHeader", -2)
    assert "milliTimestamp" in finalized["result"]
    garbage = raw(gated.ready["rpcUrl"], "eth_sendRawTransaction", "0x02")
    assert garbage["error"] == {"code": -32000, "message": "typed transaction too short"}
    assert raw(gated.ready["gate"]["rpcUpstream"], "eth_sendRawTransaction", "0x02") != garbage


def test_commands_also_go_through_the_gates(gated: Stack) -> None:
    sent = run("submit", "--id", "gated-1", "--to", "0x" + "aa" * 20, "--gas", "21000", "--config",
               str(gated.config_file))  # fmt: skip
    assert sent.code == 0, sent.err
    assert published(without_gates(gated), "gated-1")["status"] == "confirmed"
    assert ask(gated.ready["awsEndpoint"], "stats")["succeeded"]["kms:Sign"] >= 1
    counted = [ask(node, "stats")["calls"].get("eth_sendRawTransaction", 0) for node in gated.ready["gate"]["rpcUrls"]]
    assert all(counted), "every node received the transaction"


def test_worker_settles_every_request_under_each_single_fault(dev: StartStack, rng: random.Random) -> None:
    stack = dev("--gate", "--gate-nodes", "2", "--account", "hot", "--account", "cold")
    truth, gates = without_gates(stack), Gates(stack)
    subscribers = [Subscriber(truth, "everything", [*SETTLED, "rejected"])]
    backend = Backend(rng, stack.addresses, "single")
    sent, contract = deploy(truth, backend)
    took: dict[str, float] = {}
    for place, faults in (("chain", CHAIN_FAULTS), ("AWS", CLOUD_FAULTS)):
        for fault in faults:
            rarer = HANGS if "timeout" in fault else LIMITS if fault in RATE_LIMITS else {}
            rule = {"fault": fault, "probability": FAULT_PROBABILITY, **rarer}
            script = {"seed": rng.randrange(2**32), "rules": [rule]}
            if place == "chain":
                for node in range(len(gates.nodes)):
                    gates.set_node_faults(node, script)
            else:
                gates.set_aws_faults(script)
            before = gates.faults()[fault]
            started = time.monotonic()
            for _ in range(TRIES):
                asks = [backend.call(contract), backend.reverting_call(contract)]
                asks += [backend.transfer() for _ in range(REQUESTS_PER_FAULT - len(asks))]
                messages = [backend.request(backend.new_id(), each) for each in asks]
                part = send(truth.aws("sqs"), truth.signing_queue, messages)
                sent += part
                for one in part:
                    published(truth, one.id, within_s=PUBLISHED_WITHIN_S)
                if gates.faults()[fault] > before:
                    break
            took[f"{place}: {fault}"] = time.monotonic() - started
            gates.clear_faults()
    settle(truth, sent, subscribers, within_s=60)
    injected = gates.faults()
    for name, seconds in took.items():
        print(f"{name}: met, and every request settled, in {seconds:.1f} s")
    print(f"injected: {dict(injected)}")
    audit = Audit(truth, sent, subscribers, in_order=True)
    counted = figures(audit)
    audit.run()
    assert not [name for name in NEVER if counted[name]], counted
    assert {*CHAIN_FAULTS, *CLOUD_FAULTS} <= set(injected), "every fault was injected"


def test_scripted_faults_begin_when_the_stack_is_ready(dev: StartStack, tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"bsc": [{"fault": "html", "status": 200}]}))
    stack = dev("--no-worker", "--gate", "--gate-faults", str(script))
    with pytest.raises(json.JSONDecodeError):
        raw(stack.ready["rpcUrl"], "eth_blockNumber")
    Gates(stack).clear_faults()
    assert "result" in raw(stack.ready["rpcUrl"], "eth_blockNumber")


def test_invalid_fault_script_is_reported_before_start(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('{"bnb": []}')
    ended = run("dev", "--no-worker", "--gate", "--gate-faults", str(script), within_s=20)
    assert ended.code == 1 and str(script) in ended.err and "bnb" in ended.err, ended.err
    ended = run("dev", "--no-worker", "--gate-faults", "all", within_s=20)
    assert ended.code == 2 and "--gate" in ended.err, ended.err
