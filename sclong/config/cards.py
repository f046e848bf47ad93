"""Cards: one YAML file per benchmark and one per model. Adding one is adding a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sclong.errors import CardError, nearest

Capability = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Role = Literal["floor", "ceiling", "classical", "ablation", "model"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
PRESETS = ("demo", "small", "paper")


class Strict(BaseModel):
    """Base of every configuration class: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PaperNumber(Strict):
    """A published number that a benchmark is compared with."""

    model: str
    scenario: str
    metric: str
    value: float
    sd: float | None = None
    mark: Literal["exact", "preprint", "anchor"]
    where: str


class DataSpec(Strict):
    """One data set of a benchmark: what it is called, which files it is made of, how it is cut."""

    dataset: Name = Field(description="name of the data set; benchmarks that name the same one share it")
    inputs: dict[str, str | list[str]] = Field(
        description="role -> address: world:FILE (simulated), source:ID/FILE (a row of sources.tsv), "
        "resource:FILE (in resources/), file:PATH (your own)"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="passed to the task's prepare step")
    split: str = Field(description="split policy, by the task's name for it")
    split_options: dict[str, Any] = Field(default_factory=dict)
    comparable: bool = Field(default=False, description="whether the paper's numbers were measured on this data")
    why_not_comparable: str = Field(default="", description="the reason, printed in the verdict")


class BenchmarkCard(Strict):
    """A benchmark: a task on one data set with one split policy."""

    name: Name
    title: str
    summary: str
    task: Name = Field(description="module in sclong/tasks")
    needs: list[Capability] = Field(
        default_factory=list,
        description="any one of: the capability that answers the task itself, then what the task's head can use",
    )
    version: int = Field(ge=1, description="raised when the meaning of a score changes")
    primary_metric: str
    data: dict[Literal["demo", "small", "paper"], list[DataSpec] | DataSpec] = Field(
        description="per preset: one data set, or alternatives of which the first that can be had is used"
    )
    split_seed: int = 1
    paper: list[PaperNumber] = Field(default_factory=list)
    citation: str = Field(default="", description="what to cite: shown in the report")

    def alternatives(self, preset: str) -> list[DataSpec]:
        """Return the data sets this benchmark has under a preset, best first."""
        spec = self.data.get(preset)  # type: ignore[call-overload]
        if spec is None:
            return []
        return spec if isinstance(spec, list) else [spec]


@dataclass(frozen=True)
class Recipe:
    """What of a model's card decides its results: all that a job is told of the card.

    A key that is added to the cards therefore reruns nothing, unless it is added here, too.

    Attributes
    ----------
    name
        Name of the model.
    adapter
        ``module:Class``.
    options
        Keyword arguments of the class.
    features_of
        The model whose embedding the adapter predicts from.
    sees_truth, selects_on_test
        Whether it is shown the test targets.
    """

    name: str
    adapter: str
    options: Mapping[str, Any] = field(default_factory=dict)
    features_of: str | None = None
    sees_truth: bool = False
    selects_on_test: bool = False


