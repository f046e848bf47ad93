"""The command line: ``sclong check | embed | fetch``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sclong import __version__
from sclong.errors import SclongError
from sclong.runlog import explain, start


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sclong", description="Pretrain, run and judge scLong.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="check | embed | fetch")

    check = verbs.add_parser("check", help="say whether a file can be used: gene ids, counts, coverage of a vocabulary")
    check.add_argument("input", type=Path, help="h5ad file")
    check.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder whose vocabulary counts")
    check.set_defaults(run=_check)

    embed = verbs.add_parser("embed", help="write cell embeddings into obsm['X_sclong'] of a new h5ad file")
    embed.add_argument("input", type=Path, help="h5ad file with raw counts")
    embed.add_argument("--checkpoint", type=Path, required=True, help="checkpoint folder")
    embed.add_argument("--output", type=Path, required=True, help="h5ad file to write")
    embed.add_argument("--pooling", choices=["nonzero_mean", "mean"], default="nonzero_mean")
    embed.add_argument("--batch-size", type=int, default=8, help="cells per forward pass")
    embed.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    embed.set_defaults(run=_embed)

    fetch = verbs.add_parser("fetch", help="fetch rows of config/sources.tsv, verified")
    fetch.add_argument("sources", nargs="+", metavar="ID/FILE", help="rows to fetch, as id/file")
    fetch.add_argument("--data-dir", type=Path, default=Path("data"))
    fetch.add_argument("--mirror", help="folder or http address that is asked first")
    fetch.add_argument("--offline", action="store_true", help="never open a socket")
    fetch.add_argument("--table", type=Path, default=Path("config/sources.tsv"), help="table of sources")
    fetch.set_defaults(run=_fetch)
    return parser


def _check(args: argparse.Namespace) -> None:
    import numpy as np

    from sclong.data.align import align_genes
    from sclong.data.normalize import check_counts
    from sclong.data.vocabulary import Vocabulary
    from sclong.io.h5ad import read_expression

    vocabulary = Vocabulary.read(args.checkpoint / "vocabulary.tsv")
    adata = read_expression(args.input)
    alignment = align_genes(list(adata.var_names), vocabulary, extra=adata.var)
    check_counts(adata.X, str(args.input))
    detected = np.asarray((adata.X > 0).sum(axis=1)).ravel()
    print(f"{args.input}: {adata.n_obs} cells, {adata.n_vars} genes; counts from {adata.uns['counts_from']}")
    for key, value in alignment.report.items():
        print(f"  {key}: {value}")
    print(f"  genes detected per cell: median {int(np.median(detected))}, fewest {int(detected.min())}")


def _embed(args: argparse.Namespace) -> None:
    from sclong.checkpoint.folder import load_checkpoint
    from sclong.embedding import embed
    from sclong.io.files import atomic_path
    from sclong.io.h5ad import read_expression

    loaded = load_checkpoint(args.checkpoint, device=args.device)
    adata = read_expression(args.input)
    adata.uns["value_kind"] = "counts"
    embed(adata, loaded, batch_size=args.batch_size, pooling=args.pooling)
    with atomic_path(args.output) as tmp:
        adata.write_h5ad(tmp)


def _fetch(args: argparse.Namespace) -> None:
    from sclong.io.fetch import fetch_many
    from sclong.io.sources import load_sources

    fetch_many(args.sources, load_sources(args.table), args.data_dir, mirror=args.mirror, offline=args.offline)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; an error that a user can mend ends it with three lines and exit status 1."""
    args = _parser().parse_args(argv)
    start()
    try:
        args.run(args)
    except SclongError as error:
        print(f"sclong {args.verb}: {explain(error)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
