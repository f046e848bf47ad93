"""What a run that lacks files is told: what is missing, and what can run without it. Torch-free."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sclong.errors import FetchError
from sclong.plan.released import lacks_release

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
    run = f"run what can run: --config 'benchmarks=[{able}]'" if able else "choose other benchmarks"
    return FetchError(
        "files of " + ", ".join(names) + " are not here:\n" + "\n".join(plan.blocked[n] for n in names),
        "every file in place",
        f"put the files where the list says, or {run}; preset demo needs no file at all",
    )


def say_what_is_left_out(plan: Plan) -> list[tuple[str, str, str]]:
    """Return what a run leaves out: kind, name and reason, one line of text each."""
    rows = [("benchmarks", name, why) for name, why in plan.skipped.items()]
    why_source = "it has no public address and no mirror has it"
    rows += [("corpus sources", name, why_source) for name in plan.corpus.left_out]
    rows += [("benchmarks whose cells stay in the corpus", name, why) for name, why in plan.corpus.not_excluded.items()]
    if plan.config.preset == "paper" and not plan.released:
        rows.append(("models", "sclong_released", lacks_release(None)))
    return [(what, name, " ".join(why.split())) for what, name, why in rows]


def in_the_future(paths: Iterable[str], allowed_s: float = 3600.0) -> str:
    """Say which files were changed later than now: jobs that read them run again at every call. Empty: none."""
    now, late = time.time(), []
    for path in sorted(set(paths)):
        try:
            ahead = Path(path).stat().st_mtime - now
        except OSError:
            continue
        if ahead > allowed_s:
            late.append(f"{path} ({ahead / 86400:.1f} days ahead)")
    if not late:
        return ""
    shown = ", ".join(late[:3]) + (f" and {len(late) - 3} more" if len(late) > 3 else "")
    return f"{shown}: changed in the future, so jobs run again at every call; touch them, or set the machine's clock"
