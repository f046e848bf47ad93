"""The step prepare: raw files of a data set become its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sclong.benchmark.registry import load_task
from sclong.errors import CardError
from sclong.io.files import atomic_dir, sha256_tree, write_json
from sclong.runlog import LOGGER


def prepare_dataset(task: str, dataset: str, inputs: Mapping[str, Any], options: Mapping[str, Any], out: Path) -> None:
    """Make the folder of a data set with its task, and write ``dataset.json`` (facts, inputs and their hashes).

    Parameters
    ----------
    task, dataset
        Names.
    inputs
        Role -> path, or list of paths.
    options
        The card's ``options`` for this data.
    out
        Folder to make, whole or not at all.

    Raises
    ------
    CardError
        The task wrote no ``expression.h5ad``; besides what :meth:`sclong.benchmark.task.Task.prepare` raises.
    """
    with atomic_dir(out) as folder:
        facts = load_task(task).prepare(inputs, options, folder)
        if not (folder / "expression.h5ad").is_file():
            raise CardError(
                f"task {task!r} wrote no expression.h5ad",
                "the cells to embed in expression.h5ad",
                "correct the task's step prepare",
            )
        files = [p for v in inputs.values() for p in (v if isinstance(v, (list, tuple)) else [v])]
        hashes = {"/".join(Path(p).parts[-2:]): sha256_tree(p) for p in files}
        described = {"dataset": dataset, "task": task, "facts": facts, "options": dict(options), "inputs": hashes}
        write_json(folder / "dataset.json", described)
        LOGGER.info("%s: %s", dataset, facts)
