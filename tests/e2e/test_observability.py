"""Traces, metrics, the dashboard and logs: one trace per request, and complete logs without secrets.

All tests share one run: a signer and a broadcaster, each as a separate process, at the finest log level.
"""

from __future__ import annotations

import base64
import json
import random
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from audit import deploy, published, scan
from collector import Collector, Span, collecting
from prometheus import Prometheus, scraping
from scenario import Backend, mixed, send
from stack import ROOT, Program, Stack, free_port, start_stack, wait_for

MESSAGES = 60
TO = "0x" + "aa" * 20
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
XRAY, XRAY_CALLER = "1bf7651916cd43dd8448eb211c80319c", "c7ad6b7169203332"
REFUSED = "2cf7651916cd43dd8448eb211c80319c"
# Secrets sent by mistake. None of them may appear in a log.
KEY = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
PHRASE = "legal winner thank year wave sausage worth useful legal winner thank yellow"
MISTAKES: list[dict[str, Any]] = [
    {"privateKey": KEY},
    {"private_key": f"0x{KEY}"},
    {"mnemonic": PHRASE},
    {"metadata": {"deep": [{"Seed": PHRASE}]}},
    {"metadata": {"skeys": [KEY]}},
    {"secret": KEY, "metadata": {"note": "x"}},
    {"to": KEY},
    {"data": f"{KEY}zz"},
    {"gas": PHRASE},
    {"deadline": KEY},
]


@dataclass
class Run:
    """The data of the run."""

    collector: Collector
    outcomes: dict[str, dict[str, Any]]
    scrapes: dict[str, str]
    panels: dict[str, list[dict[str, Any]]]
    items: list[dict[str, Any]]
    bodies: list[str]
    logs: dict[str, str]


def config_with_telemetry(stack: Stack, directory: Path, name: str, collector: Collector) -> tuple[Path, str]:
    """The stack's configuration with metrics and traces, and the URL of the metrics."""
    address = f"127.0.0.1:{free_port()}"
    more = f'\n[metrics]\nlisten = "{address}"\n\n[traces]\notlp_endpoint = "{collector.url}"\n'
    config = directory / f"{name}.toml"
    config.write_text(stack.config_file.read_text() + more)
    return config, f"http://{address}/metrics"


def submit(stack: Stack, body: dict[str, Any] | str, key: str, **more: Any) -> str:
    text = body if isinstance(body, str) else json.dumps(body)
    stack.aws("sqs").send_message(
        QueueUrl=stack.signing_queue, MessageBody=text, MessageGroupId="hot", MessageDeduplicationId=key, **more
    )
    return text


def text(value: str) -> dict[str, Any]:
    return {"DataType": "String", "StringValue": value}


def ask(id: str, **more: Any) -> dict[str, Any]:
    return {"requestId": id, "account": "hot", "to": TO, "gas": 21_000, **more}


def scrape(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        found: str = answer.read().decode()
        return found


def subscribed(stack: Stack) -> str:
    """Creates a backend's queue that gets every outcome as published. Returns its URL."""
    sqs = stack.aws("sqs")
    url: str = sqs.create_queue(QueueName="observed")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    stack.aws("sns").subscribe(
        TopicArn=stack.ready["outcomeTopicArn"], Protocol="sqs", Endpoint=arn, Attributes={"RawMessageDelivery": "true"}
    )
    return url


def received(stack: Stack, url: str, wanted: set[str]) -> dict[str, dict[str, Any]]:
    """The outcome messages by request id, once the wanted ones have arrived."""
    sqs = stack.aws("sqs")
    found: dict[str, dict[str, Any]] = {}

    def look() -> bool:
        got = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=1
        )
        found.update({json.loads(each["Body"])["requestId"]: each for each in got.get("Messages", [])})
        return wanted <= found.keys()

    wait_for("the outcomes arrive", look, 60)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    directory = tmp_path_factory.mktemp("observed")
    stack = start_stack(directory, "--no-worker", "--account", "hot", "--account", "cold")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setenv("RUST_LOG", "trace")
    try:
        with collecting() as collector:
            yield start_and_observe(stack, directory, collector)
    finally:
        monkeypatch.undo()
        stack.stop()


def start_and_observe(stack: Stack, directory: Path, collector: Collector) -> Run:
    workers: dict[str, Program] = {}
    metrics: dict[str, str] = {}
    for stage in ("signer", "broadcaster"):
        config, metrics[stage] = config_with_telemetry(stack, directory, stage, collector)
        workers[stage] = stack.start_worker("--stage", stage, config=config)
    with scraping(directory, [urlsplit(url).netloc for url in metrics.values()]) as prometheus:
        return observe(stack, collector, workers, metrics, prometheus)


