"""The kinds of odd nodes, by name: what is odd about each, and what must become of a request in front of it.

The first ones were reported by other projects' users; those under INVENTED are relations of them. The rules are the
gate's (`crates/gate/src/bsc/fault.rs`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Rule = dict[str, Any]

SEND, RECEIPT, BLOCK = "eth_sendRawTransaction", "eth_getTransactionReceipt", "eth_getBlockByNumber"
COUNT, RECEIPTS = "eth_getTransactionCount", "eth_getBlockReceipts"


@dataclass(frozen=True)
class Oddity:
    """A kind of odd node."""

    name: str
    rules: tuple[Rule, ...]
    # What a request says it waits for when there is no other node; empty: it is confirmed all the same.
    waits: tuple[str, ...] = ()
    # Alone it may cost more than one attempt: nobody else has what it threw away.
    again: bool = False
    # It is believed when it is alone, or nothing can come of asking it: tried beside others only.
    alone: bool = True
    # Sound nodes beside it. Where the odd one contradicts the sound one, or says nothing of what is final, two are
    # needed: the only second node's word is waited for.
    sound: int = 1
    # There is one sound node, and the odd one's word is waited for.
    patience: bool = False


def odd(name: str, *rules: Rule, **more: Any) -> Oddity:
    return Oddity(name, rules, **more)


def result(method: str, *changes: Rule, **more: Any) -> Rule:
    """A method whose results are odd."""
    return {"fault": "oddResult", "methods": [method], "changes": list(changes), **more}


def refusal(code: int, message: str) -> Rule:
    """Every send is refused in these words, whatever the bytes are."""
    return {"fault": "error", "methods": [SEND], "code": code, "message": message}


REPORTED = [
    odd("batch of three at most", {"fault": "batchLimit"}),
    odd("413 with a page", {"fault": "tooLarge", "above": 1}),
    odd("400 to any array", {"fault": "noArrays"}),
    odd("the same error for each call", {"fault": "oneErrorForAll"}),
    odd("ids of its own", {"fault": "foreignIds"}),
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
    odd("a head that stands still", {"fault": "frozen"}, waits=("block", "node"), again=True, sound=2),
    odd("cannot decode", refusal(-32603, "failed to decode upstream response: unexpected EOF"), waits=("node",)),
    odd("invalid signature", refusal(-32000, "invalid signature: request token rejected"), waits=("node",)),
    odd("unexpected EOF", refusal(-32000, "unexpected EOF"), waits=("node",)),
    odd("type not supported", refusal(-32000, "transaction type not supported"), waits=("node",)),
    odd("accepted and not kept", {"fault": "silentDrop"}, waits=("block",), again=True),
    odd("403 with a body", {"fault": "denied"}, waits=("node",), sound=2),
    odd("403 with a body, one of two", {"fault": "denied"}, alone=False, patience=True),
    odd("401 with a body", {"fault": "denied", "status": 401}, waits=("node",), sound=2),
    odd("402 with a body", {"fault": "denied", "status": 402, "body": "credits used up"}, waits=("node",), sound=2),
    odd("403 to sends", {"fault": "denied", "methods": [SEND]}, waits=("node",)),
    odd("plan used up", refusal(-32001, "plan used up"), waits=("node",)),
    odd("empty bodies", {"fault": "emptyBody"}, waits=("node",), sound=2),
    odd("slow answers", {"fault": "slow", "delayMs": 900}),
    odd("answers after our patience", {"fault": "slow", "delayMs": 6_000}, waits=("node",), sound=2),
    odd("counts too high", result(COUNT, {"add": 5}), alone=False, sound=2),
    odd("counts of nothing", result(COUNT, {"replace": "0x0"}), alone=False, sound=2),
    odd("receipts that tell another end", result(RECEIPT, {"set": {"status": "0x0"}}), alone=False, sound=2),
    odd("receipts of everything", {"fault": "silentDrop"}, {"fault": "inventedReceipts"}, result(COUNT, {"add": 1}),
        alone=False, sound=2),
    odd("nothing is ever final", {"fault": "finalizedBack", "blocks": 1_000_000}, waits=("finality",), sound=2),
    odd("all is final far ahead", result(BLOCK, {"set": {"number": "0xffffff"}}, contains="finalized"),
        waits=("node",), sound=2),
    odd("a branch of its own", {"fault": "otherBranch"}, alone=False, sound=2),
    odd("two backends, one behind", {"fault": "otherBackend", "every": 2, "rules": [{"fault": "stale", "blocks": 4}]}),
    odd("two backends, one on a dead branch", {"fault": "otherBackend", "every": 2, "rules": [
        {"fault": "otherBranch", "blocks": 2}]}, sound=2),
]  # fmt: skip

INVENTED = [
    odd("ids of the neighbours", {"fault": "shiftedIds"}),
    odd("no ids", {"fault": "noIds"}),
    odd("answers inside an answer", {"fault": "nested", "above": 0}),
    odd("half of each answer to an array", {"fault": "truncated", "above": 1}),
    odd("a byte order mark", {"fault": "wrapped"}, waits=("node",), sound=2),
    odd("half of the answers", {"fault": "missingAnswers"}),
    odd("taken, and told as an error", {"fault": "errorAfterForward"}),
    odd("taken, and told as too cheap", {"fault": "errorAfterForward", "code": -32000,
                                         "message": "transaction underpriced"}, again=True),
    odd("another hash for a send", result(SEND, {"replace": "0x" + "ab" * 32})),
    odd("a redirection to nowhere", {"fault": "denied", "status": 307, "body": ""}, waits=("node",), sound=2),
    odd("now and then another chain", {"fault": "http503", "after": 6, "every": 4},
        result("eth_chainId", {"replace": "0x1"}, after=2, every=2)),
    odd("receipts of pending transactions", result(RECEIPT, {"set": {"blockHash": None, "blockNumber": None}}), sound=2),
    odd("receipts without a status", result(RECEIPT, {"remove": ["status"]}), sound=2),
    odd("no old state", {"fault": "error", "methods": [COUNT], "contains": "finalized", "code": -32000,
                         "message": "missing trie node"}, waits=("node",), sound=2),
    odd("an error that is a text", {"fault": "denied", "status": 200, "body":
        '{"jsonrpc":"2.0","id":1,"error":"internal error"}'}, waits=("node",), sound=2),
    odd("a head from the future", result("eth_blockNumber", {"add": 1_000}),
        result(BLOCK, {"set": {"number": "0xffffff"}}, contains="latest"), sound=2),
    odd("nothing in its pool", result(COUNT, {"replace": "0x0"}, contains="pending")),
    odd("no content", {"fault": "emptyBody", "status": 204}, waits=("node",), sound=2),
    odd("nulls for everything", {"fault": "oddResult", "changes": [{"replace": None}]},
        waits=("node",), sound=2),
    odd("blocks without hashes", result(BLOCK, {"remove": ["hash", "parentHash"]}), waits=("node",), sound=2),
]  # fmt: skip

ALL = [*REPORTED, *INVENTED]
