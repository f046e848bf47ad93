"""The command line: ``sclong`` and one of its verbs (``sclong --help``)."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sclong import __version__
from sclong.errors import SclongError
from sclong.runlog import explain, start

if TYPE_CHECKING:
    from sclong.plan.costs import Costs
    from sclong.plan.jobs import Job
    from sclong.plan.plan import Plan


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sclong", description="Pretrain, run and judge scLong.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(
        dest="verb",
        required=True,
        metavar="check | debug | doctor | embed | fetch | import-checkpoint | lincs | pages | plan | verify",
    )

    check = verbs.add_parser("check", help="say whether a file can be used: gene ids, counts, coverage of a vocabulary")
    check.add_argument("input", type=Path, help="file of cells (see docs/input.md)")
    check.add_argument(
        "--checkpoint", type=Path, default=Path("base"), help="checkpoint whose vocabulary counts (default: base)"
    )
    _add_reading(check)
    check.add_argument("--json", action="store_true", help="the same for programs")
    check.set_defaults(run=_check)

    debug = verbs.add_parser("debug", help="open a Python prompt inside the script of the rule that makes a file")
    debug.add_argument("target", help="file that the workflow makes, as results/norman_metrics.tsv")
    debug.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="as of Snakemake's --config: preset=small")
    debug.set_defaults(run=_debug)

    embed = verbs.add_parser("embed", help="copy an h5ad file of any size with cell and gene embeddings added")
    embed.add_argument("input", type=Path, help="file of cells with raw counts (see docs/input.md)")
    embed.add_argument(
        "--checkpoint",
        type=Path,
        default=Path("base"),
        help="checkpoint folder, or the name of one that comes with sclong (default: base)",
    )
    embed.add_argument("--output", type=Path, required=True, help="h5ad file to write")
    embed.add_argument(
        "--pooling",
        choices=["nonzero_mean", "mean", "reconstruction_profile"],
        default="nonzero_mean",
        help="a cell's vector: mean of gene vectors over its detected genes, over all genes, or a number per gene",
    )
    embed.add_argument("--contextual", type=Path, metavar="OUT.zarr", help="write a vector per cell and gene too")
    embed.add_argument("--genes", type=Path, help="genes of --contextual, a name per line (default: the vocabulary)")
    embed.add_argument(
        "--stabilizer",
        choices=["per_head", "per_cell", "global"],
        help="instead of the checkpoint's own; with global, results depend on batch size and order of cells",
    )
    embed.add_argument("--batch-size", type=int, default=8, help="cells per forward pass on a GPU (default 8)")
    embed.add_argument("--dtype", choices=["float32", "bfloat16"], help="precision of matrix products")
    embed.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    embed.add_argument("--key-added", default="X_sclong", help="name in obsm, varm and uns (default X_sclong)")
    _add_reading(embed)
    embed.set_defaults(run=_embed)

    fetch = verbs.add_parser("fetch", help="fetch rows of config/sources.tsv, verified")
    fetch.add_argument("sources", nargs="+", metavar="ID/FILE", help="rows to fetch, as id/file")
    fetch.add_argument("--data-dir", type=Path, default=Path("data"))
    fetch.add_argument("--mirror", help="folder or http address that is asked first")
    fetch.add_argument("--offline", action="store_true", help="never open a socket")
    fetch.add_argument("--table", type=Path, default=Path("config/sources.tsv"), help="table of sources")
    fetch.set_defaults(run=_fetch)

    released = verbs.add_parser(
        "import-checkpoint", help="make a checkpoint folder from the files of the authors' release"
    )
    released.add_argument("--weights", type=Path, required=True, help="the .pth file")
    released.add_argument("--hyperparameters", type=Path, required=True, help="the .pkl file")
    released.add_argument(
        "--genes", type=Path, required=True, help="list of gene ids, one per line, in the model's order"
    )
    released.add_argument(
        "--symbols", type=Path, help="gene annotation, HGNC table, or two columns: symbol, Ensembl id"
    )
    released.add_argument("--output", type=Path, required=True, help="checkpoint folder to write")
    released.add_argument(
        "--stabilizer",
        choices=["per_cell", "global", "per_head"],
        default="per_cell",
        help="per_cell equals the released model on single cells, global on batches, per_head neither",
    )
    released.add_argument(
        "--tie-rule",
        choices=["gene_order", "torch_topk"],
        default="gene_order",
        help="torch_topk: as the authors' code",
    )
    released.set_defaults(run=_import_checkpoint)

    lincs = verbs.add_parser("lincs", help="make signatures.csv and drugs.tsv of public LINCS L1000 files")
    lincs.add_argument("matrices", nargs="+", type=Path, metavar="LEVEL5.gctx", help="matrices of signatures, unpacked")
    lincs.add_argument("--signatures", type=Path, required=True, help="table of signatures (sig_info, siginfo_beta)")
    lincs.add_argument("--genes", type=Path, required=True, help="table of genes (gene_info, geneinfo_beta)")
    lincs.add_argument("--compounds", type=Path, required=True, help="table of compounds (pert_info, ...)")
    lincs.add_argument("--output", type=Path, required=True, help="folder to write")
    lincs.set_defaults(run=_lincs)

    pages = verbs.add_parser(
        "pages", help="write a page for each table of a results folder, with the origin of its rows"
    )
    pages.add_argument("results", type=Path, help="results folder of a run")
    pages.add_argument(
        "--output", type=Path, default=Path("docs/results"), help="folder of pages (default docs/results)"
    )
    pages.set_defaults(run=_pages)

    plan = verbs.add_parser("plan", help="say what a run would submit, and what it costs; nothing is run")
    _add_settings(plan)
    plan.add_argument("--json", action="store_true", help="for machines; unknown figures are null")
    plan.set_defaults(run=_plan)

    doctor = verbs.add_parser("doctor", help="compare this machine, or this cluster, with what a run asks for")
    _add_settings(doctor)
    doctor.set_defaults(run=_doctor)

    verify = verbs.add_parser("verify", help="compare the files of a corpus with the hashes they were written with")
    verify.add_argument("corpus", type=Path, help="folder of shards, as results/corpus/shards")
    verify.set_defaults(run=_verify)
    return parser


def _add_reading(parser: argparse.ArgumentParser) -> None:
    """Take what decides which values, genes and cells are read."""
    parser.add_argument("--layer", help="where the counts are: X, raw or a layer (default: found)")
    parser.add_argument("--gene-column", help="column of var with the gene names (default: found)")
    parser.add_argument("--member", help="modality of a h5mu file, or matrix of a folder that has several")
    parser.add_argument("--round", action="store_true", help="round values that are no integers (corrected counts)")
    parser.add_argument(
        "--empty", choices=["refuse", "nan"], default="refuse", help="cells with no known gene: their vectors are NaN"
    )


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Take the configuration as Snakemake does, and which profile and files it is for."""
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="as of Snakemake's --config: preset=paper")
    parser.add_argument("--config", nargs="+", default=[], metavar="KEY=VALUE", help="the same")
    parser.add_argument("--profile", help="Snakemake profile (default: slurm for preset paper; none: no profile)")
    parser.add_argument("--target", nargs="+", default=["all"], help="files or rules (default: all)")


