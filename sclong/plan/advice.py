"""What a run that lacks files is told: what is missing, and what can run without it. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sclong.errors import FetchError

if TYPE_CHECKING:
    from sclong.plan.plan import Plan


def what_can_run(plan: Plan) -> str:
    """Say which benchmarks have all their own files here or in the mirror, and which preset needs none."""
    able = [b for b, spec in plan.data.items() if plan.files.near(spec)]
    return f"Benchmarks whose own data is here: {', '.join(able) or 'none'}; preset demo needs no file at all"


def offline_error(plan: Plan, paths: Sequence[str]) -> FetchError:
    """Build the one error that lists every file an offline run lacks, and what can run without them."""
    addresses = [plan.paths.address_of(p) for p in paths]
    return FetchError(
        f"offline, and {len(addresses)} files are missing:\n{plan.files.explain_missing(addresses)}",
        "every file in place, or a mirror folder that has it",
        "put the files where the list says, or name a folder that holds them (--config mirror=DIR), or drop "
        f"offline: true. {what_can_run(plan)}",
    )


def could_not_fetch(plan: Plan, error: FetchError) -> FetchError:
    """Add to the error of a download what can run without it."""
    return FetchError(error.found, error.expected, f"{error.action}. {what_can_run(plan)}")


def unaudited_error(plan: Plan) -> FetchError | None:
    """Build the error of a training at the paper's scale whose corpus cannot be audited; None: it can be, or is small.

    A model that has seen cells of a benchmark is not judged on it; a training of weeks must not find that out later.
    """
    lacking = plan.corpus.not_excluded
    if plan.config.preset != "paper" or not lacking:
        return None
    able = ", ".join(name for name in plan.config.corpus.exclude_benchmarks if name not in lacking)
    return FetchError(
        "the corpus would not be audited against "
        + ", ".join(lacking)
        + ", whose files are not here:\n"
        + "\n".join(f"{name}: {why}" for name, why in lacking.items()),
        "the files of every benchmark of corpus.exclude_benchmarks, as their cells must not be trained on",
        "put the files where the list says; or train without this check, and never judge the model on those "
        f"benchmarks: --config 'corpus={{exclude_benchmarks: [{able}]}}'",
    )


def blocked_error(plan: Plan, names: Sequence[str]) -> FetchError:
    """Build the one error that lists what blocked benchmarks lack, and what can run without them."""
    able = ", ".join(plan.data)
    return FetchError(
        "files of " + ", ".join(names) + " are not here:\n" + "\n".join(plan.blocked[n] for n in names),
        "every file in place",
        f"put the files where the list says, or run what can run: --config 'benchmarks=[{able}]'; preset demo needs "
        "no file at all",
    )
