"""The kinds of model a program can hold: each is fitted with scikit-learn and returned as plain data."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import numpy as np

from .features import Array, Encoder, Recipe, Table
from .learnt import LabelLeaf, LinearModel, MeanModel, Node, RateModel, TreeModel
from .logistic import MOST_ROWS, Logistic

_ITERATIONS = 2000  # enough for scaled columns; a fit that has not quite converged by then gives the same answers
_ROUNDS = 100
_LEARNING_RATE = 0.1
# Deep trees learn slowly, each from a sample of rows and columns: better for amounts, from a few hundred rows.
DEEP = 4
_DEEP_ROUNDS = 200
_DEEP_RATE = 0.07
_DEEP_OPTIONS = {"subsample": 0.6, "max_features": 0.5, "min_samples_leaf": 3}
_BEYOND = 1.0  # how far above the logarithm of the largest amount seen an estimate may be
_TINY = 1e-300


@dataclass(frozen=True)
class ModelSpec:
    """One way to learn.

    `size` means, for "linear", twice the base-10 logarithm of C (that is, of 1/alpha); for "tree", the number of
    leaves; for "boosted", the depth of each tree. "mean" is the average of its `parts`. If `logarithmic`, a linear
    model adds up to the logarithm of the amount: what each field does then multiplies. If `per` names a number of the
    input, the model says how much of the amount each unit of it gives.
    """

    family: str
    size: int
    recipe: Recipe | None = None
    parts: tuple[ModelSpec, ...] = ()
    logarithmic: bool = False
    per: str | None = None


class Fit(Protocol):
    """A fitted candidate."""

    @property
    def one_each(self) -> bool:
        """Whether each label has a model of its own, against the others."""

    def predict(self, rows: Array) -> Array:
        """The probability of each answer, one row per example, or the amounts."""

    def model(self) -> LinearModel | TreeModel | RateModel | MeanModel:
        """The fitted model as plain data."""


def fit(
    candidate: ModelSpec,
    table: Table,
    rows: Array,
    answers: Array,
    labels: int,
    random_state: int,
    encoder: Encoder | None = None,
) -> Fit:
    """Fit `candidate` to these rows. `answers`: indices below `labels`, or amounts if `labels` is 0.

    `encoder` is an existing encoder for these rows and this recipe, if there is one.
    """
    if candidate.parts:
        return _Mean([fit(part, table, rows, answers, labels, random_state) for part in candidate.parts])
    if candidate.per is not None:
        return _Rate(candidate, table, rows, answers, random_state, encoder)
    encoder = encoder or Encoder(table, candidate.recipe, rows, answers, is_class=labels > 0)
    if candidate.family == "histogram":
        return _Histogram(candidate, encoder, rows, answers, labels, random_state)
    if candidate.family == "linear":
        return _Linear(candidate, encoder, rows, answers, labels)
    return _Trees(candidate, encoder, rows, answers, labels, random_state)


def _probabilities(estimator: Any, matrix: Array, labels: int) -> Array:
    """Return a column for each label, including labels that the fitted rows did not have."""
    found = np.zeros((matrix.shape[0], labels))
    found[:, np.asarray(estimator.classes_).astype(int)] = estimator.predict_proba(matrix)
    return found


class _Linear:
    def __init__(self, candidate: ModelSpec, encoder: Encoder, rows: Array, answers: Array, labels: int) -> None:
        self._encoder, self._labels = encoder, labels
        self._highest: float | None = None
        if candidate.logarithmic:
            answers = np.log(answers)
            self._highest = float(answers.max()) + _BEYOND
        matrix = encoder.matrix(rows)
        strength = 10 ** (candidate.size / 2)
        if labels and (encoder.recipe is not None or len(rows) <= MOST_ROWS):
            self._estimator: Any = Logistic(strength, encoder.nearly)
            encoder.nearly = self._estimator
        elif labels:
            from sklearn.linear_model import LogisticRegression

            self._estimator = LogisticRegression(C=strength, max_iter=_ITERATIONS)
        else:
            from sklearn.linear_model import Ridge

            self._estimator = Ridge(alpha=1 / strength, solver="auto" if encoder.recipe is None else "sparse_cg")
        with warnings.catch_warnings():
            # A fit that has not quite converged is judged on held-back rows like any other fit.
            warnings.filterwarnings("ignore", "(?s).*converge", module="sklearn")
            self._estimator.fit(matrix, answers)

    @property
    def one_each(self) -> bool:
        """Whether each label has a model of its own; scikit-learn's estimator has one model for all."""
        return isinstance(self._estimator, Logistic)

    def predict(self, rows: Array) -> Array:
        matrix = self._encoder.matrix(rows)
        if self._labels:
            return _probabilities(self._estimator, matrix, self._labels)
        sums = self._estimator.predict(matrix)
        return sums if self._highest is None else np.exp(np.minimum(sums, self._highest))

    def model(self) -> LinearModel:
        weights = np.atleast_2d(self._estimator.coef_)
        model = self._encoder.linear_model(weights, np.atleast_1d(self._estimator.intercept_))
        return replace(model, highest=self._highest)


