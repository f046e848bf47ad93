"""Check of the Census: its package, its bucket, one small read; in a process of its own, which may hang."""

from __future__ import annotations

import sys

from sclong.doctor.findings import Case, Finding

PROBE = """
import sys
from sclong.config.sections import CensusConfig
from sclong.corpus.census_access import probe
from sclong.errors import SclongError
try:
    print(probe(CensusConfig.model_validate_json(sys.argv[1])))
except SclongError as error:
    print("\\n".join([error.found, error.expected, error.action]), file=sys.stderr)
    raise SystemExit(3)
"""
"""Run with the section census of the configuration, as JSON: prints what was read, or an error in three lines."""


def check_census(case: Case) -> list[Finding]:
    """Read a little of the Census, where jobs read it: with its package, from its bucket or the copy."""
    census = case.plan.config.corpus.census
    if census is None or not any(job.rule.startswith("census") for job in case.jobs):
        return []
    if case.plan.config.offline and not census.uri:
        return []  # the run refuses by itself
    answer = case.tools.run([sys.executable, "-c", PROBE, census.model_dump_json()])
    if answer.good:
        return [Finding("Census", "ok", answer.out.strip())]
    said = answer.err.strip().splitlines()
    if answer.code == 3 and len(said) >= 3:
        return [Finding("Census", "error", *said[-3:])]
    return [
        Finding(
            "Census",
            "error",
            f"it could not be read: {said[-1] if said else 'no answer'}",
            "one small read of its list of data sets within 30 s",
            "run where there is a network (rule census_list runs on the login node), or name a copy: corpus.census.uri",
        )
    ]


__all__ = ["check_census"]
