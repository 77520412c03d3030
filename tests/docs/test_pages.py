"""Pages tell the truth: links lead somewhere, commands run, tables name files that exist."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import maturity

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
PERSONAS = sorted((DOCS / "personas").glob("*.md"))
NAMES = {
    "data-scientist",
    "data-engineer",
    "software-engineer",
    "operations",
    "business-stakeholder",
    "data-end-user",
}


def commands() -> list[tuple[str, str]]:
    found = []
    for page in PERSONAS:
        for block in re.findall(r"```sh\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            found += [(page.stem, line.split("#")[0].strip()) for line in block.splitlines() if line.strip()]
    return found


def test_every_persona_has_a_page_with_commands() -> None:
    assert {page.stem for page in PERSONAS} == NAMES
    assert {name for name, _ in commands()} == NAMES


def test_make_lines_of_a_persona_are_steps_of_ci_and_the_others_run_here() -> None:
    ci = re.search(r"^ci: ([a-z -]+) ##", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert ci
    for persona, command in commands():
        assert command.startswith("python -m ") or command.split()[1] in ci[1].split(), f"{persona}: {command}"


@pytest.mark.parametrize(("persona", "command"), [one for one in commands() if one[1].startswith("python ")])
def test_a_personas_command_runs(persona: str, command: str, tmp_path: Path) -> None:
    words = [sys.executable, *re.sub(r"--out \S+", f"--out {tmp_path}", command).split()[1:]]
    done = subprocess.run(words, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


RUNGS = re.findall(r"^\| \d\. .*`(python -m [^`]+)` \|$", (DOCS / "adoption.md").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("command", RUNGS)
def test_a_rung_of_the_adoption_ladder_can_be_tried(command: str) -> None:
    words = [sys.executable, *command.split()[1:]]
    done = subprocess.run(words, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize(
    "page",
    [
        DOCS / "deployment.md",
        DOCS / "disaster-recovery.md",
        DOCS / "tool-chain.md",
        DOCS / "adoption.md",
        DOCS / "security.md",
        DOCS / "architecture.md",
        DOCS / "scaling.md",
        ROOT / "CONTRIBUTING.md",
    ],
    ids=lambda page: page.name,
)
def test_make_targets_and_modules_of_a_page_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for target in re.findall(r"`make ([a-z-]+)", text):
        assert target in targets, target
    for module in re.findall(r"python -m ([a-z_.]+)", text):
        path = ROOT / Path(*module.split("."))
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
    for file in re.findall(
        r"(?<![\w./{-])((?:infra|scripts|azure-pipelines|adapters|ml_jobs|tests|conditioning|dashboard|domain)/[\w./-]*\w)",
        text,
    ):
        assert (ROOT / file).exists() or (ROOT / f"{file}.yml").exists(), f"{page.name} names {file}"


def test_the_tool_chain_has_its_ten_rows() -> None:
    rows = [line for line in (DOCS / "tool-chain.md").read_text("utf-8").splitlines() if line.startswith("| ")]
    assert len(rows) - 2 == 10


def test_the_maturity_command_tells_levels_from_evidence(tmp_path: Path) -> None:
    assert maturity.level() == 4
    assert maturity.level(tmp_path) == 0
    for one in maturity.CRITERIA:
        if one.level <= 2:
            target = tmp_path / one.file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(one.words + (target.read_text() if target.exists() else ""))
    assert maturity.level(tmp_path) == 2


def test_every_decision_says_context_decision_and_consequences() -> None:
    pages = sorted((DOCS / "decisions").glob("*.md"))
    assert len(pages) >= 5
    for number, page in enumerate(pages, 1):
        text = page.read_text("utf-8")
        assert text.startswith(f"# {number}. ") and page.name.startswith(f"{number:04d}-")
        assert all(f"**{word}.**" in text for word in ("Context", "Decision", "Consequences"))
