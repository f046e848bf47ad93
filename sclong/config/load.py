"""The whole configuration: sections, presets, what lies over what. Its sections are in `sclong.config.sections`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError, field_validator

from sclong.config.cards import (
    PRESETS,
    BenchmarkCard,
    ModelCard,
    Name,
    Strict,
    describe_validation,
    installed_cards,
    load_cards,
    load_yaml,
)
from sclong.config.sections import (
    Architecture,
    CorpusConfig,
    EmbedConfig,
    Gene2VecConfig,
    GoConfig,
    PretrainConfig,
    VocabularyConfig,
)
from sclong.errors import CardError, ConfigError, nearest

LARGEST_SEED = 2**32 - 1
"""What numpy takes."""
LONGEST_FOLDER = 200
"""Characters of a folder's path: names below it must still fit what file systems allow."""


class Preset(Strict):
    """One size of the whole workflow."""

    architecture: Name
    corpus: CorpusConfig
    vocabulary: VocabularyConfig
    go: GoConfig
    gene2vec: Gene2VecConfig = Gene2VecConfig()
    pretrain: PretrainConfig
    embed: EmbedConfig = EmbedConfig()
    seeds: list[int] = Field(min_length=1, description="training seeds; each is a training of its own")


class Config(Preset):
    """The whole configuration after preset, config.yaml and ``--config`` are laid over each other."""

    preset: Literal["demo", "small", "paper"] = "demo"
    results_dir: str = "results"
    data_dir: str = Field(default="data", description="where fetched files are kept")
    mirror: str | None = Field(default=None, description="folder or http address that is asked before the origin")
    offline: bool = Field(default=False, description="never open a socket; list what is missing")
    released: str | None = Field(
        default="data/authors",
        description="folder of the authors' released files (docs/import_checkpoint.md): where they are there, the "
        "checkpoint and row sclong_released; null: without it",
    )
    models: list[Name] | Literal["all"] = "all"
    benchmarks: list[Name] | Literal["all"] = "all"
    folds: int | None = Field(default=None, ge=1, description="use only the first folds of each split; null: all")
    cards_dir: str = Field(default="config", description="folder with benchmarks/, models/, architectures/, presets/")

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("seeds must differ: equal seeds are the same training")
        if not all(0 <= seed <= LARGEST_SEED for seed in seeds):
            raise ValueError(f"seeds are from 0 to {LARGEST_SEED}")
        return seeds

    @field_validator("results_dir", "data_dir")
    @classmethod
    def _one_folder(cls, folder: str) -> str:
        """Expand ``~`` here, once: some libraries do it and some do not."""
        out = os.path.expanduser(folder).rstrip("/") or folder
        if not out.strip() or any(c in "{}*?" or ord(c) < 32 for c in out):
            raise ValueError("a folder's path, without braces, *, ? and line breaks: rules take these for patterns")
        if out.startswith("~"):
            raise ValueError("there is no such user, whose home ~ would be")
        if len(out) > LONGEST_FOLDER:
            raise ValueError(
                f"{len(out)} characters; at most {LONGEST_FOLDER}, so that names below it are not too long"
            )
        return out


T = TypeVar("T", bound=Strict)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any], inside: bool = False) -> dict[str, Any]:
    """Lay `over` on `base`; mappings are merged, everything else replaces.

    A null at the top level is a key that was left empty, and changes nothing; inside a section it is a value. Snakemake
    hands over ``--config 'section={key: null}'`` as the text "null".
    """
    out = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(out.get(key), Mapping):
            out[key] = _merge(out[key], value, inside=True)
        elif inside and value == "null":
            out[key] = None
        elif inside or value is not None or key not in out:
            out[key] = value
    return out


def _validate(kind: type[T], raw: Mapping[str, Any], where: str) -> T:
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        found, action = describe_validation(error, kind)
        raise ConfigError(f"{where}: {found}", "a key and a value of docs/configuration.md", action) from None