def observe(
    stack: Stack, collector: Collector, workers: dict[str, Program], metrics: dict[str, str], prometheus: Prometheus
) -> Run:
    outcomes = subscribed(stack)
    caller = {"traceparent": text(f"00-{TRACE}-{CALLER}-01")}
    bodies = [submit(stack, ask("traced"), "traced", MessageAttributes=caller)]
    xray = f"Root=1-{XRAY[:8]}-{XRAY[8:]};Parent={XRAY_CALLER};Sampled=1"
    bodies.append(submit(stack, ask("xray"), "xray", MessageSystemAttributes={"AWSTraceHeader": text(xray)}))
    refused = {"traceparent": text(f"00-{REFUSED}-{CALLER}-01")}
    bodies.append(submit(stack, ask("refused", gas=1), "refused", MessageAttributes=refused))
    for at, mistake in enumerate(MISTAKES):
        bodies.append(submit(stack, {**ask(f"mistake-{at}"), **mistake}, f"mistake-{at}"))
    backend = Backend(random.Random(7), stack.addresses, "observed")
    created, contract = deploy(stack, backend)
    sent = created + send(stack.aws("sqs"), stack.signing_queue, mixed(backend, MESSAGES, contract))
    bodies += [each.message.body for each in sent]
    ids = {each.message.id for each in sent if each.message.id}
    for id in sorted(ids | {"traced", "xray", "refused", *(f"mistake-{at}" for at in range(len(MISTAKES)))}):
        published(stack, id)
    arrived = received(stack, outcomes, {"traced", "xray", "refused"})
    scrapes = {stage: scrape(url) for stage, url in metrics.items()}
    total = sum(each.value for scrape in scrapes.values() for each in samples_of(scrape, "signpost_published_total"))
    wait_for("Prometheus has the total", lambda: prometheus.value("sum(signpost_published_total)") == total, 30)
    panels = {query: prometheus.query(query.replace("$__rate_interval", "1m")) for query, _ in queries()}
    # A worker exports its remaining spans before it exits.
    assert [worker.stop() for worker in workers.values()] == [0, 0]
    items = scan(stack, "requestsTable")
    logs = {stage: worker.log() for stage, worker in workers.items()}
    return Run(collector, arrived, scrapes, panels, items, bodies, logs)


def names(spans: list[Span]) -> set[str]:
    return {span.name for span in spans}


@pytest.mark.parametrize(("id", "trace", "caller"), [("traced", TRACE, CALLER), ("xray", XRAY, XRAY_CALLER)])
def test_one_trace_spans_from_backend_message_to_outcome(run: Run, id: str, trace: str, caller: str) -> None:
    spans = run.collector.trace(trace)
    assert names(spans) == {"accept", "sign", "send", "store", "publish"}
    (accept,) = [span for span in spans if span.name == "accept"]
    assert accept.parent_id == caller
    # All spans of the signer and, after two queues, of the broadcaster are children of the accepting span.
    assert {span.parent_id for span in spans if span is not accept} == {accept.span_id}
    assert {span.fields["request_id"] for span in spans} == {id}
    assert {span.fields["nonce"] for span in spans} == {accept.fields["nonce"]}
    (sign,) = [span for span in spans if span.name == "sign"]
    sends = [span for span in spans if span.name == "send"]
    assert sign.fields["tx_hash"] and {span.fields["tx_hash"] for span in sends} == {sign.fields["tx_hash"]}
    assert {span.fields["attempt"] for span in sends} == {"0"}
    attributes = run.outcomes[id]["MessageAttributes"]
    assert attributes["traceparent"]["StringValue"] == f"00-{trace}-{accept.span_id}-01"
    assert "trace" not in json.loads(run.outcomes[id]["Body"])


def test_outcome_of_a_refused_message_is_in_its_senders_trace(run: Run) -> None:
    assert names(run.collector.trace(REFUSED)) == {"accept"}
    attributes = run.outcomes["refused"]["MessageAttributes"]
    assert attributes["traceparent"]["StringValue"] == f"00-{REFUSED}-{CALLER}-01"


def test_requests_without_a_trace_get_one_each(run: Run) -> None:
    assert run.collector.paths == {"/v1/traces"}
    by_trace: dict[str, set[Any]] = {}
    for span in run.collector.spans:
        if span.name == "publish":
            by_trace.setdefault(span.trace_id, set()).add(span.fields["request_id"])
    assert len(by_trace) > MESSAGES // 3
    assert all(len(ids) == 1 for ids in by_trace.values()), by_trace


def documented_metrics() -> dict[str, set[str]]:
    """The metrics in the documentation, with their labels."""
    table = (ROOT / "infra" / "metrics.md").read_text()
    rows = [row.split("|") for row in table.splitlines() if row.startswith("| `")]
    return {row[1].strip(" `"): set(re.findall(r"`(\w+)`", row[4])) for row in rows}


def samples_of(scrape: str, name: str) -> list[Sample]:
    """The samples of this name in a scrape."""
    families = text_string_to_metric_families(scrape)
    return [sample for family in families for sample in family.samples if sample.name == name]


