"""A checkpoint is a folder that is enough to embed: weights, configuration, vocabulary, graph, log, model card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sclong import __version__
from sclong.config import Architecture
from sclong.data.vocabulary import Vocabulary
from sclong.errors import CheckpointError, DeviceError, InputDataError, VocabularyMismatchError, listing
from sclong.io.files import atomic_dir, read_json, sha256_file, write_json, write_text
from sclong.knowledge.similarity import GoGraph
from sclong.nn.dual_encoder import DualEncoder
from sclong.provenance import environment
from sclong.seeding import derive_seed

FILES = ("model.safetensors", "config.json", "vocabulary.tsv", "go_graph.npz", "training.jsonl", "README.md")
NORMALIZATION = "log1p_cp10k"


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint in memory.

    Attributes
    ----------
    model
        In eval mode, on the device it was loaded to.
    arch, vocabulary
        Its shape and its genes.
    config
        Content of ``config.json``.
    hash
        First 16 hexadecimal digits of the SHA-256 of ``model.safetensors``.
    """

    model: DualEncoder
    arch: Architecture
    vocabulary: Vocabulary
    config: Mapping[str, Any]
    hash: str


def save_checkpoint(
    folder: str | Path,
    model: DualEncoder,
    arch: Architecture,
    vocabulary: Vocabulary,
    go_graph_path: str | Path,
    *,
    training_log: Path | None,
    card: Mapping[str, Any],
) -> None:
    """Write a checkpoint folder, whole or not at all.

    Parameters
    ----------
    folder
        Folder to write; an existing one is replaced once the new one is complete.
    model, arch, vocabulary, go_graph_path
        What the checkpoint is made of.
    training_log
        ``training.jsonl`` of the training; None: untrained.
    card
        Facts for the model card (what it was trained on, steps, ...).
    """
    with atomic_dir(folder) as out:
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(state, out / "model.safetensors")
        vocabulary.write(out / "vocabulary.tsv")
        shutil.copyfile(go_graph_path, out / "go_graph.npz")
        if training_log is None:
            write_text(out / "training.jsonl", "")
        else:
            shutil.copyfile(training_log, out / "training.jsonl")
        config = {
            "format": 1,
            "sclong": __version__,
            "architecture": arch.model_dump(),
            "n_genes": len(vocabulary),
            "vocabulary_hash": vocabulary.hash,
            "normalization": NORMALIZATION,
            "card": dict(card),
            "environment": environment(),
        }
        write_json(out / "config.json", config)
        write_text(out / "README.md", model_card(config, model))


def model_card(config: Mapping[str, Any], model: DualEncoder) -> str:
    """Return the model card of a checkpoint, as Markdown."""
    arch = config["architecture"]
    n_parameters = sum(p.numel() for p in model.parameters())
    facts = "\n".join(f"- {key}: {value}" for key, value in config["card"].items())
    return (
        f"# scLong checkpoint ({arch['name']})\n\n"
        f"Dual-encoder Performer over {config['n_genes']:,} genes, {n_parameters:,} parameters "
        "(architecture: Bai et al., Nature Communications 2026; weights: made with sclong "
        f"{config['sclong']}).\n\n"
        f"- input: raw counts, normalised as {config['normalization']} when they are read\n"
        f"- vocabulary: {config['vocabulary_hash']}\n"
        f"- random features: stabilizer {arch['stabilizer']}, fixed in this folder\n"
        f"- licence of the weights: that of the data they were trained on\n{facts}\n\n"
        "Use: `sclong embed INPUT.h5ad --checkpoint THIS_FOLDER --output OUTPUT.h5ad`\n"
    )


def initialise(
    folder: str | Path, arch: Architecture, vocabulary: Vocabulary, go_graph_path: str | Path, seed: int
) -> None:
    """Write a checkpoint of random weights: those that a pretraining with this seed starts from."""
    torch.manual_seed(derive_seed("weights", seed))
    model = DualEncoder(arch, len(vocabulary), GoGraph.read(go_graph_path))
    save_checkpoint(
        folder, model, arch, vocabulary, go_graph_path, training_log=None, card={"trained": "no", "seed": seed}
    )


