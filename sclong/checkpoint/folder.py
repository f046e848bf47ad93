"""A checkpoint is a folder that is enough to embed: weights, configuration, vocabulary, graph, log, model card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sclong import __version__
from sclong.cells.normalize import Normalization
from sclong.checkpoint.shipped import find_checkpoint
from sclong.checkpoint.start import start_gene_tables
from sclong.config.cards import describe_validation
from sclong.config.sections import Architecture
from sclong.errors import CheckpointError, ConfigError, DeviceError, InputDataError, VocabularyMismatchError, listing
from sclong.genes.go_graph import GoGraph
from sclong.genes.vocabulary import Vocabulary
from sclong.io.files import atomic_dir, read_json, sha256_file, write_json, write_text
from sclong.nn.dual_encoder import DualEncoder, Output
from sclong.provenance import environment
from sclong.seeding import derive_seed

FILES = ("model.safetensors", "config.json", "vocabulary.tsv", "go_graph.npz", "training.jsonl", "README.md")
NORMALIZATION = "log1p_cp10k"


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint in memory. Call it with values to get what the model makes of them (:meth:`__call__`).

    Attributes
    ----------
    model
        In eval mode, on the device it was loaded to.
    arch, vocabulary
        Its shape (with the stabilizer and the precision it was loaded with) and its genes.
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

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.model.parameters()).device

    @property
    def normalization(self) -> str:
        """What counts become before the model reads them: :func:`sclong.cells.normalize.normalize_cell`."""
        return str(self.config["normalization"])

    @torch.no_grad()
    def __call__(self, values_BN: torch.Tensor | np.ndarray) -> Output:
        """Run the model on cells, without gradients; for gradients call ``model``.

        Parameters
        ----------
        values_BN : (B, genes + 1)
            Values as the model reads them: counts after :func:`sclong.cells.normalize.normalize_counts`, genes in the
            order of the vocabulary, and one column more, PAD, which is 0. Values of -1 and below are masked.

        Returns
        -------
        Output
            ``reconstruction_BN`` (B, genes + 1), ``gene_embeddings_BND`` and ``merged_encodings_BND``
            (B, genes + 1, D), on the model's device.

        Raises
        ------
        InputDataError
            Another shape, or a PAD that is not 0.
        """
        values_BN = torch.as_tensor(values_BN, dtype=torch.float32, device=self.device)
        width = len(self.vocabulary) + 1
        if values_BN.ndim != 2 or values_BN.shape[1] != width:
            raise InputDataError(
                f"values of shape {tuple(values_BN.shape)}",
                f"(cells, {width}): the {width - 1} genes of the vocabulary in its order, then PAD, which is 0",
                "embed an AnnData with sclong.embed, which aligns genes, or make values with "
                "sclong.genes.align.harmonize, to_model_values and sclong.nn.values.dense_with_pad",
            )
        if values_BN[:, -1].any():
            raise InputDataError(
                "values whose last column is not 0", "PAD, which is 0, in the last column", "append a column of zeros"
            )
        return self.model(values_BN)


def save_checkpoint(
    folder: str | Path,
    model: DualEncoder,
    arch: Architecture,
    vocabulary: Vocabulary,
    go_graph_path: str | Path,
    *,
    training_log: Path | None,
    card: Mapping[str, Any],
    normalization: str = NORMALIZATION,
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
    normalization
        What counts became in training, and become whenever the checkpoint reads them.
    """
    with atomic_dir(folder) as out:
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(state, out / "model.safetensors")
        vocabulary.write(out / "vocabulary.tsv")
        shutil.copymode(out / "vocabulary.tsv", out / "model.safetensors")  # safetensors writes for its owner alone
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
            "normalization": normalization,
            "card": dict(card),
            "environment": environment(),
        }
        write_json(out / "config.json", config)
        write_text(out / "README.md", model_card(config, model))


def model_card(config: Mapping[str, Any], model: DualEncoder) -> str:
    """Return the model card of a checkpoint, as Markdown."""
    arch = config["architecture"]
    n_parameters = sum(p.numel() for p in model.parameters())
    card = dict(config["card"])
    made = card.pop("made", f"made with sclong {config['sclong']}")
    licence = card.pop("licence", "that of the data they were trained on")
    facts = "\n".join(f"- {key}: {value}" for key, value in card.items())
    warning = "" if card.get("beats_low_rank") is not False else f"{worse_than_low_rank(card)}\n\n"
    return (
        f"# scLong checkpoint ({arch['name']})\n\n{warning}"
        f"Dual-encoder Performer over {config['n_genes']:,} genes, {n_parameters:,} parameters "
        f"(architecture: Bai et al., Nature Communications 2026; weights: {made}).\n\n"
        f"- input: raw counts, normalised as {config['normalization']} when they are read\n"
        f"- vocabulary: {config['vocabulary_hash']}\n"
        f"- random features: stabilizer {arch['stabilizer']}, fixed in this folder\n"
        f"- licence of the weights: {licence}\n{facts}\n\n"
        "Use: `sclong embed INPUT.h5ad --checkpoint THIS_FOLDER --output OUTPUT.h5ad`\n"
    )


