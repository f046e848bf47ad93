"""Which tasks there are: the folders of this package and those that other installed packages bring. Torch-free.

A task of this package is a folder of ``sclong/tasks``. Another package declares its own by an entry point of the group
``sclong.tasks``, whose value is its :class:`~sclong.benchmark.task.Task` object, for example
``annotation = "my_package.annotation.task:TASK"``.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from sclong.benchmark.task import Task
from sclong.errors import CardError, nearest

GROUP = "sclong.tasks"


def _own_names() -> list[str]:
    folder = Path(__file__).parents[1] / "tasks"
    return sorted(m.name for m in pkgutil.iter_modules([str(folder)]) if m.ispkg)


def _foreign() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


@cache
def load_task(name: str) -> Task:
    """Return a task by its name.

    Raises
    ------
    CardError
        There is no such task (with the nearest name), or its package has no ``TASK``.
    """
    own, foreign = _own_names(), _foreign()
    if name in own and name in foreign:
        raise CardError(
            f"task {name!r} is a folder of sclong/tasks and comes from the installed package {foreign[name].value}",
            "one task of each name",
            "rename one of the two",
        )
    if name not in own and name not in foreign:
        known = sorted({*own, *foreign})
        like = nearest(name, known)
        raise CardError(
            f"no task {name!r}",
            f"a folder of sclong/tasks, or an entry point of the group {GROUP}: {', '.join(known)}",
            f"write {like[0]!r} in the card" if like else "correct the card's task, or install the package that has it",
        )
    try:
        found = importlib.import_module(f"sclong.tasks.{name}.task").TASK if name in own else foreign[name].load()
    except (ImportError, AttributeError) as error:
        raise CardError(
            f"task {name!r}: {error}", "a module `task` with an object TASK", "correct the module"
        ) from error
    if not isinstance(found, Task) or found.name != name:
        raise CardError(
            f"task {name!r}: TASK is {found!r}", f"a Task named {name!r}", "correct the module `task` of its package"
        )
    return found


def load_tasks() -> dict[str, Task]:
    """Return all tasks, by name."""
    return {name: load_task(name) for name in sorted({*_own_names(), *_foreign()})}
