"""Every page of the repository: its links lead somewhere, its lines are short, and what it quotes (commands, tests, log
lines) is there. The marks of blocks are explained in .github/CONTRIBUTING.md. Needs the standard library and pytest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINE_MAX = 120
README_LINES_MAX = 170
# A code span that is shorter stays on one line.
SPAN_MAX = 100
PASSED_OVER = {".git", "target", "node_modules", "__pycache__"}
# Languages whose blocks are commands or code, and need a mark.
RUN = {"sh", "bash", "console", "python", "rust", "js", "ts", "javascript", "typescript"}


class Cover(NamedTuple):
    """Where blocks with a mark may stand, and the test that keeps them true. No pages: anywhere."""

    pages: tuple[str, ...]
    test: str


# Settings of other systems that the guides name.
FOREIGN = {"max_gas_price_multiplier", "gas_bump_blocks_every"}
README_TEST = "tests/e2e/test_readme.py::test"
COVERED = {
    ("sh", "three-steps"): Cover(("README.md",), f"{README_TEST}_shell_three_steps_confirm"),
    ("python", "three-steps"): Cover(("README.md",), f"{README_TEST}_python_three_steps_type_check_and_confirm"),
    ("rust", "three-steps"): Cover(("crates/client/README.md",), f"{README_TEST}_rust_three_steps_confirm"),
    ("rust", "doctest"): Cover(("crates/client/README.md",), "crates/client/src/lib.rs::FrontPage"),
    ("sh", "chapel"): Cover(
        ("infra/CHAPEL.md",), "tests/e2e/test_walkthrough.py::test_chapel_walkthrough_ends_with_a_confirmed_request"
    ),
    ("toml", "policy"): Cover(
        ("infra/POLICY.md",),
        "crates/txmgr/tests/request/policy.rs::policy_page_shows_every_rule_in_a_valid_policy",
    ),
    ("sh", "aws"): Cover(
        ("infra/README.md", "infra/CHAPEL.md"),
        "tests/infra/test_template.py::test_deploy_commands_of_pages_use_existing_parameters",
    ),
    ("sh", "cargo"): Cover((), "tests/infra/test_pages.py::test_commands_name_what_there_is"),
    ("sh", "pages"): Cover((".github/CONTRIBUTING.md",), "tests/infra/test_pages.py::test_commands_name_what_there_is"),
}
SHOWN = "shown"


class Block(NamedTuple):
    """A fenced block: the words behind the fence, and what is in it."""

    language: str
    marks: tuple[str, ...]
    text: str


def walk() -> Iterator[Path]:
    for directory, names, files in os.walk(ROOT):
        names[:] = [name for name in names if name not in PASSED_OVER]
        yield from (Path(directory) / name for name in files)


@cache
def pages() -> dict[str, str]:
    found = {path.relative_to(ROOT).as_posix(): path.read_text() for path in walk() if path.suffix == ".md"}
    assert len(found) > 10, "the pages are found"
    return found


@cache
def sources() -> dict[str, str]:
    kinds = {".rs", ".py", ".mjs", ".js"}
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in walk() if path.suffix in kinds}


FENCE = re.compile(r"^ *```([^\n`]*)\n(.*?)^ *```$", re.S | re.M)


def blocks(page: str) -> list[Block]:
    found = []
    for info, text in FENCE.findall(page):
        language, *marks = info.split() or [""]
        found.append(Block(language, tuple(mark for mark in marks if mark != "no_run"), text))
    return found


def prose(page: str) -> str:
    return FENCE.sub("", page)


def spans(page: str) -> list[str]:
    """The code spans of a page, each on one line."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]


# --- links


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    shown = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", shown.strip().lower()).replace(" ", "-")


def anchors(page: str) -> set[str]:
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.*?) *$", prose(page), re.M):
        name, number = slug(heading), 0
        while (unique := f"{name}-{number}" if number else name) in found:
            number += 1
        found.add(unique)
    return found


