"""Signs one transaction with the sign-direct function and sends it to a node, in Python with boto3.

sign-direct is for callers that keep their nonces and send by themselves: it answers one request with one signed
transaction, and remembers nothing. So this program does what Signpost does for requests of the queue: it reads the
nonce from the node, sends the bytes, and waits for the receipt. What it does not do: replace a transaction that is
too cheap, wait for a finalized block, or recognize a request that it has sent before. Give sign-direct a key of its
own: an account of the queue and this program would take each other's nonces.

On AWS, with the role of a caller (`infra/README.md`, "Callers of the direct signer"):

    SIGN_DIRECT_FUNCTION=signpost-sign-direct RPC_URL=https://node.example python3 sign_direct.py TO VALUE_WEI

Beside `signpost dev`, which has no Lambda, the function runs as a process behind a stand-in for Lambda's Invoke API:
`tests/e2e/test_examples.py` shows how, and runs this file. boto3 finds the stand-in by AWS_ENDPOINT_URL_LAMBDA.
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from typing import Any

import boto3

GAS = 21_000
PATIENCE_S, PAUSE_S = 60, 0.5
# The invocation failed for now, and nothing was signed: it may be made again as it is.
TRY_AGAIN = ("throttled", "kmsTimeout")
TRIES = 5


class NotSigned(Exception):
    """The function answered that it signs nothing, and why."""


def invoke(payload: dict[str, Any]) -> dict[str, Any]:
    """One invocation. A refusal is a normal answer with `error` and `code`, never a failed invocation."""
    client = boto3.client("lambda")
    for attempt in range(TRIES):
        answer = client.invoke(FunctionName=os.environ["SIGN_DIRECT_FUNCTION"], Payload=json.dumps(payload))
        body: dict[str, Any] = json.load(answer["Payload"])
        if "FunctionError" in answer:
            raise RuntimeError(f"the function broke: {body}")
        if body.get("code") not in TRY_AGAIN:
            break
        time.sleep(2**attempt)
    if "error" in body:
        raise NotSigned(f"{body['code']}: {body['error']}")
    return body


def node(method: str, *params: Any) -> Any:
    call = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(os.environ["RPC_URL"], json.dumps(call).encode(), headers)
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = json.load(response)
    if "error" in answer:
        raise RuntimeError(f"{method}: {answer['error']}")
    return answer["result"]


def main(to: str, value_wei: str) -> None:
    signer = invoke({"operation": "status"})
    print("signs as", signer["address"], "on chain", signer["chainId"])

    # What the caller owns: the nonce and the price. Two programs that do this with one key at once lose transactions.
    nonce = int(node("eth_getTransactionCount", signer["address"], "pending"), 16)
    gas_price = max(int(node("eth_gasPrice"), 16), 100_000_000)
    asked = {"to": to, "value": value_wei, "nonce": nonce, "gas": GAS, "gasPrice": str(gas_price), "data": "0x"}
    signed = invoke({**asked, "chainId": signer["chainId"]})["signed_tx"]
    print("signed", signed["hash"], "with nonce", nonce)

    # Keep the bytes before they are sent: sending them again is always safe, signing anew with another nonce is not.
    sent = node("eth_sendRawTransaction", signed["rawTransaction"])
    assert sent == signed["hash"], "the node names the transaction by the same hash"
    deadline = time.monotonic() + PATIENCE_S
    while (receipt := node("eth_getTransactionReceipt", sent)) is None:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{sent} is not mined yet; it may still be")
        time.sleep(PAUSE_S)
    print("mined", sent, "in block", int(receipt["blockNumber"], 16), "status", int(receipt["status"], 16))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: sign_direct.py TO VALUE_WEI")
    try:
        main(*sys.argv[1:])
    except NotSigned as refused:
        sys.exit(f"not signed: {refused}")
