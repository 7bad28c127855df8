"""A Prometheus that scrapes a Signpost and answers a dashboard's queries."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

from stack import free_port, wait_for

SCRAPE_INTERVAL = "500ms"


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The current result of an expression: one sample for each set of labels."""
        url = f"{self.url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = json.load(answer)
        assert found["status"] == "success", (expression, found)
        samples: list[dict[str, Any]] = found["data"]["result"]
        return samples

    def value(self, expression: str) -> float:
        """The first value of an expression's result; 0 if it is empty."""
        samples = self.query(expression)
        return float(samples[0]["value"][1]) if samples else 0.0


@contextmanager
def scraping(directory: Path, targets: list[str]) -> Iterator[Prometheus]:
    """Runs Prometheus until the end of the block. It has scraped each target once when the block begins."""
    config = directory / "prometheus.yml"
    scrape = {"job_name": "signpost", "static_configs": [{"targets": targets}]}
    # JSON is valid YAML.
    config.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": SCRAPE_INTERVAL, "scrape_timeout": SCRAPE_INTERVAL},
                "scrape_configs": [scrape],
            }
        )
    )
    address = f"127.0.0.1:{free_port()}"
    command = [os.environ["SIGNPOST_PROMETHEUS"], f"--config.file={config}", f"--web.listen-address={address}",
               f"--storage.tsdb.path={directory / 'prometheus'}", "--log.level=warn"]  # fmt: skip
    with (directory / "prometheus.log").open("wb") as log:
        running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    found = Prometheus(f"http://{address}")

    def is_scraping() -> bool:
        try:
            return found.value("count(up == 1)") == len(targets)
        except URLError:
            assert running.poll() is None, (directory / "prometheus.log").read_text()
            return False

    try:
        wait_for("Prometheus scrapes every target", is_scraping, 30)
        yield found
    finally:
        running.terminate()
        running.wait(30)