def load_config(user: Mapping[str, Any], root: Path = Path(".")) -> Config:
    """Lay the user's keys over their preset and check everything.

    Parameters
    ----------
    user
        Keys of config.yaml and ``--config``, already merged (Snakemake does that).
    root
        Folder with ``config/``.

    Raises
    ------
    ConfigError
        Unknown preset or key (with the nearest valid one) or a value out of its limits.
    """
    preset = user.get("preset") or "demo"
    if preset not in PRESETS:
        like = nearest(str(preset), PRESETS)
        raise ConfigError(
            f"preset {preset!r}", f"one of {', '.join(PRESETS)}", f"preset: {like[0] if like else 'demo'}"
        )
    folder = root / (user.get("cards_dir") or "config")
    path = folder / "presets" / f"{preset}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"no file {path}", "a folder of cards", "correct cards_dir, or run from the repository's root"
        )
    raw = load_yaml(path)
    _validate(Preset, raw, str(path))
    return _validate(Config, {**_merge(raw, user), "preset": preset}, "configuration")


def load_architecture(name: str, folder: Path = Path("config")) -> Architecture:
    """Read ``architectures/<name>.yaml``.

    Raises
    ------
    ConfigError
        No such file (with the nearest name) or a wrong key or value.
    """
    path = folder / "architectures" / f"{name}.yaml"
    if not path.is_file():
        names = [p.stem for p in path.parent.glob("*.yaml")]
        like = nearest(name, names)
        raise ConfigError(
            f"architecture {name!r}",
            f"one of {', '.join(sorted(names))}",
            f"architecture: {like[0]}" if like else f"write {path}",
        )
    return _validate(Architecture, load_yaml(path), str(path))


def select_cards(config: Config, root: Path = Path(".")) -> tuple[dict[str, BenchmarkCard], dict[str, ModelCard]]:
    """Return the benchmark cards and the model cards that the configuration selects.

    Cards are those of the configuration's folder and those that installed packages bring (entry points of the groups
    ``sclong.benchmarks`` and ``sclong.models``).

    Raises
    ------
    ConfigError
        A name in ``benchmarks`` or ``models`` that has no card.
    """
    folder = root / config.cards_dir
    benchmarks = all_cards(folder / "benchmarks", BenchmarkCard)
    models = all_cards(folder / "models", ModelCard)
    return _chosen(config.benchmarks, benchmarks, "benchmarks"), _chosen(config.models, models, "models")


Item = TypeVar("Item", BenchmarkCard, ModelCard)


def all_cards(folder: Path, kind: type[Item]) -> dict[str, Item]:
    """Return the cards of a folder and those that installed packages bring.

    Parameters
    ----------
    folder
        ``.../benchmarks`` or ``.../models``; its name is also that of the group of entry points.
    kind
        Class of the cards.

    Raises
    ------
    CardError
        An installed package brings a card that the folder has, too.
    """
    own: dict[str, Item] = load_cards(folder, kind)
    foreign: dict[str, Item] = installed_cards(f"sclong.{folder.name}", kind, folder)
    both = sorted({*own} & {*foreign})
    if both:
        raise CardError(
            f"cards {', '.join(both)} are both in {folder} and in an installed package",
            "one card of each name",
            "rename or remove one of the two",
        )
    return dict(sorted({**own, **foreign}.items()))


def _chosen(names: list[str] | Literal["all"], cards: dict[str, Item], key: str) -> dict[str, Item]:
    if names == "all":
        return cards
    for name in names:
        if name not in cards:
            like = nearest(name, cards)
            raise ConfigError(
                f"{key}: no card named {name!r}",
                f"names of {', '.join(sorted(cards))}",
                f"write {like[0]!r}" if like else f"add config/{key}/{name}.yaml",
            )
    return {name: cards[name] for name in names}


def remember_preset(config: Config) -> None:
    """Refuse a results folder that belongs to another preset.

    Raises
    ------
    ConfigError
        With the way out: another ``results_dir``.
    """
    path = Path(config.results_dir) / "preset.json"
    if path.is_file():
        other = json.loads(path.read_text())["preset"]
        if other != config.preset:
            raise ConfigError(
                f"{config.results_dir}/ holds results of preset {other!r}; asked for {config.preset!r}",
                "one preset per results folder, so that numbers of different sizes never mix",
                f"add --config preset={config.preset} results_dir=results_{config.preset}: both are kept",
            )


def schema() -> dict[str, Any]:
    """Return the JSON schema of ``config.yaml`` (written to config/schema.json; a test keeps it in step)."""
    out = Config.model_json_schema()
    out["required"] = []
    out["title"] = "sclong configuration"
    return out
