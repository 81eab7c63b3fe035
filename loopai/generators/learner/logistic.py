"""Logistic regression with only numpy, for few rows and for words: importing scikit-learn would take longer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
Solve = Callable[[Array], tuple[Array, float]]

MOST_ROWS = 120  # with few rows, a step solves as many equations as there are rows
_STEPS = 40
_HALVINGS = 20
_LEAST_WEIGHT = 1e-8
_TOLERANCE = 1e-6
_GRADIENT = 1e-3  # share of the first gradient at which the search stops: less would not change any answer
_CLOSE = 0.1  # share of the gradient that a step may leave
_MOST_PRODUCTS = 60  # matrix products in one step
_ENOUGH = 1e-4  # share of the promised gain that a step must achieve


class Logistic:
    """L2-regularised logistic regression; for more than two labels, one model per label, against the others.

    `strength` is scikit-learn's C. `coef_`, `intercept_` and `classes_` are as in scikit-learn. `nearly` is a fit with
    a similar strength on the same rows, from which the search starts.
    """

    def __init__(self, strength: float, nearly: Logistic | None = None) -> None:
        self._strength = strength
        self._nearly = nearly

    def fit(self, matrix: Array, answers: Array) -> Logistic:
        """Fit to a matrix, dense or sparse, and the labels of its rows."""
        self.classes_ = np.unique(answers)
        wanted = self.classes_[1:] if len(self.classes_) == 2 else self.classes_
        solve = self._for_few(matrix) if matrix.shape[0] <= MOST_ROWS else None
        rows, starts = [], []
        for place, label in enumerate(wanted):
            truth = (answers == label).astype(float)
            row, start = solve(truth) if solve is not None else self._for_many(matrix, truth, place)
            rows.append(row)
            starts.append(start)
        self.coef_ = np.array(rows)
        self.intercept_ = np.array(starts)
        self._nearly = None  # it refers to an earlier fit in turn
        return self

    def predict_proba(self, matrix: Array) -> Array:
        """Return the probability of each label, one row for each row of the matrix."""
        shares = _shares(np.asarray(matrix @ self.coef_.T) + self.intercept_)
        if len(self.classes_) == 2:
            return np.column_stack([1 - shares[:, 0], shares[:, 0]])
        return shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-300)

    def _for_few(self, matrix: Array) -> Solve:
        products = matrix @ matrix.T
        kernel = np.asarray(products.todense() if hasattr(products, "todense") else products, dtype=float)

        def solve(truth: Array) -> tuple[Array, float]:
            dual, start = _solved_by_rows(kernel, truth, self._strength)
            return np.asarray(matrix.T @ dual).ravel(), start

        return solve

    def _for_many(self, matrix: Array, truth: Array, place: int) -> tuple[Array, float]:
        weights, start = np.zeros(matrix.shape[1]), 0.0
        if self._nearly is not None and self._nearly.coef_.shape[1] == len(weights):
            weights, start = self._nearly.coef_[place].copy(), float(self._nearly.intercept_[place])
        return _solved_by_columns(matrix, truth, self._strength, weights, start)


def _shares(scores: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(scores, -500, 500)))


def _solved_by_rows(kernel: Array, truth: Array, strength: float) -> tuple[Array, float]:
    """Return the rows' weights and the intercept, by Newton steps that are halved while they make the fit worse."""
    count = len(truth)
    dual, start = np.zeros(count), 0.0
    loss = _loss_by_rows(kernel, dual, start, truth, strength)
    for _ in range(_STEPS):
        scores = kernel @ dual + start
        shares = _shares(scores)
        weights = np.maximum(shares * (1 - shares), _LEAST_WEIGHT)
        system = np.zeros((count + 1, count + 1))
        system[:count, :count] = kernel + np.diag(1 / (strength * weights))
        system[:count, count] = system[count, :count] = 1.0
        solved = np.linalg.lstsq(system, np.append(scores + (truth - shares) / weights, 0.0), rcond=None)[0]
        step, size = (solved[:count] - dual, solved[count] - start), 1.0
        for _ in range(_HALVINGS):
            tried = (dual + size * step[0], start + size * step[1])
            new = _loss_by_rows(kernel, *tried, truth, strength)
            if new <= loss:
                break
            size /= 2
        else:
            break
        (dual, start), gained, loss = tried, loss - new, new
        if gained < _TOLERANCE * max(1.0, abs(loss)):
            break
    return dual, float(start)


def _loss_by_rows(kernel: Array, dual: Array, start: float, truth: Array, strength: float) -> float:
    return _misfit(kernel @ dual + start, truth, strength) + float(dual @ kernel @ dual / 2)


def _misfit(scores: Array, truth: Array, strength: float) -> float:
    return float(strength * np.logaddexp(0, np.where(truth > 0, -scores, scores)).sum())


def _solved_by_columns(
    matrix: Array, truth: Array, strength: float, weights: Array, start: float
) -> tuple[Array, float]:
    """Return the columns' weights and the intercept, by Newton steps whose equations are solved approximately."""
    across = matrix.T.tocsr() if hasattr(matrix, "tocsr") else matrix.T
    steepest = float(np.linalg.norm(_gradient(across, np.full(len(truth), 0.5), truth, strength, 0 * weights)))
    scores = matrix @ weights + start
    loss = _misfit(scores, truth, strength) + weights @ weights / 2
    for _ in range(_STEPS):
        shares = _shares(scores)
        gradient = _gradient(across, shares, truth, strength, weights)
        if np.linalg.norm(gradient) <= _GRADIENT * steepest:
            break
        curvature = strength * shares * (1 - shares)
        step = _newton_step(matrix, across, curvature, gradient)
        moved = matrix @ step[:-1] + step[-1]
        slope, size = float(gradient @ step), 1.0
        for _ in range(_HALVINGS):
            tried = weights + size * step[:-1]
            new = _misfit(scores + size * moved, truth, strength) + tried @ tried / 2
            if new <= loss + _ENOUGH * size * slope:
                break
            size /= 2
        else:
            break
        weights, start, scores, loss = tried, start + size * float(step[-1]), scores + size * moved, new
    return weights, start


def _gradient(across: Array, shares: Array, truth: Array, strength: float, weights: Array) -> Array:
    missed = strength * (shares - truth)
    return np.append(weights + across @ missed, missed.sum())


def _newton_step(matrix: Array, across: Array, curvature: Array, gradient: Array) -> Array:
    """Solve for the step by conjugate gradients."""
    step = np.zeros_like(gradient)
    rest = -gradient
    direction, square = rest.copy(), float(rest @ rest)
    enough = (_CLOSE**2) * square
    for _ in range(_MOST_PRODUCTS):
        bent = curvature * (matrix @ direction[:-1] + direction[-1])
        product = np.append(direction[:-1] + across @ bent, bent.sum())
        length = float(direction @ product)
        if length <= 0:
            break
        size = square / length
        step += size * direction
        rest -= size * product
        square, before = float(rest @ rest), square
        if square <= enough:
            break
        direction = rest + square / before * direction
    return step