def load_checkpoint(folder: str | Path, device: str = "cpu") -> LoadedModel:
    """Read a checkpoint folder.

    Parameters
    ----------
    folder
        What :func:`save_checkpoint` wrote.
    device
        "cpu" or "cuda".

    Raises
    ------
    CheckpointError
        A file is missing or damaged, tensors are missing, unexpected or of another shape (named), or the model reads
        values that this version does not make.
    VocabularyMismatchError
        The vocabulary or the graph is not the one the model was made with.
    DeviceError
        CUDA was asked for and is not there.
    """
    folder = Path(folder)
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder}: no {listing(missing, len(missing))}",
            f"a checkpoint folder with {', '.join(FILES)}",
            "give the folder that pretraining wrote, or copy it again",
        )
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceError(
            f"device {device}; torch {torch.__version__} sees no CUDA device", "a GPU with its driver", "use device cpu"
        )
    config, arch = read_config(folder / "config.json")
    try:
        vocabulary = Vocabulary.read(folder / "vocabulary.tsv")
        graph = GoGraph.read(folder / "go_graph.npz")
    except InputDataError as error:
        raise CheckpointError(error.found, "an undamaged file", "copy the checkpoint again") from error
    for what, found in (("vocabulary.tsv", vocabulary.hash), ("go_graph.npz", graph.metadata.get("vocabulary_hash"))):
        if found != config["vocabulary_hash"]:
            raise VocabularyMismatchError(
                f"{folder}/{what} belongs to vocabulary {found}",
                f"vocabulary {config['vocabulary_hash']}, which the model was made with",
                "do not change files of a checkpoint; copy it again",
            )
    model = DualEncoder(arch, len(vocabulary), graph)
    load_weights(model, folder / "model.safetensors")
    model.eval().to(device)
    return LoadedModel(model, arch, vocabulary, config, sha256_file(folder / "model.safetensors")[:16])


def read_config(path: Path) -> tuple[dict[str, Any], Architecture]:
    """Read ``config.json`` of a checkpoint and the architecture in it.

    Raises
    ------
    CheckpointError
        Damaged file, missing or wrong keys, another normalisation than that of this version.
    """
    try:
        config = read_json(path)
        found = {key: config[key] for key in ("vocabulary_hash", "normalization", "architecture")}
        arch = Architecture(**found["architecture"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: {type(error).__name__}: {error}", "the config.json that the checkpoint was written with",
            "copy the checkpoint again",
        ) from error  # fmt: skip
    if found["normalization"] != NORMALIZATION:
        raise CheckpointError(
            f"{path}: the model reads values normalised as {found['normalization']!r}", repr(NORMALIZATION),
            "use the version of sclong that wrote it",
        )  # fmt: skip
    return config, arch


def load_weights(model: torch.nn.Module, path: Path) -> None:
    """Load weights whose names and shapes are exactly the model's.

    Raises
    ------
    CheckpointError
        Damaged file; missing, unexpected or misshapen tensors, by name.
    """
    try:
        found = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: {error}", "an undamaged safetensors file", "copy the checkpoint again"
        ) from error
    wanted = model.state_dict()
    missing, unexpected = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    if missing or unexpected:
        raise CheckpointError(
            f"{path}: {len(missing)} tensors missing ({listing(sorted(missing))}), "
            f"{len(unexpected)} unexpected ({listing(sorted(unexpected))})",
            f"the {len(wanted)} tensors of this architecture", "use the config.json that belongs to these weights",
        )  # fmt: skip
    misshapen = [n for n in wanted if wanted[n].shape != found[n].shape]
    if misshapen:
        name = misshapen[0]
        raise CheckpointError(
            f"{path}: tensor {name!r} has shape {tuple(found[name].shape)}",
            f"shape {tuple(wanted[name].shape)}", "use the config.json that belongs to these weights",
        )  # fmt: skip
    model.load_state_dict(found, strict=True)