def worse_than_low_rank(card: Mapping[str, Any]) -> str:
    """Return the warning on the card of a model that a linear fit of the same cells beats."""
    model, control = card["held_out_loss_replaced"], card["baseline_low_rank"]
    return (
        f"> **This model does not beat a linear low-rank fit of its training cells.** On hidden values of held-out "
        f"donors its mean squared error is {model:.3f}, that of the fit ({card['baseline_low_rank_components']} "
        f"components) {control:.3f}. Do not use it as evidence for what pretraining can do: train it longer."
    )


def initialise(
    folder: str | Path,
    arch: Architecture,
    vocabulary: Vocabulary,
    go_graph_path: str | Path,
    seed: int,
    gene2vec: str | Path | None = None,
) -> None:
    """Write a checkpoint of the weights that a pretraining with this seed (and these gene vectors) starts from."""
    torch.manual_seed(derive_seed("weights", seed))
    model = DualEncoder(arch, len(vocabulary), GoGraph.read(go_graph_path))
    card = {"trained": "no", "seed": seed, "gene2vec": start_gene_tables(model, gene2vec, vocabulary, seed)}
    save_checkpoint(folder, model, arch, vocabulary, go_graph_path, training_log=None, card=card)


def load_checkpoint(
    folder: str | Path, device: str = "cpu", *, stabilizer: str | None = None, dtype: str | None = None
) -> LoadedModel:
    """Read a checkpoint folder.

    The weights are mapped from the file, not copied: memory is taken once, when they are first used. (A file that
    another program shortens while it is in use ends the process; this package only ever replaces files.)

    Parameters
    ----------
    folder
        What :func:`save_checkpoint` wrote, or the name of a checkpoint that comes with the package.
    device
        "cpu" or "cuda".
    stabilizer
        "per_head", "per_cell" or "global" instead of the checkpoint's own; see
        :func:`sclong.nn.favor_features.key_features`. They are different functions.
    dtype
        "float32" or "bfloat16", the precision of matrix products, instead of the checkpoint's own; parameters and
        sums stay float32.

    Raises
    ------
    ConfigError
        Unknown stabilizer or dtype.
    CheckpointError
        A file is missing or damaged, tensors are missing, unexpected or of another shape (named), or the model reads
        values that this version does not make.
    VocabularyMismatchError
        The vocabulary or the graph is not the one the model was made with.
    DeviceError
        CUDA was asked for and is not there.
    """
    folder = find_checkpoint(folder)
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
    options = {"stabilizer": stabilizer, "precision": dtype}
    arch = with_options(arch, {key: value for key, value in options.items() if value is not None})
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
    with torch.device("meta"):  # no memory, no random numbers; what is made from the graph is real
        model = DualEncoder(arch, len(vocabulary), graph)
    load_weights(model, folder / "model.safetensors", device)
    model.eval().to(device)
    return LoadedModel(model, arch, vocabulary, config, sha256_file(folder / "model.safetensors")[:16])


def with_options(arch: Architecture, options: Mapping[str, str]) -> Architecture:
    """Return an architecture with other options.

    Raises
    ------
    ConfigError
        An option has an unknown value.
    """
    try:
        return Architecture(**{**arch.model_dump(), **options})
    except ValidationError as error:
        found, action = describe_validation(error, Architecture)
        raise ConfigError(found, "options of docs/configuration.md", action) from None


def read_config(path: Path) -> tuple[dict[str, Any], Architecture]:
    """Read ``config.json`` of a checkpoint and the architecture in it.

    Raises
    ------
    CheckpointError
        Damaged file, missing or wrong keys, a normalisation that this version does not know.
    """
    try:
        config = {"normalization": NORMALIZATION, **read_json(path)}  # older folders do not say it
        found = {key: config[key] for key in ("vocabulary_hash", "normalization", "architecture")}
        arch = Architecture(**found["architecture"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: {type(error).__name__}: {error}",
            "the config.json that the checkpoint was written with",
            "copy the checkpoint again",
        ) from error
    if found["normalization"] not in get_args(Normalization):
        raise CheckpointError(
            f"{path}: the model reads values normalised as {found['normalization']!r}",
            f"one of {', '.join(get_args(Normalization))}",
            "use the version of sclong that wrote it",
        )
    return config, arch


def load_weights(model: torch.nn.Module, path: Path, device: str = "cpu") -> None:
    """Give a model, which may be on the meta device, the weights of a file, mapped from it on the CPU.

    Names and shapes must be exactly the model's.

    Raises
    ------
    CheckpointError
        Damaged file; missing, unexpected or misshapen tensors, by name.
    """
    try:
        found = load_file(path, device=device)
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
            f"the {len(wanted)} tensors of this architecture",
            "use the config.json that belongs to these weights",
        )
    misshapen = [n for n in wanted if wanted[n].shape != found[n].shape]
    if misshapen:
        name = misshapen[0]
        raise CheckpointError(
            f"{path}: tensor {name!r} has shape {tuple(found[name].shape)}",
            f"shape {tuple(wanted[name].shape)}",
            "use the config.json that belongs to these weights",
        )
    found = {name: tensor.to(wanted[name].dtype) for name, tensor in found.items()}
    model.load_state_dict(found, strict=True, assign=True)
