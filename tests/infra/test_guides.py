"""The guides for those who come from elsewhere: their messages keep to the schemas, and their links resolve."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft202012Validator

from test_pages import anchors, prose

ROOT = Path(__file__).resolve().parents[2]
GUIDES = sorted((ROOT / "infra/guides").glob("*.md"))
SCHEMAS = ("signing-request.v1", "outcome.v1", "request-status.v1")
REQUEST_ID = "[A-Za-z0-9_.:-]{1,128}"

each_guide = pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.stem)


class Block(NamedTuple):
    """A block of a page. What it is stands in a comment above its fence, which a reader of the page does not see."""

    kind: str
    language: str
    text: str


def blocks(page: Path) -> list[Block]:
    found = re.findall(r"^<!-- ([^\n]*) -->\n```([^\n]*)\n(.*?)^```$", page.read_text(), re.S | re.M)
    return [Block(*block) for block in found]


def schema(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads((ROOT / "schemas" / f"{name}.json").read_text()))


def known(validator: Draft202012Validator) -> set[str]:
    properties: dict[str, Any] = validator.schema["properties"]
    return set(properties)


def test_there_is_a_guide_for_each_of_three_systems() -> None:
    assert [guide.stem for guide in GUIDES] == ["from-openzeppelin", "from-rrelayer", "from-thirdweb-engine"]


@each_guide
def test_messages_in_guides_validate_against_their_schema(guide: Path) -> None:
    found = dict.fromkeys((*SCHEMAS, "cancel"), 0)
    for kind, language, text in blocks(guide):
        if language != "json" or kind == "theirs":
            continue
        message = json.loads(text)
        if kind == "cancel":
            assert list(message) == ["cancel"] and re.fullmatch(REQUEST_ID, message["cancel"]), text
        else:
            validator = schema(kind)
            assert list(validator.iter_errors(message)) == [], text
            # Schemas of what Signpost writes allow new fields; a page must not show one that is not there.
            assert set(message) <= known(validator), text
        found[kind] += 1
    assert found["signing-request.v1"] and found["outcome.v1"] and found["cancel"], found


@each_guide
def test_their_messages_and_policies_in_guides_parse(guide: Path) -> None:
    policies = [block.text for block in blocks(guide) if block.kind == "policy"]
    assert len(policies) == 1, "one policy, which the requests of the page keep to"
    assert tomllib.loads(policies[0])["account"]
    assert all(json.loads(block.text) for block in blocks(guide) if block.kind == "theirs")


@each_guide
def test_every_block_of_a_guide_says_what_it_is(guide: Path) -> None:
    allowed = {("policy", "toml"), *((kind, "json") for kind in ("theirs", "cancel", *SCHEMAS))}
    assert {(block.kind, block.language) for block in blocks(guide)} <= allowed
    assert 2 * len(blocks(guide)) == len(re.findall("^```", guide.read_text(), re.M)), "none is without a comment"


@each_guide
def test_links_of_guides_resolve(guide: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", guide.read_text()) if not link.startswith("https://")]
    assert links, "a guide leads on"
    for link in links:
        path, _, anchor = link.partition("#")
        target = guide.parent / path if path else guide
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


@each_guide
def test_guides_name_when_and_what_was_read(guide: Path) -> None:
    assert re.search(r"Read on 20\d\d-\d\d-\d\d", guide.read_text())


@each_guide
def test_prose_of_guides_wraps_at_120(guide: Path) -> None:
    assert [line for line in prose(guide.read_text()).splitlines() if len(line) > 120] == []
