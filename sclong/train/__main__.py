"""Train: ``python -m sclong.train --config JOB.json``, alone or as one of the processes that torchrun starts."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError

from sclong import runlog
from sclong.cards import describe_validation
from sclong.config_sections import Architecture, PretrainConfig
from sclong.data.vocabulary import Vocabulary
from sclong.errors import ConfigError, SclongError
from sclong.io.files import read_json
from sclong.io.shards import ShardStore
from sclong.train.launch import RETRY, TrainingStoppedError
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


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit code: 0, 1 (error), 75 (asked to stop: start it again)."""
    parser = argparse.ArgumentParser(prog="python -m sclong.train", description="Pretrain a model.")
    parser.add_argument("--config", type=Path, required=True, help="JSON file: paths, architecture, pretrain")
    given = parser.parse_args(arguments)
    rank = int(os.environ.get("RANK", 0))
    log = runlog.start(label="" if rank == 0 else f"process {rank}", level=logging.WARNING if rank else logging.INFO)
    try:
        train(given.config)
    except TrainingStoppedError as stopped:
        log.log(logging.DEBUG if rank else logging.WARNING, "%s", stopped)
        return RETRY
    except SclongError as error:
        log.error("%s", error if rank == 0 else error.found)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