def _check(args: argparse.Namespace) -> int:
    import json

    from sclong.embed.check import OPTIONS, check_file, end_text, refusal

    options = {name: getattr(args, name) for name in OPTIONS}
    if not args.json:
        print(end_text(check_file(args.input, args.checkpoint, **options, say=print)))
        return 0
    try:
        facts = check_file(args.input, args.checkpoint, **options)
    except SclongError as error:
        facts = refusal(error)
    print(json.dumps(facts, indent=2, default=str))
    return 0 if facts["usable"] else 1


def _debug(args: argparse.Namespace) -> None:
    from sclong.debug import debug

    debug(args.target, args.settings)


def _embed(args: argparse.Namespace) -> None:
    from sclong.checkpoint.folder import load_checkpoint
    from sclong.embed.check import OPTIONS
    from sclong.embed.embedding import embed_file

    loaded = load_checkpoint(args.checkpoint, device=args.device, stabilizer=args.stabilizer, dtype=args.dtype)
    names = ("key_added", "batch_size", "pooling", "contextual", "genes", *OPTIONS)
    embed_file(args.input, loaded, args.output, **{name: getattr(args, name) for name in names})


def _fetch(args: argparse.Namespace) -> None:
    from sclong.io.fetch import fetch_many
    from sclong.io.lock import lock_path
    from sclong.io.sources import load_sources

    fetch_many(
        args.sources,
        load_sources(args.table),
        args.data_dir,
        mirror=args.mirror,
        offline=args.offline,
        lock=lock_path(args.table),
    )