def wrong_links(name: str, page: str, all_pages: dict[str, str]) -> list[str]:
    wrong = []
    text = re.sub(r"`[^`]*`", "", prose(page))
    for target in re.findall(r"\]\(\s*([^)\s]+)\s*\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = os.path.normpath(os.path.join(os.path.dirname(name), path)) if path else name
        if place not in all_pages and not (ROOT / place).exists():
            wrong.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(all_pages.get(place, "")):
            wrong.append(f"{target}: no such heading")
    return wrong


@pytest.mark.parametrize("name", pages())
def test_every_link_and_anchor_resolves(name: str) -> None:
    assert wrong_links(name, pages()[name], pages()) == []


def test_a_wrong_link_or_anchor_is_found() -> None:
    here = {"a/one.md": "# A `b-c` d\n\n[x](two.md#e) [y](#a-b-c-d) [z](../a/two.md)", "a/two.md": "# E\n"}
    assert wrong_links("a/one.md", here["a/one.md"], here) == []
    broken = "[x](two.md#f) [y](three.md) [z](#nothing)"
    assert len(wrong_links("a/one.md", broken, here)) == 3


# --- lines


def words(line: str) -> list[str]:
    """What a line can be broken into. A short code span is one word."""
    kept = re.sub(rf"`[^`]{{1,{SPAN_MAX}}}`", lambda span: span[0].replace(" ", "_"), line)
    return re.sub(r"^ *([-*]|\d+\.) ", "", kept).split()


def long_lines(page: str) -> list[str]:
    lines = (line for line in prose(page).splitlines() if not line.lstrip().startswith(("|", "#")))
    return [line for line in lines if len(line) > LINE_MAX and len(words(line)) > 1]


@pytest.mark.parametrize("name", pages())
def test_prose_wraps(name: str) -> None:
    assert long_lines(pages()[name]) == [], f"longer than {LINE_MAX}"


def test_a_long_line_is_found() -> None:
    assert long_lines("word " * 25) and not long_lines("x" * 200)
    assert not long_lines(f"```\n{'word ' * 25}\n```\n| {'word ' * 25} |\n")


def test_the_readme_is_short() -> None:
    assert len(pages()["README.md"].splitlines()) <= README_LINES_MAX


# --- blocks


def unmarked(name: str, page: str) -> list[str]:
    wrong = []
    for block in blocks(page):
        if block.language not in RUN and not block.marks:
            continue
        [mark] = block.marks if len(block.marks) == 1 else [""]
        cover = COVERED.get((block.language, mark))
        if mark == SHOWN or (cover and (not cover.pages or name in cover.pages)):
            continue
        wrong.append(f"```{block.language} {' '.join(block.marks)}: {block.text[:40]!r}")
    return wrong


@pytest.mark.parametrize("name", pages())
def test_every_block_of_commands_has_a_mark(name: str) -> None:
    assert unmarked(name, pages()[name]) == []


def test_a_block_without_a_mark_or_in_the_wrong_place_is_found() -> None:
    assert unmarked("README.md", "```sh\nls\n```\n") and unmarked("README.md", "```rust\nfn main() {}\n```\n")
    assert unmarked("README.md", "```sh chapel\nls\n```\n") and unmarked("README.md", "```sh unknown\nls\n```\n")
    assert not unmarked("README.md", "```sh three-steps\nls\n```\n```\nls\n```\n```sh shown\nls\n```\n")


def test_every_mark_is_used_explained_and_covered_by_a_test() -> None:
    used = {(block.language, mark) for page in pages().values() for block in blocks(page) for mark in block.marks}
    for (language, mark), cover in COVERED.items():
        assert (language, mark) in used, f"no block is {language} {mark}"
        assert f"| `{mark}` |" in pages()[".github/CONTRIBUTING.md"], f"{mark} is not explained"
        path, _, test = cover.test.partition("::")
        assert re.search(rf"^(?:async )?(?:fn|def|struct) {test}\b", (ROOT / path).read_text(), re.M), cover.test


def test_the_examples_of_the_client_are_tests() -> None:
    lib = (ROOT / "crates/client/src/lib.rs").read_text()
    assert '#[cfg(doctest)]\n#[doc = include_str!("../README.md")]' in lib


# --- commands


@cache
def packages() -> dict[str, Path]:
    found = {}
    for path in walk():
        if path.name == "Cargo.toml" and (name := re.search(r'^\[package\]\nname = "([^"]+)"', path.read_text(), re.M)):
            found[name[1]] = path.parent
    return found


def is_target(package: Path, kind: str, name: str) -> bool:
    """Whether a package has this program, benchmark or test."""
    places = {"bin": "src/bin", "bench": "benches", "test": "tests", "example": "examples"}
    place = package / places[kind]
    declared = re.search(rf'^\[\[{kind}\]\]\nname = "{name}"', (package / "Cargo.toml").read_text(), re.M)
    return bool(declared) or (place / f"{name}.rs").is_file() or (place / name / "main.rs").is_file()


def is_option(option: str, directory: str) -> bool:
    """Whether sources under a directory have this long option, as clap derives it or as it is written."""
    field = option.removeprefix("--").replace("-", "_")
    looked = re.compile(rf'\b{field}: |"{option}"|long = "{option.removeprefix("--")}"|{option}\b')
    return any(looked.search(text) for path, text in sources().items() if path.startswith(directory))


def is_test_filter(text: str, directories: tuple[str, ...]) -> bool:
    for path, source in sources().items():
        if path.startswith(directories):
            names = re.findall(r"^\s*(?:async )?(?:fn|def) (\w+)", source, re.M)
            if any(text in name for name in [Path(path).stem, *names]):
                return True
    return False


CLI = "crates/cli/src/command"
# Words for what a reader puts in.
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*$|…|\.\.\.|\[|\$|<|\"")


def wrong_verify(arguments: list[str]) -> Iterator[str]:
    places: tuple[str, ...] = ("crates", "tests")
    for argument in arguments:
        if argument == "--e2e-only":
            places = ("tests/e2e", "tests/infra")
        if argument.startswith("-") and not is_option(argument, "tests/verify/src"):
            yield f"no option {argument}"
        elif not argument.startswith("-") and not PLACEHOLDER.match(argument) and not is_test_filter(argument, places):
            yield f"no test has {argument} in its name"


def wrong_cargo(arguments: list[str]) -> Iterator[str]:
    match arguments:
        case ["demo", *options]:
            yield from (f"no option {one}" for one in options if one.startswith("--") and not is_option(one, CLI))
        case ["verify", *rest]:
            yield from wrong_verify(rest)
        case ["run" | "bench" | "test", *rest]:
            given = dict(zip(rest, rest[1:], strict=False))
            package = packages().get(given.get("-p", given.get("--package", "")))
            if package is None:
                yield "no such package"
                return
            for kind in ("bin", "bench", "test", "example"):
                for option, value in zip(rest, rest[1:], strict=False):
                    if option == f"--{kind}" and not is_target(package, kind, value):
                        yield f"no {kind} {value}"
            if "--" in rest:
                own = rest[rest.index("--") + 1 :]
                if package == ROOT / "crates/cli":
                    yield from wrong_signpost(own)
        case ["install", "--path", place, *_]:
            if not (ROOT / place / "Cargo.toml").is_file():
                yield f"no package in {place}"
        case _:
            pass


def wrong_signpost(arguments: list[str]) -> Iterator[str]:
    command, *rest = arguments
    if not re.fullmatch(r"[a-z]+", command):
        return
    if not (ROOT / CLI / f"{command}.rs").is_file() and not (ROOT / CLI / command).is_dir():
        yield f"no command {command}"
        return
    if command in ("account", "policy", "requests") and rest and re.fullmatch(r"[a-z-]+", rest[0]):
        variant = rest[0].title().replace("-", "")
        inner = [text for path, text in sources().items() if path.startswith(f"{CLI}/{command}")]
        if not any(re.search(rf"\b{variant}\b", text) for text in inner):
            yield f"no command {command} {rest[0]}"
    for argument in rest:
        option = argument.strip("[]").partition("=")[0]
        if option.startswith("--") and not is_option(option, "crates/cli/src"):
            yield f"no option {option}"


def wrong_commands(text: str) -> list[str]:
    wrong = []
    for line in text.replace("\\\n", " ").splitlines():
        command = re.split(r" [|>#] |  # | > | <\(", line.strip())[0]
        command = re.sub(r"^cd \S+ && ", "", command)
        match command.split():
            case ["cargo", *rest] if rest:
                problems = wrong_cargo(rest)
            case ["signpost", *rest] if rest:
                problems = wrong_signpost(rest)
            case ["python3", *rest]:
                files = [one for one in rest if one.endswith(".py")]
                problems = (f"no file {one}" for one in files if not (ROOT / one).is_file())
            case ["aws", *rest]:
                files = [one for one in rest if one.startswith("infra/")]
                problems = (f"no file {one}" for one in files if not (ROOT / one).is_file())
            case [program, *_] if program.startswith(("tests/", ".ci/", "infra/")) and program.endswith("/run"):
                problems = iter([] if (ROOT / program).is_file() else [f"no file {program}"])
            case _:
                continue
        wrong += [f"{command}: {problem}" for problem in problems]
    return wrong


@pytest.mark.parametrize("name", pages())
def test_commands_name_what_there_is(name: str) -> None:
    page = pages()[name]
    assert wrong_commands("\n".join([block.text for block in blocks(page) if block.language == "sh"])) == []
    assert wrong_commands("\n".join(spans(page))) == []


def test_the_cargo_aliases_are_there() -> None:
    aliases = re.findall(r"^(\w+) = \"run ", (ROOT / ".cargo/config.toml").read_text(), re.M)
    assert set(aliases) >= {"demo", "verify"}


@pytest.mark.parametrize(
    "command",
    [
        "signpost acount list",
        "signpost account unretire NAME",
        "signpost status ID --jsonn",
        "cargo run -p signpost-simm --bin flood",
        "cargo run -p signpost-sim --bin drought",
        "cargo bench -p signpost-aws --features dynamodb --bench things",
        "cargo verify --e2e-only no_such_test_anywhere",
        "cargo verify --faster",
        "cargo install --path crates/nothing",
        "python3 infra/nothing.py --out dist",
        "aws cloudformation deploy --template-file infra/nothing.yaml",
    ],
)
def test_a_wrong_command_is_found(command: str) -> None:
    assert wrong_commands(command)


# --- quotes


@cache
def program_text() -> str:
    """The sources of the programs, with strings that go over several lines joined."""
    return re.sub(r"\\\n\s*", "", "\n".join(text for path, text in sources().items() if path.startswith("crates/")))


def unquoted(page: str) -> list[str]:
    """Log lines that no source says."""
    said = re.findall(r'\b(?:INFO|WARN|ERROR) "([^"]+)"', " ".join(prose(page).split()))
    return [line for line in said if line not in program_text()]


@pytest.mark.parametrize("name", pages())
def test_every_quoted_log_line_is_in_the_sources(name: str) -> None:
    assert unquoted(pages()[name]) == []


def test_a_log_line_that_nobody_says_is_found() -> None:
    assert unquoted('see WARN "the moon is\nblue tonight"')


@cache
def identifiers() -> frozenset[str]:
    found: set[str] = set()
    for path, text in sources().items():
        found.update(re.findall(r"\w+", text))
        found.add(Path(path).stem)
    return frozenset(found)


def unknown_tests(name: str, page: str) -> list[str]:
    wrong = []
    text = prose(page)
    for test, target in re.findall(r"\[`(\w+_\w+)`\]\(([^)#\s]+\.(?:rs|py))\)", text):
        path = ROOT / os.path.dirname(name) / target
        source = path.read_text() if path.is_file() else ""
        if test != path.stem and not re.search(rf"^\s*(?:async )?(?:fn|def) {test}\b", source, re.M):
            wrong.append(f"{test} in {target}")
    # Names with four words and more are tests or settings.
    for span in re.findall(r"`(test_\w+|[a-z]+(?:_[a-z0-9]+){3,})`", text):
        if span not in identifiers() | FOREIGN:
            wrong.append(span)
    return wrong


@pytest.mark.parametrize("name", pages())
def test_every_test_that_is_named_is_there(name: str) -> None:
    assert unknown_tests(name, pages()[name]) == []


def test_a_name_of_no_test_is_found() -> None:
    # In parts, or it would be in the sources.
    name = "_".join(["a", "claim", "that", "nobody", "checks"])
    assert unknown_tests("README.md", f"`{name}`")
    assert unknown_tests("README.md", f"[`{name}`](tests/infra/test_pages.py)")


# --- counts


def counted() -> dict[str, int]:
    """What pages count, and how many there are."""
    bugs = re.search(r"ALL: \[Self; (\d+)\]", sources()["tests/sim/src/explorer/mutants.rs"])
    assert bugs
    nodes = re.findall(r"^    odd\(", sources()["tests/e2e/oddities.py"], re.M)
    return {r"planted (?:design )?bugs": int(bugs[1]), r"(?:kinds of )?odd nodes": len(nodes)}


@pytest.mark.parametrize("name", pages())
def test_what_is_counted_is_as_many(name: str) -> None:
    text = " ".join(prose(pages()[name]).split())
    for what, many in counted().items():
        assert {int(number) for number in re.findall(rf"\b(\d+) {what}", text)} <= {many}, what


def test_the_counts_are_in_some_page() -> None:
    for what in counted():
        assert any(re.search(rf"\d {what}", " ".join(page.split())) for page in pages().values()), what
