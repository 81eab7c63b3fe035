"""Choose the model and the words by cross-validation within the shown rows; the final score is the judge's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .features import Array, Encoder, Recipe, Table
from .fields import CATEGORIES
from .models import DEEP, ModelSpec, fit

_FOLDS = 5
_FOLDS_OF_MANY, _MANY = 3, 300  # from this many rows on, three folds choose as well as five
_FOLDS_OF_FEW = 10  # fewer than _FEW examples: each fit needs nearly all of them
_FEW = 50
_MOST_ROWS = 3000  # the time to choose grows with the rows; the final fit uses all of them
_SIZES = (-8, 8)  # C from 1e-4 to 1e4
_START_BINARY, _START_WEIGHTED = 0, 3  # where the search for C begins: rows of weighted words have length 1
_BETTER = 0.99  # a recipe replaces a simpler one only if it lowers the loss to this share
_MOST_NUMBERS = 50_000  # word weights in a program, over all answers: about 400 KB
_SHORT_TEXT = 300  # characters on average: Monty takes too long to cut longer texts into trigrams
_MOST_BOOSTING = 6_000_000  # rows × columns × answers × rounds: about 2 s per fit
_MOST_EXACT_LEAVES = 12
_SCALES = (1.0, 0.03, 0.05, 0.07, 0.1, 0.14, 0.2, 0.28, 0.4, 0.56, 0.8, 1.4, 2.0, 2.8, 4.0)
_CLEARLY = 2.0  # a rival must be better by this many standard errors
_LIKELY = 0.5  # the same for amounts, where one large error can hide a better model
_FEWEST_DEEP, _MOST_DEEP = 150, 1500  # rows for deep trees: fewer teach them nothing, more take too long
_LEAST_UNITS = 1e-6  # of a number that amounts are divided by
_FEWEST_GROWING = 0.3  # the rank correlation from which amounts may be so much for each unit of a number
_TINY = 1e-12
_RARE_SHARE, _FEWEST_RARE = 0.1, 4  # a label below this share is rare; fewer rows say nothing about a threshold


@dataclass(frozen=True)
class Selected:
    """The kind of model chosen.

    `shift` is added to the sums so that rare labels are found; `scale` calibrates certainties (see `Learnt`).
    """

    spec: ModelSpec
    shift: float = 0.0
    scale: float = 1.0


def choose(table: Table, answers: Array, labels: int, places: Array, random_state: int) -> Selected:
    """Return the candidate that is best on held-back rows; a simpler one if the difference may be chance.

    Only the rows at `places` count.
    """
    rows = _sample(answers, labels, places, random_state)
    search = _Search(table, answers, labels, rows, random_state)
    linear = search.linear()
    per = None if labels else search.scale_of_amounts()
    rivals = []
    if not labels and answers.min() > 0:
        rivals.append(replace(linear, logarithmic=True))
    if per is not None:
        rivals.append(replace(linear, per=per))
    for rival in rivals:
        linear = search.better(linear, rival)
    best = linear
    if table.of_kind("number", *CATEGORIES):
        errors, trees = search.errors(best), None
        for rivals in search.tree_families():
            if not is_better(np.zeros(len(rows)), errors, labels):
                break  # not even a rival without errors would be clearly better
            if not rivals:
                continue
            rival = min(rivals, key=lambda candidate: float(search.errors(candidate).mean()))
            if per is not None:
                rival = search.better(rival, replace(rival, per=per))
            if is_better(search.errors(rival), errors, labels):
                best, errors = rival, search.errors(rival)
            trees = rival
        if trees is not None and not labels:
            mean = ModelSpec("mean", 0, parts=(linear, trees))
            # No test for chance: a mean varies less than its parts, and is seldom worse than the better one.
            if float(search.errors(mean).mean()) < float(errors.mean()) * _BETTER:
                best = mean
        exact = search.exact_tree()
        if exact is not None and float(search.errors(exact).mean()) <= float(errors.mean()):
            return Selected(exact)
    return Selected(best, search.shift(best), search.scale(best))


class _Search:
    """Cross-validates candidates on one division of the examples; each candidate is fitted once."""

    def __init__(self, table: Table, answers: Array, labels: int, rows: Array, random_state: int) -> None:
        self.table, self.answers, self.labels, self.rows = table, answers, labels, rows
        self.random_state = random_state
        self.folds = _FOLDS_OF_MANY if len(rows) >= _MANY else _FOLDS
        if len(rows) < _FEW:
            self.folds = max(2, min(_FOLDS_OF_FEW, len(rows) // 2))
        self._fold_of = _divide(answers[rows], labels, self.folds, random_state)
        self._predictions: dict[ModelSpec, Array] = {}
        self._encoders: tuple[Recipe | None, list[Encoder]] | None = None

    def linear(self) -> ModelSpec:
        """The best of the linear models."""
        texts = self.table.of_kind("text")
        if not texts:
            return self._climb(ModelSpec("linear", 0))
        limit = min(3000, max(300, _MOST_NUMBERS // max(1, self.labels)))
        best = ModelSpec("linear", _START_WEIGHTED, Recipe(limit=limit))
        # Make one choice after the other: trying all combinations takes several times as long and seldom helps.
        for changes in self._changes():
            for change in changes:
                best = self.better(best, self._with(best, replace(best.recipe or Recipe(), **change)))
        shorter = self._with(best, replace(best.recipe or Recipe(), limit=limit // 3))
        best = self.better(best, shorter)
        # These make the program slower, so they must do more than shift probabilities slightly.
        for extra in ("measured", "pairs"):
            recipe = best.recipe or Recipe()
            slower = replace(recipe, measured=True) if extra == "measured" else replace(recipe, pairs=True)
            rival = self._with(best, slower)
            if _clearly_less(self.errors(rival), self.errors(best)):
                best = self.better(best, rival)
        return self._climb(best)

    def scale_of_amounts(self) -> str | None:
        """The positive number with which the amounts grow most, if they do: what each unit gives may vary less."""
        best, sizes = None, np.abs(self.answers[self.rows])
        least = _FEWEST_GROWING
        for field in self.table.of_kind("number"):
            values = self.table.numbers(field.name)
            # All examples count here: the final fit reads those that were held back, too.
            if bool((values > _LEAST_UNITS).all()) and values.min() < values.max():
                growing = float(np.corrcoef(_ranks(values[self.rows]), _ranks(sizes))[0, 1])
                if growing > least:
                    best, least = field.name, growing
        return best

    def tree_families(self) -> Iterator[list[ModelSpec]]:
        """Single trees, then sums of trees, unless those would take too long."""
        yield [ModelSpec("tree", leaves) for leaves in (4, 8, 16, 32) if leaves <= len(self.rows) // 2]
        categories = sum(len(set(self.table.values[field.name])) for field in self.table.of_kind("choice", "code"))
        columns = len(self.table.fields) + categories
        boosting = len(self.rows) * columns * (self.labels if self.labels > 2 else 1) * 100
        if boosting <= _MOST_BOOSTING:
            deep = not self.labels and _FEWEST_DEEP <= len(self.rows) <= _MOST_DEEP
            yield [ModelSpec("boosted", depth) for depth in (2, 3, *((DEEP,) if deep else ()))]
        else:
            yield [ModelSpec("histogram", leaves) for leaves in (8, 24)]

    def predictions(self, candidate: ModelSpec) -> Array:
        """The prediction for each example of the fit that did not see the example's fold."""
        if candidate.parts:
            return np.mean([self.predictions(part) for part in candidate.parts], axis=0)
        if candidate not in self._predictions:
            shape = (len(self.rows), self.labels) if self.labels else (len(self.rows),)
            predictions = np.zeros(shape)
            for fold, encoder in enumerate(self._encoders_of(candidate.recipe)):
                held = self._fold_of == fold
                known, asked = self.rows[~held], self.rows[held]
                answers = self.answers[known]
                fitted = fit(candidate, self.table, known, answers, self.labels, self.random_state, encoder)
                predictions[held] = fitted.predict(asked)
            self._predictions[candidate] = predictions
        return self._predictions[candidate]

    def _encoders_of(self, recipe: Recipe | None) -> list[Encoder]:
        """One encoder per fold. Only those of the last recipe are kept: the matrices of all need too much memory."""
        if self._encoders is None or self._encoders[0] != recipe:
            shown = [self.rows[self._fold_of != fold] for fold in range(self.folds)]
            made = [Encoder(self.table, recipe, rows, self.answers[rows], is_class=self.labels > 0) for rows in shown]
            self._encoders = (recipe, made)
        return self._encoders[1]

    def errors(self, candidate: ModelSpec) -> Array:
        """The error of each example: 0 or 1 for an answer, squared for an amount."""
        predictions, answers = self.predictions(candidate), self.answers[self.rows]
        if self.labels:
            return (predictions.argmax(axis=1) != answers).astype(float)
        return (predictions - answers) ** 2

    def loss(self, candidate: ModelSpec) -> float:
        """Log loss of answers, mean squared error of amounts: more precise than counting wrong answers."""
        if not self.labels:
            return float(self.errors(candidate).mean())
        own = self.predictions(candidate)[np.arange(len(self.rows)), self.answers[self.rows].astype(int)]
        return float(-np.log(np.maximum(own, _TINY)).mean())

    def _changes(self) -> Iterator[list[dict[str, Any]]]:
        texts = self.table.of_kind("text")
        lengths = [len(value) for field in texts for value in self.table.values[field.name]]
        short = sum(lengths) / len(lengths) <= _SHORT_TEXT
        yield [{"tokens": tokens} for tokens in ("words_and_marks", *(("trigrams", "fragments") if short else ()))]
        yield [{"weighting": weighting} for weighting in ("log", "binary")]
        if len(texts) > 1:
            yield [{"joined": True}]

    def shift(self, candidate: ModelSpec) -> float:
        """What to add to the sums of two labels to find the rare one with the best F1."""
        truth = self.answers[self.rows].astype(int)
        if self.labels != 2 or candidate.family == "tree":
            return 0.0
        rare = int(truth.mean() < 0.5)
        members = truth == rare
        if not _FEWEST_RARE <= members.sum() <= _RARE_SHARE * len(truth):
            return 0.0
        shares = np.clip(self.predictions(candidate)[:, rare], 1e-9, 1 - 1e-9)
        odds = np.log(shares / (1 - shares))
        order = np.sort(odds)
        limits = np.append((order[1:] + order[:-1]) / 2, 0.0)
        chosen = odds[None, :] > limits[:, None]
        hits = (chosen & members).sum(axis=1)
        f1 = 2 * hits / np.maximum(chosen.sum(axis=1) + members.sum(), 1)
        best = limits[f1 >= f1.max() - _TINY]
        if f1.max() <= f1[-1]:
            return 0.0  # the usual threshold is as good
        limit = float(np.median(best))
        return limit if rare == 0 else -limit

    def scale(self, candidate: ModelSpec) -> float:
        """The factor for the sums with which certainties match how often answers on held-back rows are right."""
        if not self.labels or candidate.family == "tree":
            return 1.0
        logs = np.log(np.maximum(self.predictions(candidate), _TINY))
        truth = self.answers[self.rows].astype(int)
        # If all of a few rows were right, the next one may still be wrong.
        doubt = self.labels / (len(truth) + self.labels)

        def loss(scale: float) -> float:
            scaled = logs * scale
            losses = np.log(np.exp(scaled).sum(axis=1, keepdims=True)) - scaled
            own = losses[np.arange(len(truth)), truth]
            return float(((1 - doubt) * own + doubt * losses.mean(axis=1)).mean())

        return min(_SCALES, key=loss)

    def exact_tree(self) -> ModelSpec | None:
        """The smallest tree that is right on all rows, if there is a small one."""
        if not self.labels:
            return None
        most = min(_MOST_EXACT_LEAVES, len(self.rows) // 4)
        for leaves in range(2, most + 1):
            candidate = ModelSpec("tree", leaves)
            fitted = fit(candidate, self.table, self.rows, self.answers[self.rows], self.labels, self.random_state)
            if bool((fitted.predict(self.rows).argmax(axis=1) == self.answers[self.rows]).all()):
                return candidate
        return None

    @staticmethod
    def _with(candidate: ModelSpec, recipe: Recipe) -> ModelSpec:
        size = _START_BINARY if recipe.weighting == "binary" else _START_WEIGHTED
        return replace(candidate, recipe=recipe, size=size)

    def better(self, best: ModelSpec, rival: ModelSpec) -> ModelSpec:
        """The rival if its loss is lower by more than a hundredth, else `best`."""
        return rival if self.loss(rival) < self.loss(best) * _BETTER else best

    def _climb(self, start: ModelSpec) -> ModelSpec:
        """Move from `start` in the direction of the better regularisation strength, as long as it improves."""
        best = start
        for step in (-1, 1):
            while _SIZES[0] <= best.size + step <= _SIZES[1]:
                rival = replace(best, size=best.size + step)
                if self.loss(rival) >= self.loss(best) * 0.999:
                    break
                best = rival
            if best != start:
                break
        return best


def is_better(errors: Array, than: Array, labels: int) -> bool:
    """Return whether errors are lower by more than chance. For amounts, a few large errors dominate the squares.

    So it also suffices that the unsquared errors are clearly lower and the squared ones not likely higher.
    """
    if labels:
        return _clearly_less(errors, than)
    sizes_are_less = _clearly_less(np.sqrt(errors), np.sqrt(than))
    return _clearly_less(errors, than, _LIKELY) or (sizes_are_less and not _clearly_less(than, errors, _LIKELY))


def _clearly_less(errors: Array, than: Array, times: float = _CLEARLY) -> bool:
    """Return whether the mean difference exceeds this many of its standard errors: otherwise it may be chance."""
    differences = than - errors
    return bool(differences.mean() > times * differences.std() / np.sqrt(len(differences)))


def _ranks(values: Array) -> Array:
    """The place of each value in the order of all; equal ones share the first."""
    return np.searchsorted(np.sort(values), values).astype(float)


def _divide(answers: Array, labels: int, folds: int, random_state: int) -> Array:
    """The fold of each row; every answer is spread over the folds as evenly as possible."""
    order = np.random.RandomState(random_state).permutation(len(answers))
    if labels:
        order = order[np.argsort(answers[order], kind="stable")]
    fold_of = np.empty(len(answers), dtype=int)
    fold_of[order] = np.arange(len(answers)) % folds
    return fold_of


def _sample(answers: Array, labels: int, places: Array, random_state: int) -> Array:
    """Return at most `_MOST_ROWS` of the places, keeping each answer's share and at least two of each."""
    if len(places) <= _MOST_ROWS:
        return np.sort(places)
    order = places[np.random.RandomState(random_state).permutation(len(places))]
    if not labels:
        return np.sort(order[:_MOST_ROWS])
    share = _MOST_ROWS / len(places)
    kept = []
    for label in range(labels):
        own = order[answers[order] == label]
        kept.append(own[: max(2, int(len(own) * share))])
    return np.sort(np.concatenate(kept))