def queries() -> Iterator[tuple[str, str]]:
    """The dashboard's Prometheus queries, each with its legend."""
    dashboard = json.loads((ROOT / "infra" / "grafana-dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"], target["legendFormat"]


def exported_metrics(run: Run) -> dict[str, set[str]]:
    """Every sample's name in both scrapes, with its labels. Fails on a scrape that Prometheus could not parse."""
    found: dict[str, set[str]] = {}
    for scrape in run.scrapes.values():
        for family in text_string_to_metric_families(scrape):
            assert family.documentation, f"{family.name} has no HELP text"
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_every_metric_is_documented_with_its_labels(run: Run) -> None:
    documented, found = documented_metrics(), exported_metrics(run)
    for name, labels in found.items():
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        assert base in documented, f"{name} is not in infra/metrics.md"
        assert labels - {"le"} <= documented[base], f"{name} has labels {labels}"
    for metric in ("accepted_total", "signed_total", "kms_sign_ms_count", "sends_total", "published_total"):
        found_in = (samples_of(scrape, f"signpost_{metric}") for scrape in run.scrapes.values())
        values = [sample.value for samples in found_in for sample in samples]
        assert sum(values) > MESSAGES // 3, f"{metric}: {values}"


def test_dashboard_queries_match_existing_metrics(run: Run) -> None:
    documented, found = documented_metrics(), exported_metrics(run)
    asked: set[str] = set()
    for query, legend in queries():
        (metric,) = re.findall(r"signpost_\w+", query)
        base = re.sub(r"_(bucket|sum|count)$", "", metric)
        asked.add(base)
        labels = {label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")}
        assert labels - {"le"} <= documented[base], query
        assert ("le" in labels) == metric.endswith("_bucket"), query
        # A metric with labels appears with its first event; one without labels is there from the start.
        if not documented[base]:
            assert metric in found, query
        # A real Prometheus that scraped both workers answers the query if they export the metric.
        answer = run.panels[query]
        assert bool(answer) == (metric in found), (query, answer)
        assert all(labels - {"le"} == sample["metric"].keys() - {"__name__"} for sample in answer), (query, answer)
        assert set(re.findall(r"\{\{(\w+)\}\}", legend)) <= labels, query
    assert asked == documented.keys(), "the dashboard uses every metric"


def test_metric_labels_show_only_the_host_of_a_node(run: Run) -> None:
    hosts = re.findall(r'host="([^"]*)"', run.scrapes["broadcaster"])
    assert hosts and all(re.fullmatch(r"127\.0\.0\.1:\d+", host) for host in hosts), hosts


def forbidden_texts(run: Run) -> Iterator[tuple[str, str]]:
    """Text that no log may show, by name."""
    for at, word in enumerate([KEY, PHRASE]):
        yield f"secret {at}", word
    for body in run.bodies:
        data = re.search(r'"data"\s*:\s*"0[xX]([0-9a-fA-F]{16,})"', body)
        if data:
            yield from encodings("calldata", bytes.fromhex(data[1]))
    for item in run.items:
        data = item.get("data")
        if isinstance(data, str) and len(data) > 16:
            yield from encodings("calldata", bytes.fromhex(data[2:]))
        for attempt in item.get("attempts", []):
            signature = bytes.fromhex(attempt["signature"][2:])
            yield from encodings("signature's r", signature[:32])
            yield from encodings("signature's s", signature[32:64])


def encodings(name: str, data: bytes) -> Iterator[tuple[str, str]]:
    """The ways to write bytes as text."""
    yield f"{name} as hex", data.hex()
    # Within longer base64 the bytes have one of three alignments.
    for shift in range(3):
        inner = base64.b64encode(bytes(shift) + data).decode().rstrip("=")
        yield f"{name} as base64", inner[4:-4]
    yield f"{name} as a list", ", ".join(str(byte) for byte in data)
    yield f"{name} as escapes", "".join(f"\\x{byte:02x}" for byte in data)


def test_no_log_shows_calldata_a_signature_or_a_secret(run: Run) -> None:
    looked_for = set(forbidden_texts(run))
    kinds = {name.split(" as ")[0] for name, _ in looked_for}
    assert kinds == {"calldata", "secret 0", "secret 1", "signature's r", "signature's s"}, kinds
    for stage, log in run.logs.items():
        assert len(log.splitlines()) > MESSAGES // 2, f"{stage} logs too little: {log}"
        small = log.lower()
        for name, value in looked_for:
            assert len(value) > 7, name
            assert value not in log and value.lower() not in small, f"{stage}'s log shows {name}"


def test_log_lines_are_json_and_carry_the_request_fields(run: Run) -> None:
    needed = {
        "reserved": {"request_id", "account", "nonce"},
        "signed": {"request_id", "account", "nonce", "attempt", "tx_hash", "kms_request_id"},
        "sent": {"request_id", "account", "nonce", "attempt", "tx_hash", "answer"},
        "stored": {"request_id", "account", "nonce", "status"},
        "outcome published": {"request_id", "account", "nonce", "tx_hash", "status"},
    }
    seen: set[str] = set()
    for stage, log in run.logs.items():
        for line in log.splitlines():
            entry = json.loads(line)
            keys = set(entry) | {key for span in entry.get("spans", []) for key in span}
            missing = needed.get(entry.get("message", ""), set()) - keys
            assert not missing, f"{stage}: {line} lacks {missing}"
            seen.add(entry.get("message", ""))
    assert seen >= needed.keys()
