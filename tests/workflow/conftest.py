"""The simulated world and what the workflow makes of it, once for all tests of this folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sclong.config.load import Config, load_config


@dataclass(frozen=True)
class World:
    """A simulated world and the files of the first steps of the workflow."""

    config: Config
    folder: Path
    vocabulary: Path
    shards: Path
    graph: Path

    def path(self, address: str) -> Path:
        assert address.startswith("world:")
        return self.folder / address.removeprefix("world:")


PARTS = ("Snakefile", "config", "workflow", "profiles", "envs", "resources", "slurm")


@pytest.fixture
def clone(root: Path, tmp_path: Path) -> Path:
    """A copy of what a workflow run reads, to run in and to edit."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for part in PARTS:
        source = root / part
        if source.is_symlink():
            (folder / part).symlink_to(os.readlink(source))
        elif source.is_dir():
            shutil.copytree(source, folder / part)
        elif source.exists():
            shutil.copy(source, folder / part)
    return folder


@pytest.fixture(scope="session")
def world(root: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """From simulated files to shards and GO graph, by the functions that the rules call."""
    from sclong.corpus.assemble import build_corpus, detection_table
    from sclong.corpus.part import write_part
    from sclong.corpus.source import file_dataset, scan_source
    from sclong.genes.go_graph import build_go_graph
    from sclong.genes.vocabulary import build_vocabulary
    from sclong.world.simulation import simulate

    config = load_config({}, root)
    out = tmp_path_factory.mktemp("world")
    simulate(out / "world", seed=0)
    world = World(config, out / "world", out / "vocabulary.tsv", out / "shards", out / "go_graph.npz")
    annotation, symbols = world.path(config.vocabulary.annotation), world.path(config.vocabulary.symbols)
    scans, parts = [], []
    for source in config.corpus.sources:
        scans.append(out / f"{source.name}.tsv")
        scan_source(world.path(source.input), source, annotation, symbols, scans[-1])
    vocabulary = build_vocabulary(annotation, symbols, detection_table(scans), config.vocabulary.size, None)
    vocabulary.write(world.vocabulary)
    for source in config.corpus.sources:
        parts.append(out / "parts" / source.name)
        dataset, work_dir = file_dataset(world.path(source.input), source), out / "unfinished" / source.name
        write_part([dataset], parts[-1], work_dir, vocabulary, config.corpus.filters, {})
    build_corpus(parts, world.shards, vocabulary, out / "manifest.tsv")
    options = config.go.model_dump(exclude={"obo", "annotation"})
    build_go_graph(world.path(config.go.obo), world.path(config.go.annotation), vocabulary, **options).write(
        world.graph
    )
    return world


@pytest.fixture(scope="session")
def trained(root: Path, world: World, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[Path, Path]]:
    """Checkpoints of tiny scLong, untrained and after a short training (made when first asked for)."""
    made: list[tuple[Path, Path]] = []

    def checkpoints() -> tuple[Path, Path]:
        if not made:
            from sclong.checkpoint.folder import initialise
            from sclong.config.load import load_architecture
            from sclong.corpus.shards import ShardStore
            from sclong.genes.vocabulary import Vocabulary
            from sclong.train.loop import pretrain

            out = tmp_path_factory.mktemp("checkpoints")
            tiny = load_architecture("tiny", root / "config")
            vocabulary = Vocabulary.read(world.vocabulary)
            config = world.config.pretrain.model_copy(update={"steps": 120, "warmup_steps": 20, "validate_every": 60})
            pretrain(ShardStore(world.shards), vocabulary, world.graph, tiny, config, out / "training", out / "sclong")
            initialise(out / "sclong_random", tiny, vocabulary, world.graph, config.seed)
            made.append((out / "sclong", out / "sclong_random"))
        return made[0]

    return checkpoints