class ModelCard(Strict):
    """A model: anything that produces what a task needs."""

    name: Name
    title: str
    summary: str
    version: int = Field(ge=1)
    role: Role
    adapter: str = Field(description="module:Class of a Predictor or an Embedder")
    provides: list[Capability]
    options: dict[str, Any] = Field(default_factory=dict, description="keyword arguments of the adapter")
    preset_options: dict[Literal["demo", "small", "paper"], dict[str, Any]] = Field(
        default_factory=dict, description="per preset: options that replace those of the card"
    )
    features_of: Name | None = Field(
        default=None, description="a model whose embedding the adapter, a PredictorFromFeatures, answers from"
    )
    checkpoint: Name | None = Field(default=None, description="checkpoint folder below results/checkpoints")
    only_with: str | None = Field(
        default=None, description="key of the configuration without which the model is left out (gene2vec.vectors)"
    )
    needs_inputs: list[str] = Field(
        default_factory=list,
        description="what a data set must have, else the model is left out: a role of its inputs, or counts",
    )
    deterministic: bool = Field(default=False, description="the seed changes nothing: run once")
    sees_truth: bool = Field(default=False, description="a ceiling: it is shown the test targets")
    protocol: Literal["strict", "paper"] = Field(
        default="strict", description="paper: as published, defects included; shown beside the others, no headline"
    )
    selects_on_test: bool = Field(
        default=False, description="protocol paper only: it is shown the test targets, and chooses its epoch by them"
    )
    published_as: str | None = Field(default=None, description="its name among a benchmark's published numbers")
    device: Literal["cpu", "gpu"] = "cpu"
    mem_gb: float = 2.0
    hours: float = Field(default=2.0, gt=0, description="time limit of one prediction under SLURM, first attempt")
    preset_hours: dict[Literal["demo", "small", "paper"], Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict, description="per preset: a time limit that replaces hours"
    )
    trained_on: str = ""
    citation: str = Field(default="", description="what to cite: shown in the report, in the list of models")

    @model_validator(mode="after")
    def _strict_sees_no_test(self) -> ModelCard:
        if self.selects_on_test and self.protocol != "paper":
            raise ValueError("selects_on_test is for protocol: paper; under strict nothing is chosen on test data")
        if self.sees_truth and self.role != "ceiling":
            raise ValueError("sees_truth is for role: ceiling")
        return self

    def for_preset(self, preset: str) -> ModelCard:
        """Return the card with the options and the time limit that a preset replaces in place."""
        changed = self.preset_options.get(preset, {})  # type: ignore[call-overload]
        hours = self.preset_hours.get(preset, self.hours)  # type: ignore[call-overload]
        options = {**self.options, **changed}
        return self.model_copy(update={"options": options, "preset_options": {}, "hours": hours, "preset_hours": {}})

    def recipe(self) -> Recipe:
        """Return what of the card decides the model's results."""
        return Recipe(self.name, self.adapter, self.options, self.features_of, self.sees_truth, self.selects_on_test)


Card = TypeVar("Card", bound=Strict)


