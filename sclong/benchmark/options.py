"""Options of a card, checked where they meet the code that reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from sclong.config.cards import Strict, describe_validation
from sclong.errors import CardError, nearest

Options = TypeVar("Options", bound=Strict)


def parse_options(kind: type[Options], options: Mapping[str, Any], where: str) -> Options:
    """Check a card's options against a class of options.

    Parameters
    ----------
    kind
        The class.
    options
        As the card has them.
    where
        Whose options they are, for the message.

    Raises
    ------
    CardError
        Unknown option (with the nearest valid one) or wrong value.
    """
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        found, action = describe_validation(error, kind)
        raise CardError(
            f"options of {where}: {found}",
            f"options among {', '.join(sorted(kind.model_fields)) or 'none'}",
            f"{action} in the benchmark's card",
        ) from None


def check_policy(policy: str, known: Sequence[str], task: str) -> None:
    """Check that a task knows a split policy.

    Raises
    ------
    CardError
        When it does not, with the nearest one that it knows.
    """
    if policy not in known:
        like = nearest(policy, known)
        raise CardError(
            f"task {task!r}: split policy {policy!r}",
            f"one of {', '.join(known)}",
            f"write `split: {like[0] if like else known[0]}` in the benchmark's card",
        )
