"""Say whether a file can be embedded: what ``sclong check`` does, with the reader and the pass of ``sclong embed``."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sclong.cells.reader import Reader, open_reader
from sclong.checkpoint.folder import read_config
from sclong.checkpoint.shipped import find_checkpoint
from sclong.embed.cells import Empty, cells_of, check_cells
from sclong.errors import SclongError
from sclong.genes.align import describe
from sclong.genes.vocabulary import Vocabulary

OPTIONS = ("layer", "gene_column", "member", "round", "empty")


def check_file(
    source: str | Path,
    checkpoint: str | Path,
    *,
    layer: str | None = None,
    gene_column: str | None = None,
    member: str | None = None,
    round: bool = False,
    empty: Empty = "refuse",
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Return what a file holds and how it would be embedded; memory does not grow with the cells.

    Parameters
    ----------
    source, layer, gene_column, member, round
        File and what is read of it; see :func:`sclong.cells.reader.open_reader`.
    checkpoint
        Folder, or the name of a checkpoint that comes with the package; of the model only its vocabulary and
        configuration are read.
    empty
        As in :func:`sclong.embed.embedding.embed_adata`.
    say
        Is given what is known of the file before its values are read.

    Returns
    -------
    dict
        JSON values: ``usable`` (true), ``command`` (which embeds the file; null where `checkpoint` has no model),
        ``read`` (a line), ``cells``, ``genes``, ``values_from``, ``value_kind``, ``genes_from``, ``left_out``,
        ``alignment``, ``genes_per_cell`` (median, fewest), ``empty_cells``.

    Raises
    ------
    SclongError
        Whatever ``sclong embed`` would refuse, for the same reason.
    """
    folder = find_checkpoint(checkpoint)
    vocabulary = Vocabulary.read(folder / "vocabulary.tsv")
    whole = (folder / "config.json").is_file()  # a vocabulary alone can be asked too
    normalization = str(read_config(folder / "config.json")[0]["normalization"]) if whole else "log1p_cp10k"
    with open_reader(source, layer, gene_column, member=member, round=round) as reader:
        cells = cells_of(reader, vocabulary)
        say(head_text(source, reader, cells.alignment.report))
        survey = check_cells(cells, normalization, empty)
        given = {"layer": layer, "gene_column": gene_column, "member": member, "round": round, "empty": empty}
        return {
            "usable": True,
            "command": embed_command(source, checkpoint, given) if whole else None,
            "read": reader.describe(cells.alignment.report),
            "cells": reader.n_cells,
            "genes": len(reader.genes),
            "values_from": reader.layer,
            "value_kind": reader.value_kind,
            "genes_from": reader.genes_from,
            "left_out": dict(reader.left_out),
            "alignment": dict(cells.alignment.report),
            "genes_per_cell": {"median": int(np.median(survey.detected)), "fewest": int(survey.detected.min())},
            "empty_cells": len(survey.empty),
        }


def refusal(error: SclongError) -> dict[str, Any]:
    """Return why a file cannot be embedded, as JSON values."""
    return {"usable": False, "found": error.found, "expected": error.expected, "what_to_do": error.action}


def embed_command(source: str | Path, checkpoint: str | Path, options: Mapping[str, Any]) -> str:
    """Return the command that embeds a file with the options it was checked with."""
    name = Path(source)
    output = name.with_name(f"{name.name.split('.')[0]}_sclong.h5ad")
    words = ["sclong", "embed", str(source), "--checkpoint", str(checkpoint), "--output", str(output)]
    for option in OPTIONS:
        value, flag = options[option], f"--{option.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif value and not (option == "empty" and value == "refuse"):
            words += [flag, str(value)]
    return shlex.join(words)


def head_text(source: str | Path, reader: Reader, report: Mapping[str, Any]) -> str:
    """Return what is read, and what the names of genes are, in lines."""
    lines = [f"read            {reader.describe(report)}", *describe(report)]
    head = f"{source}: {reader.n_cells:,} cells, {len(reader.genes):,} genes"
    return "\n".join([head, *(f"  {line}" for line in lines)])


def end_text(facts: Mapping[str, Any]) -> str:
    """Return what the values are, in lines, and the command at the end."""
    detected = facts["genes_per_cell"]
    lines = [f"  genes per cell  median {detected['median']:,}, fewest {detected['fewest']:,}"]
    if facts["empty_cells"]:
        lines.append(f"  empty cells     {facts['empty_cells']:,}: their vectors are NaN")
    if facts["command"]:
        return "\n".join([*lines, "the file can be embedded:", f"  {facts['command']}"])
    return "\n".join([*lines, "the file can be embedded, with a whole checkpoint (this folder has no config.json)"])
