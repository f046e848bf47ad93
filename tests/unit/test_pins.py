"""One list of versions: pip, conda and both containers install the same things by the same command."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

RECIPES = ("envs/Dockerfile", "envs/sclong.def")
INSTALL = "pip install -c envs/constraints.txt -e ."


def pins(root: Path) -> dict[str, str]:
    lines = [x for x in (root / "envs/constraints.txt").read_text().splitlines() if x.strip() and not x.startswith("#")]
    pairs = [line.split("==") for line in lines]
    assert all(len(pair) == 2 for pair in pairs), "every line is NAME==VERSION"
    assert len({canonicalize_name(name) for name, _ in pairs}) == len(pairs), "every package once"
    return {canonicalize_name(name): version for name, version in pairs}


def project(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


def test_everything_that_the_project_needs_is_pinned_within_its_range(root: Path) -> None:
    said, pinned = project(root), pins(root)
    wanted = [*said["dependencies"], *(r for extra in said["optional-dependencies"].values() for r in extra)]
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        assert name in pinned, f"{requirement.name} has no pin"
        assert requirement.specifier.contains(pinned[name], prereleases=True), f"{requirement} but {pinned[name]}"


def test_pins_are_for_every_machine(root: Path) -> None:
    """No local build (+cpu), so that the same line takes the CPU's or CUDA's wheel."""
    assert not [name for name, version in pins(root).items() if Version(version).local]


def test_snakemake_is_what_the_snakefile_asks_for(root: Path) -> None:
    least = re.search(r'min_version\("([\d.]+)"\)', (root / "Snakefile").read_text())
    assert least and Version(pins(root)["snakemake"]) >= Version(least[1])


def conda_file(root: Path) -> tuple[list[str], list[str]]:
    listed = yaml.safe_load((root / "envs/sclong.yaml").read_text())["dependencies"]
    (pip,) = [item["pip"] for item in listed if isinstance(item, dict)]
    return [item for item in listed if isinstance(item, str)], pip


def test_conda_installs_by_the_constraints(root: Path) -> None:
    own, pip = conda_file(root)
    assert pip == ["-c constraints.txt", "-e .."]
    pinned = pins(root)
    for item in own:
        name, _, version = item.partition("=")
        if version and name != "python":
            assert pinned[canonicalize_name(name)] == version.strip("=")


def base_image(root: Path, recipe: str) -> str:
    found = re.findall(r"^from:? +(\S+)$", (root / recipe).read_text(), re.M | re.I)
    assert len(found) == 1
    return found[0]


def test_python_is_the_same_everywhere(root: Path) -> None:
    images = {base_image(root, recipe) for recipe in RECIPES}
    assert len(images) == 1
    image = re.fullmatch(r"python:(\d+\.\d+)\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", images.pop())
    assert image, "a fixed release of Python on a named release of Debian"
    python = next(item for item in conda_file(root)[0] if item.startswith("python="))
    assert python == f"python={image[1]}"
    assert SpecifierSet(project(root)["requires-python"]).contains(image[1])


@pytest.mark.parametrize("recipe", RECIPES)
def test_containers_run_the_command_of_the_readme(root: Path, recipe: str) -> None:
    readme = (root / "README.md").read_text()
    assert INSTALL in readme.split("<!-- demo-command -->")[1].split("<!-- test-command -->")[0]
    commands = [line.strip().removeprefix("RUN ") for line in (root / recipe).read_text().splitlines()]
    assert [command for command in commands if command.startswith("pip ")] == [INSTALL]


def copied(root: Path, recipe: str) -> list[str]:
    text = (root / recipe).read_text()
    if recipe.endswith(".def"):
        lines = text.split("%files\n")[1].split("\n\n")[0].splitlines()
        return [line.split()[0] for line in lines]
    return [path for line in re.findall(r"^COPY (.+)$", text, re.M) for path in line.split()[:-1]]


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_copied_exists_and_is_all_that_a_run_reads(root: Path, recipe: str) -> None:
    paths = copied(root, recipe)
    assert all((root / path).exists() for path in paths)
    assert set(paths) >= {"pyproject.toml", "README.md", "LICENSE", "Snakefile", "envs", "sclong", "config", "workflow"}
    assert set(paths) == set(copied(root, RECIPES[0]))
    before = (root / recipe).read_text().split(INSTALL)[0]
    assert all(path in before for path in paths), "copied before it is installed"


def test_def_file_has_the_sections_that_apptainer_knows(root: Path) -> None:
    text = (root / "envs/sclong.def").read_text()
    assert re.search(r"^Bootstrap: docker$", text, re.M)
    known = {"files", "post", "environment", "runscript", "test", "labels", "help", "setup", "startscript"}
    sections = re.findall(r"^%(\w+)", text, re.M)
    assert set(sections) <= known and len(set(sections)) == len(sections) and {"files", "post"} <= set(sections)


def test_docker_file_has_known_instructions(root: Path) -> None:
    text = re.sub(r"\\\n", " ", (root / "envs/Dockerfile").read_text())
    words = {line.split()[0] for line in text.splitlines() if line.strip() and not line.startswith("#")}
    assert words <= {"FROM", "RUN", "ENV", "WORKDIR", "COPY", "CMD"}


def test_rules_name_the_conda_file(root: Path) -> None:
    rules = "".join(p.read_text() for p in (root / "workflow/rules").glob("*.smk"))
    assert 'CONDA = "../../envs/sclong.yaml"' in rules
    assert set(re.findall(r"conda:\s+(\S+)", rules)) == {"CONDA"}


def test_page_names_the_files_and_says_what_was_not_built(root: Path) -> None:
    page = (root / "docs/containers.md").read_text()
    rows = {line.split("|")[1].strip(" `"): line for line in page.splitlines() if line.startswith("| `envs/")}
    assert set(rows) == {"envs/constraints.txt", "envs/sclong.yaml", *RECIPES}
    assert all("not built by CI" in rows[path] for path in ("envs/sclong.yaml", *RECIPES))
    for path in re.findall(r"--file (\S+)|build \S+\.sif (\S+)", page):
        assert all((root / part).is_file() for part in path if part)


def test_image_names_users_that_it_does_not_know(root: Path) -> None:
    """Snakemake asks for the user's name: `docker run --user 1000` has none in the image's list of users."""
    assert re.search(r"^ENV .*\bLOGNAME=\w+", (root / "envs/Dockerfile").read_text(), re.M)
