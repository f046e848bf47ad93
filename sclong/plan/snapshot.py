"""What a run was started with: jobs read copies of configuration and cards; editing these changes nothing."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sclong.io.files import atomic_dir, read_json, write_json
from sclong.plan.plan import Plan, make_plan

FOLDER = "run"
"""Below the results folder."""


def take_snapshot(plan: Plan, user: Mapping[str, Any]) -> None:
    """Copy the keys of the configuration and the folder of cards to ``RESULTS/run``, whole or not at all.

    Parameters
    ----------
    plan
        The plan that was made of them.
    user
        Keys of config.yaml and ``--config``, as :func:`~sclong.plan.plan.make_plan` took them.
    """
    with atomic_dir(Path(plan.config.results_dir) / FOLDER) as tmp:
        shutil.copytree(plan.config.cards_dir, tmp / "config")
        write_json(tmp / "settings.json", dict(user))


def settings_of_run(user: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration that a run was started with, to be read again from the copies of its cards.

    Parameters
    ----------
    user
        As the calling process has it; decides which results folder is meant. Without a snapshot there it is the answer.
    """
    folder = Path(str(user.get("results_dir") or "results")) / FOLDER
    if not (folder / "settings.json").is_file():
        return dict(user)
    return {**read_json(folder / "settings.json"), "cards_dir": str(folder / "config")}


def plan_of_run(user: Mapping[str, Any]) -> Plan:
    """Make the plan of the run that a job belongs to.

    Raises
    ------
    ConfigError, CardError
        As :func:`~sclong.plan.plan.make_plan`, of the copies.
    """
    return make_plan(settings_of_run(user))
