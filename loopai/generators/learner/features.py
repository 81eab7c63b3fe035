"""From examples to matrices: fields become columns, words are counted once, and each fit picks its own vocabulary."""

from __future__ import annotations

import string
from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import scipy.sparse as sp  # type: ignore[import-untyped]  # scipy ships no types

from . import reading
from .fields import CATEGORIES, Field
from .learnt import TIMES, Columns, LinearModel, MeasureTerm, NumberTerm, Row, Words, WordTerms
from .logistic import Logistic

Array = Any  # numpy and scipy arrays

# Rows of words have length 1, other columns a spread of 1, so that one strength of regularisation suits both.
_SCALE_BESIDE_WORDS = 0.3
_RARE = 2  # a word must stand in this many texts
_FEW_TEXTS = 100  # unless there are fewer examples than this

# How the tokens of a recipe are read, and which of them it uses: two recipes share one reading of each text.
_MARKS = frozenset(string.punctuation)
_TRIGRAM = 3
_READERS: dict[str, tuple[Callable[[str], list[str]], Callable[[str], bool]]] = {
    "words": (reading.words_and_marks, lambda token: token not in _MARKS),
    "words_and_marks": (reading.words_and_marks, lambda token: True),
    "trigrams": (reading.fragments, lambda token: len(token) == _TRIGRAM),
    "fragments": (reading.fragments, lambda token: True),
}


@dataclass(frozen=True)
class Recipe:
    """How texts are turned into columns; fields of other kinds need no choice."""

    tokens: str = "words"
    pairs: bool = False
    weighting: str = "tf-idf"
    joined: bool = False
    measured: bool = False
    limit: int = 3000


@dataclass(frozen=True)
class _Counts:
    fields: tuple[str, ...]
    vocabulary: list[str]
    counts: Array  # rows × vocabulary, as CSR


@dataclass(frozen=True)
class _Tokens:
    vocabulary: list[str]
    texts: list[tuple[Array, Array]]  # for each field, the rows and the token of each, in the order of the text


class Table:
    """All examples' values, field by field."""

    def __init__(self, inputs: Sequence[Any], fields: Sequence[Field]) -> None:
        self.fields = tuple(fields)
        self.size = len(inputs)
        self.values = {field.name: [field.read(value) for value in inputs] for field in fields}
        self._counts: dict[tuple[str, bool, bool], list[_Counts]] = {}
        self._read: dict[Callable[[str], list[str]], _Tokens] = {}
        self._measures: dict[str, Array] = {}

    def of_kind(self, *kinds: str) -> list[Field]:
        """The fields of these kinds."""
        return [field for field in self.fields if field.column in kinds]

    def numbers(self, name: str) -> Array:
        """A number field as floats, NaN where missing."""
        return np.array([np.nan if value is None else value for value in self.values[name]], dtype=float)

    def measures(self, name: str) -> Array:
        """A text field's measures, one row an example."""
        if name not in self._measures:
            self._measures[name] = np.array([reading.measures(value) for value in self.values[name]])
        return self._measures[name]

    def counts(self, recipe: Recipe) -> list[_Counts]:
        """How often each token occurs in each text; counted once and cached."""
        key = (recipe.tokens, recipe.pairs, recipe.joined)
        if key not in self._counts:
            self._counts[key] = self._count(recipe)
        return self._counts[key]

    def _count(self, recipe: Recipe) -> list[_Counts]:
        read, is_meant = _READERS[recipe.tokens]
        tokens = self._tokens(read)
        meant = np.array([is_meant(token) for token in tokens.vocabulary], dtype=bool)
        texts = [(row[meant[token]], token[meant[token]]) for row, token in tokens.texts]
        single = [self._matrix(row, token, len(meant)) for row, token in texts]
        pairs: Array = np.zeros(0, dtype=np.int64)
        if recipe.pairs:
            # Two tokens side by side in a text share one number.
            beside = [
                (row[:-1][row[:-1] == row[1:]], (token[:-1] * len(meant) + token[1:])[row[:-1] == row[1:]])
                for row, token in texts
            ]
            pairs = np.unique(np.concatenate([pair for _, pair in beside]))
            single = [
                sp.hstack([one, self._matrix(row, np.searchsorted(pairs, pair), len(pairs))]).tocsr()
                for one, (row, pair) in zip(single, beside)
            ]
        if recipe.joined:
            single = [sum(single[1:], single[0])]
        names = [field.name for field in self.of_kind("text")]
        groups = [tuple(names)] if recipe.joined else [(name,) for name in names]
        return [self._kept(group, matrix, tokens.vocabulary, pairs) for group, matrix in zip(groups, single)]

    def _tokens(self, read: Callable[[str], list[str]]) -> _Tokens:
        if read not in self._read:
            places: defaultdict[str, int] = defaultdict(count().__next__)
            texts = []
            for field in self.of_kind("text"):
                found, sizes = array("i"), []
                for value in self.values[field.name]:
                    before = len(found)
                    found.extend(map(places.__getitem__, read(value)))
                    sizes.append(len(found) - before)
                texts.append((np.repeat(np.arange(self.size), sizes), np.array(found, dtype=np.int64)))
            self._read[read] = _Tokens(list(places), texts)
        return self._read[read]

    def _matrix(self, rows: Array, columns: Array, width: int) -> Array:
        return sp.coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(self.size, width)).tocsr()

    def _kept(self, names: tuple[str, ...], matrix: Array, vocabulary: list[str], pairs: Array) -> _Counts:
        matrix.data = np.minimum(matrix.data, len(TIMES) - 1)
        enough = _RARE if self.size >= _FEW_TEXTS else 1
        kept = np.flatnonzero(np.bincount(matrix.indices, minlength=matrix.shape[1]) >= enough)
        words = []
        for place in kept.tolist():
            if place < len(vocabulary):
                words.append(vocabulary[place])
            else:
                first, second = divmod(int(pairs[place - len(vocabulary)]), len(vocabulary))
                words.append(f"{vocabulary[first]} {vocabulary[second]}")
        return _Counts(names, words, matrix[:, kept].tocsr())