def describe_validation(error: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """Turn pydantic's first complaint into (found, what to do), with the nearest valid name for unknown keys."""
    first = error.errors()[0]
    where = ".".join(str(p) for p in first["loc"])
    if first["type"] == "extra_forbidden":
        valid = _fields_at(model, first["loc"][:-1])
        like = nearest(str(first["loc"][-1]), valid)
        hint = f"write {like[0]!r} instead" if like else f"use one of: {', '.join(sorted(valid))}"
        return f"unknown key {where!r}", hint
    if not where:  # of several keys together: the message names them
        return str(first["msg"]).removeprefix("Value error, "), "correct one of the two"
    found = repr(first.get("input"))
    return (
        f"{where!r}: {first['msg']} (found {found if len(found) <= 200 else found[:200] + '...'})",
        f"correct {where!r}",
    )


def _fields_at(model: type[BaseModel], loc: tuple[Any, ...]) -> set[str]:
    """Names of the fields of the model that stands at `loc` inside `model`."""
    current: type[BaseModel] = model
    for part in loc:
        info = current.model_fields.get(str(part))
        if info is None:
            continue
        found = [t for t in _types_in(info.annotation) if isinstance(t, type) and issubclass(t, BaseModel)]
        if found:
            current = found[0]
    return set(current.model_fields)


def _types_in(annotation: Any) -> Iterator[Any]:
    yield annotation
    for arg in getattr(annotation, "__args__", ()):
        yield from _types_in(arg)


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, where libyaml is


def load_yaml(path: Path) -> Any:
    """Read a YAML file; a syntax error says where."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader) or {}
    except (yaml.YAMLError, ValueError, OSError, RecursionError) as error:
        raise CardError(f"{path}: not valid YAML ({error})", "a YAML mapping", "correct the file") from None


def load_card(path: Path, kind: type[Card]) -> Card:
    """Read and check one card; its file must carry its name.

    A card that says ``like: <other>`` is the other card, less the keys that its ``drop`` lists (``data.demo``), with
    its own lines over it (:func:`laid_over`). The other is looked for among all cards of its kind, in the folders below
    ``models`` or ``benchmarks``.

    Raises
    ------
    CardError
        Unknown key (with the nearest valid one), wrong value, name that is not the file's, or a ``like`` that leads
        nowhere or in a circle.
    """
    return _check_card(path, _resolved(path, _files(_root_of(path))), kind)


def load_cards(folder: Path, kind: type[Card], beside: Path | None = None) -> dict[str, Card]:
    """Read every ``*.yaml`` of a folder and of the folders below, except those named ``optional``, by name.

    Parameters
    ----------
    folder
        Folder of cards.
    kind
        Class of the cards.
    beside
        Another folder whose cards these may be like.

    Raises
    ------
    CardError
        There is no such folder, two cards have one name, or a card is wrong (:func:`load_card`).
    """
    if not folder.is_dir():
        raise CardError(f"no folder {folder}", "a folder of cards", "run from the repository's root")
    files = _files(folder)
    others = {**(_files(beside) if beside else {}), **_files(_root_of(folder / "x")), **files}
    return {name: _check_card(path, _resolved(path, others), kind) for name, path in files.items()}


def installed_cards(group: str, kind: type[Card], beside: Path) -> dict[str, Card]:
    """Return the cards that other installed packages bring.

    Parameters
    ----------
    group
        Group of entry points, ``sclong.models`` or ``sclong.benchmarks``; the value of each is a package whose folder
        holds cards.
    kind
        Class of the cards.
    beside
        Folder of the cards of this project, which theirs may be like.

    Raises
    ------
    CardError
        An entry point names no package that is installed, or two packages bring cards of one name.
    """
    out: dict[str, Card] = {}
    for point in entry_points(group=group):
        spec = find_spec(point.value)
        if spec is None or not spec.submodule_search_locations:
            raise CardError(
                f"entry point {point.name!r} of group {group}: {point.value}",
                "an installed package whose folder holds cards",
                "correct the entry points of the package that declares it",
            )
        for name, card in load_cards(Path(next(iter(spec.submodule_search_locations))), kind, beside).items():
            if name in out:
                raise CardError(f"two installed packages bring a card {name!r}", "one card of each name", "rename one")
            out[name] = card
    return out


def laid_over(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return one mapping laid over another: mappings key by key, everything else as a whole."""
    out = dict(base)
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(out.get(key), Mapping):
            out[key] = laid_over(out[key], value)
        else:
            out[key] = value
    return out


def _root_of(path: Path) -> Path:
    """Return the folder of all cards of a kind: the nearest one named models or benchmarks, else the card's own."""
    return next((p for p in path.parents if p.name in ("models", "benchmarks")), path.parent)


def _files(folder: Path) -> dict[str, Path]:
    """Return the cards of a folder and of the folders below by name, in the order of names."""
    out: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.yaml"), key=lambda p: p.stem):
        if "optional" in path.relative_to(folder).parts[:-1]:
            continue
        if path.stem in out:
            raise CardError(
                f"two cards named {path.stem!r}: {out[path.stem]} and {path}", "one card of each name", "rename one"
            )
        out[path.stem] = path
    return out


def _resolved(path: Path, others: Mapping[str, Path], seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """Read a card, laid over the one that it is like."""
    raw = load_yaml(path)
    name = raw.pop("like", None) if isinstance(raw, dict) else None
    if name is None:
        return raw
    if name not in others or name in (*seen, path.stem):
        like = nearest(str(name), others)
        found = "is like itself" if name in others else "no such card"
        raise CardError(
            f"{path}: like: {name} ({found})",
            "the name of another card of the same kind",
            f"write like: {like[0]}" if like and name not in others else "write the card's lines out",
        )
    base = _resolved(others[name], others, (*seen, path.stem))
    for key in raw.pop("drop", []):
        base = _without(base, str(key).split("."), f"{path}: drop: {key}")
    return laid_over(base, raw)


def _without(base: Mapping[str, Any], keys: Sequence[str], where: str) -> dict[str, Any]:
    """Return a mapping without one key, which is named from the outermost to the innermost."""
    first, *rest = keys
    if not isinstance(base, Mapping) or first not in base:
        known = sorted(base) if isinstance(base, Mapping) else []
        raise CardError(where, f"a key of the other card: {', '.join(known) or 'none here'}", "correct or remove it")
    out = dict(base)
    if rest:
        out[first] = _without(base[first], rest, where)
    else:
        del out[first]
    return out


def _check_card(path: Path, raw: Any, kind: type[Card]) -> Card:
    try:
        card = kind.model_validate(raw)
    except ValidationError as error:
        found, action = describe_validation(error, kind)
        raise CardError(f"{path}: {found}", f"a {kind.__name__} (see docs/cards.md)", action) from None
    name = getattr(card, "name", None)
    if name != path.stem:
        raise CardError(
            f"{path}: the card is named {name!r}", f"the name of its file, {path.stem!r}", "rename one of the two"
        )
    return card