class _Mean:
    one_each = False

    def __init__(self, fits: list[Any]) -> None:
        self._fits = fits

    def predict(self, rows: Array) -> Array:
        return np.mean([one.predict(rows) for one in self._fits], axis=0)

    def model(self) -> MeanModel:
        return MeanModel(tuple(one.model() for one in self._fits))


class _Rate:
    one_each = False

    def __init__(
        self,
        candidate: ModelSpec,
        table: Table,
        rows: Array,
        answers: Array,
        random_state: int,
        encoder: Encoder | None,
    ) -> None:
        self._field, self._numbers = str(candidate.per), table.numbers(str(candidate.per))
        self._mean = float(self._numbers[rows].mean())
        rates = answers / self._numbers[rows]
        self._fit = fit(replace(candidate, per=None), table, rows, rates, 0, random_state, encoder)

    def predict(self, rows: Array) -> Array:
        return self._fit.predict(rows) * self._numbers[rows]

    def model(self) -> RateModel:
        return RateModel(self._field, self._mean, cast("LinearModel | TreeModel", self._fit.model()))


class _Trees:
    one_each = False

    def __init__(
        self,
        candidate: ModelSpec,
        encoder: Encoder,
        rows: Array,
        answers: Array,
        labels: int,
        random_state: int,
    ) -> None:
        self._encoder, self._labels, self._summed = encoder, labels, candidate.family == "boosted"
        self._matrix = encoder.plain(rows)
        self._start, self._rate = 0.0, 1.0
        if not self._summed:
            # Import each family only where it is fitted: a first execution should not wait for the others.
            from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

            kind: Any = DecisionTreeClassifier if labels else DecisionTreeRegressor
            self._estimator: Any = kind(max_leaf_nodes=candidate.size, min_samples_leaf=2, random_state=random_state)
        else:
            from sklearn.ensemble import GradientBoostingClassifier, GradientBoostingRegressor

            kind = GradientBoostingClassifier if labels else GradientBoostingRegressor
            # Start the sums at zero (amounts: at their mean), so that the trees alone are the model.
            self._start = 0.0 if labels else float(answers.mean())
            deep = candidate.size == DEEP
            self._rate = _DEEP_RATE if deep else _LEARNING_RATE
            self._estimator = kind(
                n_estimators=_DEEP_ROUNDS if deep else _ROUNDS,
                learning_rate=self._rate,
                max_depth=candidate.size,
                init="zero",
                random_state=random_state,
                **(_DEEP_OPTIONS if deep else {}),
            )
        self._estimator.fit(self._matrix, answers - self._start if not labels else answers)

    def predict(self, rows: Array) -> Array:
        matrix = self._encoder.plain(rows)
        if self._labels:
            return _probabilities(self._estimator, matrix, self._labels)
        return self._estimator.predict(matrix) + self._start

    def model(self) -> TreeModel:
        columns = self._encoder.columns()
        names = [*columns.numbers, *columns.missing, *columns.choices]
        rounds = self._estimator.estimators_ if self._summed else [[self._estimator]]
        trees = tuple(tuple(self._node(tree.tree_, 0, names, self._matrix) for tree in trees) for trees in rounds)
        return TreeModel((self._start,) * len(trees[0]), columns, trees, self._summed)

    def _node(self, tree: Any, place: int, names: list[str], matrix: Array) -> Node:
        below, above = int(tree.children_left[place]), int(tree.children_right[place])
        if below == above:
            value = tree.value[place]
            if self._summed:
                return float(value[0][0]) * self._rate
            if not self._labels:
                return float(value[0][0])
            # Shares or counts, depending on the version of scikit-learn.
            shares = value[0] / max(value[0].sum(), _TINY)
            count, label = int(tree.n_node_samples[place]), int(np.argmax(shares))
            certainty = (float(shares[label]) * count + 1) / (count + self._labels)
            return LabelLeaf(label, round(certainty, 4))
        column = int(tree.feature[place])
        limit = _shortest(float(tree.threshold[place]), matrix[:, column])
        # Only the rows of its branch limit how far a threshold may be rounded; in a sum of trees, all rows do.
        parted = matrix[:, column] <= limit
        left, right = (matrix, matrix) if self._summed else (matrix[parted], matrix[~parted])
        return (names[column], limit, self._node(tree, below, names, left), self._node(tree, above, names, right))