class Encoder:
    """The columns of one model: means, spreads, categories and vocabulary are computed from its own `rows` alone."""

    def __init__(self, table: Table, recipe: Recipe | None, rows: Array, answers: Array, *, is_class: bool) -> None:
        self.table = table
        self.recipe = recipe
        self.means: dict[str, float] = {}
        self.spreads: dict[str, float] = {}
        self.gaps: list[str] = []
        self.categories: dict[str, list[Any]] = {}
        self.measured: dict[str, tuple[Array, Array]] = {}
        self.nearly: Logistic | None = None
        """The last fit to the matrix of `rows`, from which the next search starts."""
        self._matrices: dict[bytes, Array] = {}
        for field in table.of_kind("number"):
            values = table.numbers(field.name)[rows]
            present = values[~np.isnan(values)]
            if len(present) < len(values):
                self.gaps.append(field.name)
            self.means[field.name] = float(present.mean()) if len(present) else 0.0
            self.spreads[field.name] = (float(present.std()) if len(present) else 0.0) or 1.0
        for field in table.of_kind(*CATEGORIES):
            seen = {table.values[field.name][row] for row in rows}
            self.categories[field.name] = sorted(seen, key=lambda value: (value is not None, value))
        if recipe is not None:
            if recipe.measured:
                for field in table.of_kind("text"):
                    values = table.measures(field.name)[rows]
                    spread = values.std(axis=0)
                    self.measured[field.name] = (values.mean(axis=0), np.where(spread > 0, spread, 1.0))
            self._choose_words(recipe, rows, answers, is_class=is_class)

    def plain(self, rows: Array) -> Array:
        """The numbers unscaled (missing ones as their mean), gaps and categories as 0 and 1: the input of trees."""
        parts = []
        for name, mean in self.means.items():
            values = self.table.numbers(name)[rows]
            parts.append(np.where(np.isnan(values), mean, values))
        return self._stack(parts + self._indicators(rows), rows)

    def columns(self) -> Columns:
        """The columns of `plain`, by name and in order."""
        return Columns(
            {name: (name, mean) for name, mean in self.means.items()},
            {f"{name} is missing": name for name in self.gaps},
            {f"{name} is {value!r}": (name, value) for name, values in self.categories.items() for value in values},
        )

    def matrix(self, rows: Array) -> Array:
        """Everything on one scale: the input of linear models. Cached, as the same rows are fitted several times."""
        key = rows.tobytes()
        if key not in self._matrices:
            self._matrices[key] = self._made(rows)
        return self._matrices[key]

    def _made(self, rows: Array) -> Array:
        parts = []
        for name, mean in self.means.items():
            values = (self.table.numbers(name)[rows] - mean) / self.spreads[name]
            parts.append(np.where(np.isnan(values), 0.0, values))
        parts += self._indicators(rows)
        for name, (mean, spread) in self.measured.items():
            parts.extend(((self.table.measures(name)[rows] - mean) / spread).T)
        dense = self._stack(parts, rows)
        if self.recipe is None:
            return dense
        return sp.hstack([sp.csr_matrix(dense * _SCALE_BESIDE_WORDS), self._words(rows)]).tocsr()

    def linear_model(self, weights: Array, start: Array) -> LinearModel:
        """The model with these weights (answers × columns), with the scaling undone."""
        beside = weights * (1.0 if self.recipe is None else _SCALE_BESIDE_WORDS)
        column = 0

        def row(scale: float = 1.0) -> Row:
            nonlocal column
            column += 1
            return tuple(float(weight) / scale for weight in beside[:, column - 1])

        scaled = {name: row(self.spreads[name]) for name in self.means}
        gaps = {name: row() for name in self.gaps}
        none = (0.0,) * len(beside)
        numbers = tuple(NumberTerm(name, mean, scaled[name], gaps.get(name, none)) for name, mean in self.means.items())
        choices = {name: {value: row() for value in values} for name, values in self.categories.items()}
        measures = tuple(
            MeasureTerm(name, index, float(mean[index]), row(float(spread[index])))
            for name, (mean, spread) in self.measured.items()
            for index in range(len(mean))
        )
        words = self._word_terms(weights[:, column:]) if self.recipe is not None else None
        return LinearModel(tuple(float(value) for value in start), numbers, measures, choices, words)

    def _indicators(self, rows: Array) -> list[Array]:
        parts = [np.isnan(self.table.numbers(name)[rows]).astype(float) for name in self.gaps]
        for name, values in self.categories.items():
            own = self.table.values[name]
            parts.extend(np.array([own[row] == value for row in rows], dtype=float) for value in values)
        return parts

    @staticmethod
    def _stack(parts: list[Array], rows: Array) -> Array:
        return np.column_stack(parts) if parts else np.zeros((len(rows), 0))

    def _choose_words(self, recipe: Recipe, rows: Array, answers: Array, *, is_class: bool) -> None:
        """Choose the `limit` words that say most about the answers, over all texts together."""
        self._groups = self.table.counts(recipe)
        enough = _RARE if len(rows) >= _FEW_TEXTS else 1
        strengths, texts_with = [], []
        for group in self._groups:
            present = group.counts[rows]
            present.data = np.ones_like(present.data)
            frequency = np.asarray(present.sum(axis=0)).ravel()
            strength = _strength(present, answers, is_class=is_class)
            strengths.append(np.where(frequency >= enough, np.nan_to_num(strength, nan=-1.0), -1.0))
            texts_with.append(frequency)
        ranks = np.concatenate(strengths)
        best = np.argsort(-ranks, kind="stable")[: recipe.limit]
        best = np.sort(best[ranks[best] >= 0])
        self._kept, self._rarities, first = [], [], 0
        for frequency in texts_with:
            kept = best[(best >= first) & (best < first + len(frequency))] - first
            first += len(frequency)
            self._kept.append(kept)
            self._rarities.append(np.round(np.log((1 + len(rows)) / (1 + frequency[kept])) + 1, 2))

    def _words(self, rows: Array) -> Array:
        recipe = self.recipe
        parts = []
        for group, kept, rarity in zip(self._groups, self._kept, self._rarities):
            part = group.counts[rows][:, kept].tocsr()
            if recipe is not None and recipe.weighting == "binary":
                part.data = np.ones_like(part.data)
            else:
                part.data = np.array(TIMES)[part.data.astype(int)]
            parts.append(part @ sp.diags(rarity) if recipe is not None and recipe.weighting == "tf-idf" else part)
        words = sp.hstack(parts).tocsr()
        if not words.shape[1]:
            return sp.csr_matrix((len(rows), 1))  # no word is in enough texts: use one empty column
        if recipe is not None and recipe.weighting != "binary":
            lengths = np.sqrt(np.asarray(words.multiply(words).sum(axis=1)).ravel())
            words = sp.diags(1 / np.where(lengths > 0, lengths, 1.0)) @ words
        return words

    def _word_terms(self, weights: Array) -> Words | None:
        recipe = self.recipe
        if recipe is None:
            return None
        terms, column = [], 0
        for group, kept, rarities in zip(self._groups, self._kept, self._rarities):
            learnt = {}
            for place, rarity in zip(kept, rarities):
                own = float(rarity) if recipe.weighting == "tf-idf" else 1.0
                learnt[group.vocabulary[place]] = (tuple(float(weight) for weight in weights[:, column]), own)
                column += 1
            terms.append(WordTerms(group.fields, learnt))
        return Words(recipe.tokens, recipe.pairs, recipe.weighting, tuple(terms))


def _strength(present: Array, answers: Array, *, is_class: bool) -> Array:
    """How much each word's presence says: chi-squared for an answer, correlation for an amount."""
    if not present.shape[1]:
        return np.zeros(0)
    if is_class:
        return _chi_squared(present, answers)
    amounts = answers
    share = np.asarray(present.mean(axis=0)).ravel()
    covariance = present.T @ (amounts - amounts.mean()) / len(amounts)
    spread = np.sqrt(np.maximum(share * (1 - share), 0.0))
    return np.abs(covariance) / np.where(spread > 0, spread, np.inf)


def _chi_squared(present: Array, answers: Array) -> Array:
    """Return each column's chi-squared statistic against the answers, as scikit-learn computes it."""
    labels = np.unique(answers)
    members = sp.csr_matrix((answers[:, None] == labels[None, :]).astype(float))
    observed = np.asarray((members.T @ present).todense())
    counts = np.asarray(present.sum(axis=0)).ravel()
    expected = np.outer(np.asarray(members.mean(axis=0)).ravel(), counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, (observed - expected) ** 2 / expected, 0.0).sum(axis=0)
