"""Logistic regression for few rows, with numpy alone: importing scikit-learn takes longer than these fits."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any

MOST_ROWS = 120  # a step solves as many equations as there are rows
_STEPS = 40
_HALVINGS = 20
_LEAST_WEIGHT = 1e-8
_TOLERANCE = 1e-6


class SmallLogistic:
    """L2-regularised logistic regression; of more than two labels one model a label, against the others.

    `strength` is scikit-learn's C. `coef_`, `intercept_` and `classes_` are as scikit-learn has them.
    """

    def __init__(self, strength: float) -> None:
        self._strength = strength

    def fit(self, matrix: Array, answers: Array) -> SmallLogistic:
        """Fit to a matrix, dense or sparse, and the labels of its rows."""
        self.classes_ = np.unique(answers)
        products = matrix @ matrix.T
        kernel = np.asarray(products.todense() if hasattr(products, "todense") else products, dtype=float)
        wanted = self.classes_[1:] if len(self.classes_) == 2 else self.classes_
        rows, starts = [], []
        for label in wanted:
            dual, start = _solved(kernel, (answers == label).astype(float), self._strength)
            rows.append(np.asarray(matrix.T @ dual).ravel())
            starts.append(start)
        self.coef_ = np.array(rows)
        self.intercept_ = np.array(starts)
        return self

    def predict_proba(self, matrix: Array) -> Array:
        """Return each label's probability, one row a row of the matrix."""
        scores = np.asarray(matrix @ self.coef_.T) + self.intercept_
        shares = 1 / (1 + np.exp(-np.clip(scores, -500, 500)))
        if len(self.classes_) == 2:
            return np.column_stack([1 - shares[:, 0], shares[:, 0]])
        return shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-300)


def _solved(kernel: Array, truth: Array, strength: float) -> tuple[Array, float]:
    """Return the weights of the rows and the intercept, by Newton steps that are halved while they make it worse."""
    count = len(truth)
    dual, start = np.zeros(count), 0.0
    loss = _loss(kernel, dual, start, truth, strength)
    for _ in range(_STEPS):
        scores = kernel @ dual + start
        shares = 1 / (1 + np.exp(-np.clip(scores, -500, 500)))
        weights = np.maximum(shares * (1 - shares), _LEAST_WEIGHT)
        system = np.zeros((count + 1, count + 1))
        system[:count, :count] = kernel + np.diag(1 / (strength * weights))
        system[:count, count] = system[count, :count] = 1.0
        solved = np.linalg.lstsq(system, np.append(scores + (truth - shares) / weights, 0.0), rcond=None)[0]
        step, size = (solved[:count] - dual, solved[count] - start), 1.0
        for _ in range(_HALVINGS):
            tried = (dual + size * step[0], start + size * step[1])
            new = _loss(kernel, *tried, truth, strength)
            if new <= loss:
                break
            size /= 2
        else:
            break
        (dual, start), gained, loss = tried, loss - new, new
        if gained < _TOLERANCE * max(1.0, abs(loss)):
            break
    return dual, float(start)


def _loss(kernel: Array, dual: Array, start: float, truth: Array, strength: float) -> float:
    scores = kernel @ dual + start
    return float(strength * np.logaddexp(0, np.where(truth > 0, -scores, scores)).sum() + dual @ kernel @ dual / 2)
