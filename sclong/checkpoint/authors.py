"""Import of a model in the layout of the authors' release: weights (.pth), hyper-parameters (.pkl), gene list.

Weights are mapped, not read: the optimiser's moments, two thirds of such a file, are never touched.

Shapes: N positions (genes and PAD), E edges.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from scipy import sparse

from sclong import __version__
from sclong.checkpoint.folder import FILES, save_checkpoint
from sclong.checkpoint.gene_list import read_gene_ids, vocabulary_of
from sclong.checkpoint.pickles import read_pickle, read_torch
from sclong.config.sections import Architecture, TieRule
from sclong.errors import CheckpointError, listing, nearest
from sclong.genes.go_graph import GoGraph
from sclong.io.files import sha256_file
from sclong.nn.dual_encoder import MASK_THRESHOLD, DualEncoder
from sclong.nn.favor_features import Stabilizer
from sclong.runlog import LOGGER

# name in the release -> field of Architecture, lowest and highest value
SHAPE: dict[str, tuple[str, int, int]] = {
    "max_seq_len": ("", 2, 10_000_000),
    "top_seq_len": ("top_genes", 1, 10_000_000),
    "base_dim": ("base_dim", 1, 100_000),
    "mini_enc_depth": ("mini_depth", 1, 1000),
    "mini_enc_heads": ("mini_heads", 1, 1000),
    "mini_enc_dim_head": ("mini_dim_head", 2, 10_000),
    "large_dim": ("large_dim", 1, 100_000),
    "large_enc_depth": ("large_depth", 1, 1000),
    "large_enc_heads": ("large_heads", 1, 1000),
    "large_enc_dim_head": ("large_dim_head", 2, 10_000),
    "dec_depth": ("decoder_depth", 1, 1000),
    "dec_heads": ("decoder_heads", 1, 1000),
    "dec_dim_head": ("decoder_dim_head", 2, 10_000),
}
# value that this project's model has built in
BUILT_IN: dict[str, Any] = {"mask_token_thres": MASK_THRESHOLD, "g2v_position_emb": True, "go_num_layers": 1}
# where the authors' training ran and what its tables started from: read, not used
UNUSED: dict[str, type | tuple[type, ...]] = {
    "device": str,
    "gene2vec_file": (str, type(None)),
    "go_use_gene2vec": bool,
}
KEYS = (*SHAPE, *BUILT_IN, "G_go", "G_go_weight", *UNUSED)
PUBLISHED_1B = dict(
    zip(SHAPE, (27_875, 4096, 200, 2, 8, 64, 1280, 42, 32, 64, 2, 8, 64), strict=True)  # config/architectures/1b.yaml
)
STORED_AS_FLOAT64 = "pos_emb.emb.weight"
PREFIXES = ("module.", "_orig_mod.")


@dataclass(frozen=True)
class HyperParameters:
    """What the released ``.pkl`` says.

    Attributes
    ----------
    shape
        The keys of `SHAPE` and their values.
    edges_2E : (2, E) int64
        Source and target of each edge of the GO graph.
    weights_E : (E,) float32
    """

    shape: Mapping[str, int]
    edges_2E: torch.Tensor
    weights_E: torch.Tensor

    @property
    def n_genes(self) -> int:
        """Genes, without PAD."""
        return self.shape["max_seq_len"] - 1

    def architecture(self, stabilizer: Stabilizer, tie_rule: TieRule) -> Architecture:
        """Return the shape as this project writes it; the published one is named ``1b``."""
        fields: dict[str, Any] = {field: self.shape[key] for key, (field, _, _) in SHAPE.items() if field}
        name = "1b" if self.shape == PUBLISHED_1B else "imported"
        return Architecture(name=name, **fields, stabilizer=stabilizer, tie_rule=tie_rule)


def read_hyperparameters(path: str | Path) -> HyperParameters:
    """Read the released hyper-parameters: exactly 21 keys, each of its type and within its range.

    Raises
    ------
    CheckpointError
        Not such a file; missing, unexpected or wrong keys, by name.
    """
    raw = read_pickle(path)
    if not isinstance(raw, dict):
        raise _wrong(path, f"a {type(raw).__name__}", "a dict of hyper-parameters")
    missing = [key for key in KEYS if key not in raw]
    unexpected = [key for key in raw if key not in KEYS]
    if missing or unexpected:
        like = nearest(str(unexpected[0]), missing) if unexpected else []
        raise CheckpointError(
            f"{path}: {len(missing)} keys missing ({listing(missing, len(missing))}), "
            f"{len(unexpected)} unexpected ({listing(unexpected, len(unexpected))})",
            f"exactly the {len(KEYS)} keys of the release",
            f"{unexpected[0]!r} may be {like[0]!r}" if like else "give the .pkl that belongs to the weights",
        )
    for key, (_, low, high) in SHAPE.items():
        if type(raw[key]) is not int or not low <= raw[key] <= high:
            raise _wrong(path, f"{key} is {raw[key]!r:.80}", f"a whole number from {low} to {high}")
    if raw["top_seq_len"] > raw["max_seq_len"]:
        raise _wrong(path, f"top_seq_len is {raw['top_seq_len']}", f"at most max_seq_len, {raw['max_seq_len']}")
    for key, value in BUILT_IN.items():
        kinds = (bool,) if isinstance(value, bool) else (int, float)
        if type(raw[key]) not in kinds or raw[key] != value:
            raise _wrong(path, f"{key} is {raw[key]!r:.80}", f"{value}, the only value that this version computes")
    for key, kind in UNUSED.items():
        if not isinstance(raw[key], kind):
            raise _wrong(path, f"{key} is {raw[key]!r:.80}", "text" if key != "go_use_gene2vec" else "True or False")
    shape = {key: raw[key] for key in SHAPE}
    _check_graph(path, raw["G_go"], raw["G_go_weight"], shape["max_seq_len"] - 1)
    return HyperParameters(shape, raw["G_go"], raw["G_go_weight"])


def _wrong(path: str | Path, found: str, expected: str) -> CheckpointError:
    return CheckpointError(f"{path}: {found}", expected, "give the .pkl that belongs to the weights")


def _describe(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)} and type {str(value.dtype).removeprefix('torch.')}"
    return f"a {type(value).__name__}"


def _check_graph(path: str | Path, edges: object, weights: object, n_genes: int) -> None:
    if not (isinstance(edges, torch.Tensor) and edges.dtype == torch.int64 and edges.ndim == 2 and edges.shape[0] == 2):
        raise _wrong(path, f"G_go is {_describe(edges)}", "int64 of shape (2, E): sources, targets")
    n_edges = edges.shape[1]
    if not (isinstance(weights, torch.Tensor) and weights.dtype == torch.float32 and weights.shape == (n_edges,)):
        raise _wrong(path, f"G_go_weight is {_describe(weights)}", f"float32 of shape ({n_edges},): one per edge")
    outside = ((edges < 0) | (edges >= n_genes)).any(dim=0)
    if outside.any():
        source, target = edges[:, outside][:, 0].tolist()
        raise _wrong(
            path,
            f"{int(outside.sum())} edges of G_go leave the genes, as {source} -> {target}",
            f"positions from 0 to {n_genes - 1} (max_seq_len without PAD)",
        )
    if not bool((weights.isfinite() & (weights >= 0)).all()):
        raise _wrong(path, "G_go_weight holds negative or undefined numbers", "Jaccard indices")


def go_graph(hyper: HyperParameters, metadata: Mapping[str, Any]) -> GoGraph:
    """Return the graph that the weights were trained with, by target.

    Edges that appear twice are summed: that is what the graph convolution does with them, and so the GO vectors stay as
    they were.
    """
    sources_E, targets_E = hyper.edges_2E.numpy()
    size = hyper.n_genes + 1
    graph = sparse.coo_matrix((hyper.weights_E.numpy(), (targets_E, sources_E)), shape=(size, size)).tocsr()
    graph.sort_indices()
    summed = len(sources_E) - graph.nnz
    if summed:
        LOGGER.warning("GO graph: %d edges stand more than once; their weights are summed", summed)
    return GoGraph(
        graph.indptr.astype("int64"),
        graph.indices.astype("int64"),
        graph.data,
        {**metadata, "n_genes": hyper.n_genes, "edges": int(graph.nnz), "repeated_edges_summed": summed},
    )


def read_weights(path: str | Path, wanted: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict]:
    """Read the weights of a released ``.pth`` and check them against the model.

    Parameters
    ----------
    path
        File of ``torch.save`` with ``model_state_dict``; the optimiser's state is not looked at.
    wanted
        Names, shapes and types: the state dict of the model (on the meta device).

    Returns
    -------
    tensors, by name
        Still in the file (mapped), but for the gene table, which the release stores as float64.
    facts
        ``epoch`` and ``losses``, where they are plain numbers or text.

    Raises
    ------
    CheckpointError
        Damaged file; missing, unexpected, misshapen tensors or ones of another type, each by name.
    """
    file = read_torch(path)
    if not isinstance(file, dict) or not isinstance(file.get("model_state_dict"), dict):
        what = f"a dict with the keys {listing(file, 8)}" if isinstance(file, dict) else f"a {type(file).__name__}"
        raise CheckpointError(
            f"{path}: {what}",
            "a dict with model_state_dict, as the release has it",
            "give the released .pth, or save {'model_state_dict': ...}",
        )
    found = _without_prefixes(path, file["model_state_dict"])
    missing, unexpected = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    if missing or unexpected:
        raise CheckpointError(
            f"{path}: {len(missing)} weights missing ({listing(missing, len(missing))}), "
            f"{len(unexpected)} unexpected ({listing(unexpected, len(unexpected))})",
            f"the {len(wanted)} weights of the model that the hyper-parameters describe",
            "give weights and hyper-parameters of one model",
        )
    wrong = [
        f"{name} is {_describe(found[name])}, not {_describe(tensor)}"
        for name, tensor in wanted.items()
        if not _fits(name, found[name], tensor)
    ]
    if wrong:
        raise CheckpointError(
            f"{path}: {'; '.join(wrong)}",
            "the shapes and types that the hyper-parameters describe",
            "give weights and hyper-parameters of one model",
        )
    undefined = [name for name in wanted if found[name].is_floating_point() and not found[name].isfinite().all()]
    if undefined:
        raise CheckpointError(
            f"{path}: undefined or infinite numbers in {listing(undefined, len(undefined))}",
            "finite weights",
            "copy the file again, or take an earlier one: this training diverged",
        )
    facts = {key: _plain(file[key]) for key in ("epoch", "losses") if key in file}
    state = {name: found[name].to(tensor.dtype) for name, tensor in wanted.items()}
    return state, {key: value for key, value in facts.items() if value is not None}


def _without_prefixes(path: str | Path, state: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    """Take off the prefixes that wrappers for several devices and compilation put before every name."""
    out: dict[str, torch.Tensor] = {}
    for given, tensor in state.items():
        plain = isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not isinstance(given, str) or not plain:
            raise CheckpointError(
                f"{path}: {given!r:.200} is {_describe(tensor)}",
                "a dense tensor for each name of model_state_dict",
                "give the released .pth",
            )
        name = given
        while name.startswith(PREFIXES):
            name = name.removeprefix(PREFIXES[0]).removeprefix(PREFIXES[1])
        if name in out:
            raise CheckpointError(
                f"{path}: {name!r} stands there twice, with and without a prefix",
                "each weight once",
                "save the state dict of one module",
            )
        out[name] = tensor
    return out


def _fits(name: str, found: torch.Tensor, wanted: torch.Tensor) -> bool:
    cast = name == STORED_AS_FLOAT64 and found.dtype == torch.float64
    return found.shape == wanted.shape and (cast or found.dtype == wanted.dtype)


def _plain(value: object) -> str | int | float | None:
    """Return plain numbers and text for the model card, one line of at most 200 characters; None for all else."""
    if isinstance(value, str):
        return " ".join(value.split())[:200]
    if type(value) in (int, float):
        return value if math.isfinite(value) else str(value)  # type: ignore[arg-type, return-value]
    return None


def import_checkpoint(
    weights: str | Path,
    hyperparameters: str | Path,
    genes: str | Path,
    output: str | Path,
    *,
    symbols: str | Path | None = None,
    stabilizer: Stabilizer = "per_cell",
    tie_rule: TieRule = "gene_order",
) -> None:
    """Write a checkpoint folder from the files of the authors' release, whole or not at all.

    Parameters
    ----------
    weights, hyperparameters, genes
        ``.pth``, ``.pkl`` and the list of gene ids.
    output
        Checkpoint folder to write; an existing checkpoint is replaced once the new one is complete.
    symbols
        See :func:`sclong.checkpoint.gene_list.vocabulary_of`.
    stabilizer
        "per_cell" equals the released model on one cell and does not depend on the batch; "global" equals it on a
        batch; "per_head" is another function than the one these weights were trained with.
    tie_rule
        Which of equal values are among the highest ("torch_topk": as the authors' code).

    Raises
    ------
    CheckpointError, InputDataError
        A file is missing, damaged, hostile or does not fit the others. What was at `output` stays as it is.
    """
    files = {"weights": Path(weights), "hyper-parameters": Path(hyperparameters), "genes": Path(genes)}
    if symbols is not None:
        files["symbols"] = Path(symbols)
    _check_paths(files, Path(output))
    hyper = read_hyperparameters(hyperparameters)
    arch = hyper.architecture(stabilizer, tie_rule)
    if stabilizer == "per_head":
        LOGGER.warning("stabilizer per_head: not the arithmetic that these weights were trained with; prefer per_cell")
    vocabulary = vocabulary_of(read_gene_ids(genes, hyper.n_genes), genes, symbols)
    origin = {"source": files["hyper-parameters"].name, "source_sha256": sha256_file(hyperparameters)}
    graph = go_graph(hyper, {**origin, "vocabulary_hash": vocabulary.hash})
    with torch.device("meta"):
        model = DualEncoder(arch, len(vocabulary), graph)
    LOGGER.info("reading %s", weights)
    state, facts = read_weights(weights, model.state_dict())
    model.load_state_dict(state, strict=True, assign=True)
    card = {
        "made": f"imported with sclong {__version__}",
        "licence": "not stated by the authors",
        "normalisation": "not recorded; the authors' embedding script asks for log1p of counts per 10,000",
        **facts,
        **{f"{what} from": f"{path.name}, SHA-256 {sha256_file(path)}" for what, path in files.items()},
    }
    with tempfile.TemporaryDirectory() as folder:
        graph.write(Path(folder) / "go_graph.npz")
        save_checkpoint(output, model, arch, vocabulary, Path(folder) / "go_graph.npz", training_log=None, card=card)
    n_parameters = sum(p.numel() for p in model.parameters())
    LOGGER.info(
        "%s: %d tensors, %d parameters, architecture %s, vocabulary %s, %d GO edges",
        output,
        len(state),
        n_parameters,
        arch.name,
        vocabulary.hash,
        graph.n_edges,
    )


def _check_paths(files: Mapping[str, Path], output: Path) -> None:
    missing = [f"{what}: {path}" for what, path in files.items() if not path.is_file()]
    if missing:
        raise CheckpointError(
            f"no such file: {', '.join(missing)}",
            "the three files of the release, and the table of symbols if given",
            "correct the path, or download the file",
        )
    other = []
    if output.is_dir():
        other = sorted({path.name for path in output.iterdir()} - set(FILES))
    if other or (output.exists() and not output.is_dir()):
        raise CheckpointError(
            f"{output}: {f'a folder with {listing(other)}' if other else 'a file'}",
            "a new folder, or a checkpoint to replace",
            "give another --output",
        )
