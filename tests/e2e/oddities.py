"""The kinds of faulty nodes: the faults of each, and the expected result of a request.

REPORTED lists faults from issues of other projects; INVENTED lists variations of them. The rules are those of the gate
(`crates/gate/src/bsc/fault.rs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Rule = dict[str, Any]

SEND, RECEIPT, BLOCK = "eth_sendRawTransaction", "eth_getTransactionReceipt", "eth_getBlockByNumber"
COUNT, RECEIPTS = "eth_getTransactionCount", "eth_getBlockReceipts"


@dataclass(frozen=True)
class Oddity:
    """A kind of faulty node."""

    name: str
    rules: tuple[Rule, ...]
    # The expected codes of `waitingFor` with no other node. Empty: the request is confirmed despite the fault.
    waits: tuple[str, ...] = ()
    # With no other node the request may need more than one attempt: only this node had the transaction, and dropped it.
    again: bool = False
    # Whether to test it as the only node. Not if Signpost would believe it then, or could never finish.
    alone: bool = True
    # Sound nodes beside it. Two are needed if the faulty node contradicts a sound one or gives no finalized block:
    # with one, Signpost would wait for the faulty node as the only second node.
    sound: int = 1
    # With one sound node, Signpost waits for the faulty node until the wait ends.
    long_wait: bool = False


def odd(name: str, *rules: Rule, **more: Any) -> Oddity:
    return Oddity(name, rules, **more)


def result(method: str, *changes: Rule, **more: Any) -> Rule:
    """Changes the results of a method."""
    return {"fault": "oddResult", "methods": [method], "changes": list(changes), **more}


def refusal(code: int, message: str) -> Rule:
    """Refuses every send with this error."""
    return {"fault": "error", "methods": [SEND], "code": code, "message": message}


REPORTED = [
    odd("batch of three at most", {"fault": "batchLimit"}),
    odd("413 with a page", {"fault": "tooLarge", "above": 1}),
    odd("400 to any array", {"fault": "noArrays"}),
    odd("the same error for each call", {"fault": "oneErrorForAll"}),
    odd("foreign ids", {"fault": "foreignIds"}),
    odd("one odd item in every third batch", {"fault": "oddItem", "every": 3}),
    odd("null receipts", {"fault": "nullReceipts"}),
    odd("no receipts at all", {"fault": "nullReceipts"}, {"fault": "noMethod"}, waits=("receipt",), sound=2),
    odd("bare receipts", result(RECEIPT, {"remove": ["effectiveGasPrice", "contractAddress", "from", "logs", "gasUsed",
                                                    "cumulativeGasUsed", "logsBloom", "type"]})),
    odd("receipts with odd values", result(RECEIPT, {"set": {
        "effectiveGasPrice": "-0x1", "contractAddress": "", "from": 7, "logs": "none", "gasUsed": "21000 gas"}})),
    odd("no fee history and no receipts of blocks", {"fault": "noMethod"}),
    odd("no finalized tag", {"fault": "error", "contains": "finalized", "code": -39001, "message": "Unknown block"},
        waits=("node",), sound=2),
    odd("a frozen head", {"fault": "frozen"}, waits=("block", "node"), again=True, sound=2),
    odd("cannot decode", refusal(-32603, "failed to decode upstream response: unexpected EOF"), waits=("node",)),
    odd("invalid signature", refusal(-32000, "invalid signature: request token rejected"), waits=("node",)),
    odd("unexpected EOF", refusal(-32000, "unexpected EOF"), waits=("node",)),
    odd("type not supported", refusal(-32000, "transaction type not supported"), waits=("node",)),
    odd("accepted and dropped", {"fault": "silentDrop"}, waits=("block",), again=True),
    odd("403 with a body", {"fault": "denied"}, waits=("node",), sound=2),
    odd("403 with a body, one of two", {"fault": "denied"}, alone=False, long_wait=True),
    odd("401 with a body", {"fault": "denied", "status": 401}, waits=("node",), sound=2),
    odd("402 with a body", {"fault": "denied", "status": 402, "body": "credits used up"}, waits=("node",), sound=2),
    odd("403 to sends", {"fault": "denied", "methods": [SEND]}, waits=("node",)),
    odd("plan used up", refusal(-32001, "plan used up"), waits=("node",)),
    odd("empty bodies", {"fault": "emptyBody"}, waits=("node",), sound=2),
    odd("slow answers", {"fault": "slow", "delayMs": 900}),
    odd("answers after our timeout", {"fault": "slow", "delayMs": 6_000}, waits=("node",), sound=2),
    odd("counts too high", result(COUNT, {"add": 5}), alone=False, sound=2),
    odd("counts of zero", result(COUNT, {"replace": "0x0"}), alone=False, sound=2),
    odd("receipts with a false status", result(RECEIPT, {"set": {"status": "0x0"}}), alone=False, sound=2),
    odd("invented receipts", {"fault": "silentDrop"}, {"fault": "inventedReceipts"}, result(COUNT, {"add": 1}),
        alone=False, sound=2),
    odd("no block becomes final", {"fault": "finalizedBack", "blocks": 1_000_000}, waits=("finality",), sound=2),
    odd("a finalized block far ahead", result(BLOCK, {"set": {"number": "0xffffff"}}, contains="finalized"),
        waits=("node",), sound=2),
    odd("another branch", {"fault": "otherBranch"}, alone=False, sound=2),
    odd("two backends, one behind", {"fault": "otherBackend", "every": 2, "rules": [{"fault": "stale", "blocks": 4}]}),
    odd("two backends, one on a dead branch", {"fault": "otherBackend", "every": 2, "rules": [
        {"fault": "otherBranch", "blocks": 2}]}, sound=2),
]  # fmt: skip

INVENTED = [
    odd("ids of neighbours", {"fault": "shiftedIds"}),
    odd("no ids", {"fault": "noIds"}),
    odd("answers inside an answer", {"fault": "nested", "above": 0}),
    odd("half of each answer to an array", {"fault": "truncated", "above": 1}),
    odd("a byte order mark", {"fault": "wrapped"}, waits=("node",), sound=2),
    odd("half of the answers", {"fault": "missingAnswers"}),
    odd("accepted and answered with an error", {"fault": "errorAfterForward"}),
    odd("accepted and answered as underpriced", {"fault": "errorAfterForward", "code": -32000,
                                         "message": "transaction underpriced"}, again=True),
    odd("another hash for a send", result(SEND, {"replace": "0x" + "ab" * 32})),
    odd("a redirection to nowhere", {"fault": "denied", "status": 307, "body": ""}, waits=("node",), sound=2),
    odd("sometimes another chain", {"fault": "http503", "after": 6, "every": 4},
        result("eth_chainId", {"replace": "0x1"}, after=2, every=2)),
    odd("receipts of pending transactions", result(RECEIPT, {"set": {"blockHash": None, "blockNumber": None}}),
        sound=2),
    odd("receipts without a status", result(RECEIPT, {"remove": ["status"]}), sound=2),
    odd("no old state", {"fault": "error", "methods": [COUNT], "contains": "finalized", "code": -32000,
                         "message": "missing trie node"}, waits=("node",), sound=2),
    odd("an error as a string", {"fault": "denied", "status": 200, "body":
        '{"jsonrpc":"2.0","id":1,"error":"internal error"}'}, waits=("node",), sound=2),
    odd("a head from the future", result("eth_blockNumber", {"add": 1_000}),
        result(BLOCK, {"set": {"number": "0xffffff"}}, contains="latest"), sound=2),
    odd("an empty pool", result(COUNT, {"replace": "0x0"}, contains="pending")),
    odd("no content", {"fault": "emptyBody", "status": 204}, waits=("node",), sound=2),
    odd("nulls for everything", {"fault": "oddResult", "changes": [{"replace": None}]},
        waits=("node",), sound=2),
    odd("blocks without hashes", result(BLOCK, {"remove": ["hash", "parentHash"]}), waits=("node",), sound=2),
]  # fmt: skip

ALL = [*REPORTED, *INVENTED]
