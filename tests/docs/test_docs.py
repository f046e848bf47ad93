from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml


def test_generated_docs_are_in_step(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_card_key_is_documented(root: Path) -> None:
    from sclong.config.cards import BenchmarkCard, ModelCard

    page = (root / "docs/cards.md").read_text()
    for kind in (BenchmarkCard, ModelCard):
        for key in kind.model_fields:
            assert f"`{key}`" in page, f"{kind.__name__}.{key}"


def test_direct_dependencies_are_pinned_and_pins_satisfy_ranges(root: Path) -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    pins = dict(line.split("==") for line in (root / "envs/constraints.txt").read_text().splitlines() if "==" in line)
    for text in itertools.chain(project["dependencies"], *project["optional-dependencies"].values()):
        requirement = Requirement(text)
        name = requirement.name.lower()
        assert name in pins, f"{name} is not in envs/constraints.txt"
        assert requirement.specifier.contains(pins[name]), (name, pins[name])


def test_conda_file_installs_the_same(root: Path) -> None:
    env = yaml.safe_load((root / "envs/sclong.yaml").read_text())
    assert {"pip": ["-c constraints.txt", "-e .."]} in env["dependencies"]
    assert "python=3.11" in env["dependencies"]


def test_links_between_pages_lead_somewhere(root: Path) -> None:
    pages = [*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("sclong/**/*.md"), *root.glob("config/**/*.md")]
    pages += [*root.glob("benchmarks/**/*.md")]
    broken = []
    for page in pages:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            target = link.split("#")[0]
            if target and "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(root)} -> {link}")
    assert not broken


def test_the_readme_fits_a_page(root: Path) -> None:
    assert len((root / "README.md").read_text().splitlines()) <= 150


def test_one_word_for_a_task_everywhere(root: Path) -> None:
    from sclong.benchmark.registry import load_tasks

    for name in load_tasks():
        for place in (f"sclong/tasks/{name}/README.md", f"docs/tasks/{name}.md", f"tests/tasks/{name}"):
            assert (root / place).exists(), place
        assert list((root / "config/benchmarks" / name).glob("*.yaml")), name


def test_code_that_pages_name_exists(root: Path) -> None:
    """A path with a folder, in backticks, is a file of the project, from its top or from one of its folders."""
    pages = [
        *root.glob("*.md"),
        *root.glob("docs/*.md"),
        *root.glob("docs/tasks/*.md"),
        *root.glob("docs/decisions/*.md"),
    ]
    foreign = {"openproblems/data/pancreas.py", "config/benchmarks/my_cells.yaml"}
    wrong = []
    for page in set(pages) - {root / "CHANGELOG.md"}:
        for name in re.findall(r"`([a-z_]+/[a-z_/0-9]+\.(?:py|smk|yaml))`", page.read_text(encoding="utf-8")):
            places = [root, *(root / folder for folder in ("sclong", "workflow", "config", "config/models"))]
            if name not in foreign and not any((place / name).is_file() for place in places):
                wrong.append(f"{page.relative_to(root)}: {name}")
    assert not wrong


def test_whole_cards_in_the_docs_are_cards(root: Path, tmp_path: Path) -> None:
    """A block that names a card is a whole one: it can be copied."""
    from sclong.config.cards import BenchmarkCard, ModelCard, load_card
    from sclong.plan.rows import check_benchmark

    found = set()
    for page in sorted(root.glob("docs/**/*.md")):
        for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.S):
            if not block.startswith("name: "):
                continue
            name = yaml.safe_load(block)["name"]
            (tmp_path / f"{name}.yaml").write_text(block)
            card = load_card(tmp_path / f"{name}.yaml", ModelCard if "role: " in block else BenchmarkCard)
            if isinstance(card, BenchmarkCard):
                check_benchmark(card)
            found.add(name)
    assert {"my_cells", "my_screen", "my_model"} <= found
