"""What the corpus of a configuration is made of: its parts, what ranks genes, whose cells are left out. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sclong.config.cards import BenchmarkCard
from sclong.config.sections import CorpusConfig, CorpusSource, VocabularyConfig
from sclong.errors import ConfigError, nearest
from sclong.plan.availability import Availability


@dataclass(frozen=True)
class CorpusPlan:
    """The corpus of a resolved configuration.

    Attributes
    ----------
    sources
        Files of the corpus that can be had, by name.
    left_out
        Names of the optional sources that cannot be had.
    census_parts
        Names of the parts that come from the CELLxGENE Census.
    ranking
        Names of the files that rank non-coding genes: those that everybody can have, so that there is one vocabulary.
    census_ranks
        Whether the Census ranks them, too.
    excluded
        Data set -> benchmark whose data it is: its cells are left out of the corpus.
    not_excluded
        Benchmark -> why its cells cannot be left out: its data is not here.
    """

    sources: Mapping[str, CorpusSource]
    left_out: list[str]
    census_parts: list[str]
    ranking: list[str]
    census_ranks: bool
    excluded: Mapping[str, str]
    not_excluded: Mapping[str, str]

    @property
    def parts(self) -> list[str]:
        """Names of all parts, in the order in which the first of equal cells stays."""
        return [*self.sources, *self.census_parts]


def plan_corpus(
    corpus: CorpusConfig,
    vocabulary: VocabularyConfig,
    files: Availability,
    cards: Mapping[str, BenchmarkCard],
) -> CorpusPlan:
    """Work out the corpus.

    Parameters
    ----------
    corpus, vocabulary
        Sections of the configuration.
    files
        Which files can be had.
    cards
        All benchmark cards, whichever are selected: what is trained on does not depend on what is judged.

    Raises
    ------
    ConfigError
        ``exclude_benchmarks`` names a benchmark without a card.
    """
    sources = {s.name: s for s in corpus.sources if not (s.optional and files.lost([s.input]))}
    rule = vocabulary.mode == "rule"
    excluded, not_excluded = {}, {}
    for name in corpus.exclude_benchmarks:
        if name not in cards:
            like = nearest(name, cards)
            raise ConfigError(
                f"corpus.exclude_benchmarks: no card named {name!r}",
                f"names of {', '.join(sorted(cards))}",
                f"write {like[0]!r}" if like else "remove the name",
            )
        choice = files.choose(cards[name])
        if choice.spec is None:
            not_excluded[name] = choice.why
        else:
            excluded[choice.spec.dataset] = name
    n_parts = corpus.census.parts if corpus.census else 0
    return CorpusPlan(
        sources=sources,
        left_out=[s.name for s in corpus.sources if s.name not in sources],
        census_parts=[f"census_{number:03d}" for number in range(n_parts)],
        ranking=[s.name for s in corpus.sources if not s.optional] if rule else [],
        census_ranks=rule and corpus.census is not None,
        excluded=excluded,
        not_excluded=not_excluded,
    )
