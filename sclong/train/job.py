"""One training, described by a JSON file: what every process of it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError

from sclong.config.cards import describe_validation
from sclong.config.sections import Architecture, PretrainConfig
from sclong.corpus.shards import ShardStore
from sclong.errors import ConfigError
from sclong.genes.vocabulary import Vocabulary
from sclong.io.files import read_json
from sclong.train.loop import pretrain

T = TypeVar("T", Architecture, PretrainConfig)


COLUMNS = ("donor", "dataset", "tissue")
"""What a training reads of the cells' annotation."""
PATHS = ("shards", "vocabulary", "go_graph", "gene2vec", "work_dir", "export_dir")


def train(path: Path) -> None:
    """Do the training that a JSON file describes; see :func:`sclong.train.launch.launch` for its keys.

    Raises
    ------
    ConfigError
        The file cannot be read, or a key is missing, unknown or wrong; besides what
        :func:`sclong.train.loop.pretrain` raises.
    """
    wanted = {*PATHS, "architecture", "pretrain"}
    try:
        job = read_json(path)
        difference = wanted.symmetric_difference(job)
        if difference:
            raise ValueError(f"missing or unknown keys: {', '.join(sorted(difference))}")
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path}: {error}", f"a JSON file with the keys {', '.join(sorted(wanted))}", "see docs/training.md"
        ) from error
    arch = section(Architecture, job["architecture"], path)
    config = section(PretrainConfig, job["pretrain"], path)
    torch.set_num_threads(config.threads)
    shards, vocabulary, go_graph, gene2vec, work_dir, export_dir = (job[name] for name in PATHS)
    store = ShardStore(shards, COLUMNS)
    pretrain(store, Vocabulary.read(vocabulary), go_graph, arch, config, work_dir, export_dir, gene2vec)


def section(kind: type[T], values: dict[str, Any], path: Path) -> T:
    """Return a section of the configuration.

    Raises
    ------
    ConfigError
        A key or a value is wrong.
    """
    try:
        return kind(**values)
    except ValidationError as error:
        found, action = describe_validation(error, kind)
        raise ConfigError(f"{path}: {found}", "keys and values of docs/configuration.md", action) from None