class _Histogram:
    """Boosted trees over binned columns: as good as `_Trees`, and many times as fast with thousands of rows."""

    one_each = False

    def __init__(
        self, candidate: ModelSpec, encoder: Encoder, rows: Array, answers: Array, labels: int, random_state: int
    ) -> None:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        self._encoder, self._labels = encoder, labels
        self._matrix = encoder.plain(rows)
        kind: Any = HistGradientBoostingClassifier if labels else HistGradientBoostingRegressor
        self._estimator: Any = kind(
            max_iter=_ROUNDS,
            learning_rate=_LEARNING_RATE,
            max_leaf_nodes=candidate.size,
            early_stopping=False,
            random_state=random_state,
        )
        self._estimator.fit(self._matrix, answers)

    def predict(self, rows: Array) -> Array:
        matrix = self._encoder.plain(rows)
        return (
            _probabilities(self._estimator, matrix, self._labels) if self._labels else self._estimator.predict(matrix)
        )

    def model(self) -> TreeModel:
        columns = self._encoder.columns()
        names = [*columns.numbers, *columns.missing, *columns.choices]
        trees = tuple(
            tuple(self._node(predictor.nodes, 0, names) for predictor in predictors)
            for predictors in self._estimator._predictors
        )
        start = np.ravel(self._estimator._baseline_prediction)
        return TreeModel(tuple(float(value) for value in start), columns, trees, summed=True)

    def _node(self, nodes: Array, place: int, names: list[str]) -> Node:
        node = nodes[place]
        if node["is_leaf"]:
            return float(node["value"])
        column = int(node["feature_idx"])
        limit = _shortest(float(node["num_threshold"]), self._matrix[:, column], exact=True)
        return (
            names[column],
            limit,
            self._node(nodes, int(node["left"]), names),
            self._node(nodes, int(node["right"]), names),
        )


def _shortest(limit: float, values: Array, *, exact: bool = False) -> float:
    """Return the roundest threshold that splits these values as scikit-learn's does (which compares as float32)."""
    parted = values <= limit if exact else values.astype(np.float32) <= limit
    below, above = values[parted], values[~parted]
    low, high = (float(below.max()) if len(below) else limit), (float(above.min()) if len(above) else limit)
    for digits in range(1, 17):
        for tried in (limit, low, high, (low + high) / 2):
            rounded = float(f"{tried:.{digits}g}")
            if low <= rounded < high:
                return rounded
    return limit
