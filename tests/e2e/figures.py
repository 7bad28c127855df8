"""The figures of a run, counted on chain, in the table and from the topic.

Counts independently of the audit's checks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from audit import ON_CHAIN, SETTLED, Audit, Json

# Sender, recipient, wei, calldata.
Contents = tuple[str, str, int, str]


def of_transaction(tx: Json) -> Contents:
    return tx["from"].lower(), (tx["to"] or "").lower(), int(tx["value"], 16), tx["input"]


def of_request(item: Json) -> Contents:
    return item["from"].lower(), (item.get("to") or "").lower(), int(item["value"]), item["data"]


def executions(audit: Audit) -> dict[str, int]:
    """How often each request was executed on chain, by id. Any transaction with its contents counts. If several
    requests have the same contents, only transactions with the hash of one of its attempts count."""
    mined: dict[Contents, set[str]] = defaultdict(set)
    for tx in audit.transactions:
        mined[of_transaction(tx)].add(tx["hash"])
    reserved = {id: item for id, item in audit.items.items() if "nonce" in item}
    asking = Counter(of_request(item) for item in reserved.values())
    counted = dict.fromkeys(audit.items, 0)
    for id, item in reserved.items():
        same = mined[of_request(item)]
        own = {attempt["txHash"] for attempt in item["attempts"] if attempt["kind"] == "execute"}
        counted[id] = len(same if asking[of_request(item)] == 1 else same & own)
    return counted


def gaps(audit: Audit) -> int:
    """Number of unused nonces below the highest used nonce of each account."""
    missing = 0
    for address in audit.stack.addresses.values():
        used = {int(tx["nonce"], 16) for tx in audit.transactions if tx["from"].lower() == address.lower()}
        missing += len(set(range(max(used, default=-1) + 1)) - used)
    return missing


def agrees_with_chain(audit: Audit, outcome: Json, count: int) -> bool:
    """Whether an outcome agrees with the chain."""
    if outcome["status"] == "rejected":
        # A refused message was not executed, or it reused the id of another request.
        return "txHash" not in outcome and (count == 0 or outcome["reason"]["code"] == "requestIdReused")
    found = [tx for tx in audit.transactions if tx["hash"] == outcome["txHash"]]
    if len(found) != 1 or found[0]["receipt"]["blockHash"] != outcome["blockHash"]:
        return False
    succeeded = found[0]["receipt"]["status"] == "0x1"
    by_status: Mapping[str, bool] = {
        "confirmed": count == 1 and succeeded,
        "reverted": count == 1 and not succeeded,
        "cancelled": count == 0 and succeeded and found[0]["to"].lower() == outcome["from"].lower(),
        # No other program has these keys.
        "displaced": False,
    }
    return by_status[outcome["status"]]


def figures(audit: Audit) -> dict[str, int]:
    """The figures by name."""
    counted = executions(audit)
    copies: dict[str, set[str]] = defaultdict(set)
    received_statuses: set[tuple[str, str]] = set()
    false = received = 0
    for copy in (copy for subscriber in audit.subscribers for copy in subscriber.copies):
        outcome, received = copy.json, received + 1
        copies[outcome["eventId"]].add(copy.body)
        received_statuses.add((outcome["requestId"], outcome["status"]))
        false += not agrees_with_chain(audit, outcome, counted.get(outcome["requestId"], 0))
    wanted = {(id, item["status"]) for id, item in audit.items.items()}
    wanted |= {(item.get("saidAs", item["requestId"]), "rejected") for item in audit.refusals.values()}
    statuses = Counter(item["status"] for item in audit.items.values())
    attempts = [item["attempts"] for item in audit.items.values() if "attempts" in item]
    return {
        "ids sent": len(audit.by_id),
        "executed exactly once": sum(count == 1 for count in counted.values()),
        "executed more than once": sum(count > 1 for count in counted.values()),
        "not executed, and reported as such": sum(
            count == 0 and audit.items[id]["status"] not in ON_CHAIN for id, count in counted.items()
        ),
        **{status: statuses[status] for status in (*SETTLED, "rejected")},
        "transactions on chain": len(audit.transactions),
        "bumped attempts": sum(attempt["kind"] == "execute" for each in attempts for attempt in each[1:]),
        "cancel attempts": sum(attempt["kind"] == "cancel" for each in attempts for attempt in each),
        "copies of outcomes received": received,
        "nonce gaps": gaps(audit),
        "verdicts that disagree with the chain": false,
        "outcomes missing": len(wanted - received_statuses) + len(set(audit.by_id) - set(audit.items)),
        "outcome copies that differ": sum(len(bodies) > 1 for bodies in copies.values()),
    }


# Figures that must be 0 in every run.
NEVER = (
    "executed more than once",
    "displaced",
    "nonce gaps",
    "verdicts that disagree with the chain",
    "outcomes missing",
    "outcome copies that differ",
)


def table(rows: Iterable[tuple[str, object]]) -> str:
    """A Markdown table."""
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {figure} |" for name, figure in rows)])