def _import_checkpoint(args: argparse.Namespace) -> None:
    from sclong.checkpoint.authors import import_checkpoint

    import_checkpoint(
        args.weights,
        args.hyperparameters,
        args.genes,
        args.output,
        symbols=args.symbols,
        stabilizer=args.stabilizer,
        tie_rule=args.tie_rule,
    )
    print(f"{args.output}: written; next: sclong embed INPUT.h5ad --checkpoint {args.output} --output OUTPUT.h5ad")


def _lincs(args: argparse.Namespace) -> None:
    from sclong.tasks.chemical_perturbation.lincs import write_signature_files

    counts = write_signature_files(args.matrices, args.signatures, args.genes, args.compounds, args.output)
    print(f"{args.output}: " + ", ".join(f"{name.replace('_', ' ')}: {n:,}" for name, n in counts.items()))


def _pages(args: argparse.Namespace) -> None:
    from sclong.report.pages import render_pages

    for page in render_pages(args.results, args.output):
        print(f"{page}: written")


def _worked_out(args: argparse.Namespace) -> tuple[Plan, list[Job], Costs, str | None]:
    """Return the plan, its jobs and costs, and the profile; says on standard error what was added to the settings."""
    from sclong.config.load import load_config
    from sclong.plan.costs import attempts_of, work_out
    from sclong.plan.jobs import dry_run, settings_for_results, user_config
    from sclong.plan.plan import make_plan

    load_config(user_config([*args.settings, *args.config]))  # mistakes are explained before Snakemake is asked
    settings, said = settings_for_results([*args.settings, *args.config])
    if said:
        print(f"sclong {args.verb}: {said}", file=sys.stderr)
    paper = user_config(settings).get("preset") == "paper"
    profile = {None: "slurm" if paper else None, "none": None}.get(args.profile, args.profile)
    run = dry_run(settings, profile, args.target)
    plan = make_plan(run.config)
    return plan, run.jobs, work_out(plan, run.jobs, attempts_of(profile)), profile


def _plan(args: argparse.Namespace) -> None:
    from sclong.plan.costs_text import as_json, as_table

    costs = _worked_out(args)[2]
    print(as_json(costs) if args.json else as_table(costs))


def _doctor(args: argparse.Namespace) -> int:
    from sclong.doctor import as_text, diagnose

    findings = diagnose(*_worked_out(args))
    print(as_text(findings))
    return int(any(finding.level == "error" for finding in findings))


def _verify(args: argparse.Namespace) -> None:
    from sclong.corpus.shards import ShardStore

    store = ShardStore(args.corpus)
    store.verify()
    print(f"{args.corpus}: {len(store):,} cells in {len(store.facts['shards'])} shards, every file as it was written")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; an error that a user can mend ends it with three lines and exit status 1.

    ``doctor`` ends with status 1 when it found an error.
    """
    args = _parser().parse_args(argv)
    start()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # unfinished files are cleared away
    try:
        return args.run(args) or 0
    except SclongError as error:
        print(f"sclong {args.verb}: {explain(error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
