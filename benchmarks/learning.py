"""Rows to learn from, made by formulas or from Django's translations, and how often programs are wrong on them."""

from __future__ import annotations

import functools
import gettext
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loopai.generators import Candidate, TaskDescription, generate
from loopai.programs import Program, ProgramPool

Rows = list[tuple[Any, Any]]
LANGUAGES = "da de en_GB es fi fr hu it nl nb pl pt ro sk sv tr uk ru bg cs".split()  # noqa: SIM905 reads better


def _rows(count: int, value: Callable[[random.Random], Any], formula: Callable[[Any], Any]) -> Rows:
    chance = random.Random(0)
    values = [value(chance) for _ in range(count)]
    return [(one, formula(one)) for one in values]


def amounts() -> list[Rows]:
    """Exact amounts: in the text, or by arithmetic."""

    def order(chance: random.Random) -> dict[str, Any]:
        return {"qty": chance.randint(1, 50), "price": chance.randint(50, 9999) / 100}

    return [
        _rows(330, lambda c: f"Total due: ${c.randint(100, 999_999) / 100:,.2f} by May",
              lambda text: float(text.partition("$")[2].split()[0].replace(",", ""))),
        _rows(330, order, lambda row: row["qty"] * 2.5),
        _rows(330, order, lambda row: round(row["qty"] * row["price"], 2)),
        _rows(330, lambda c: {"c": c.randint(-400, 1000) / 10}, lambda row: round(row["c"] * 9 / 5 + 32, 1)),
        _rows(330, lambda c: f"{c.randint(3, 7)} ft {c.randint(0, 11)} in",
              lambda text: int(text.split()[0]) * 12 + int(text.split()[2])),
    ]  # fmt: skip


def rule() -> Rows:
    """Amounts above 100 in one country."""
    return _rows(
        3200,
        lambda c: {"amount": c.randint(100, 30_000) / 100, "country": c.choice(["DE", "FR", "US", "IT"])},
        lambda row: "review" if row["amount"] > 100 and row["country"] == "DE" else "pass",
    )


def profits() -> Rows:
    """A retailer's profit, from category, discount and sales, with a text and noise."""
    margins = {"Technology": 0.28, "Furniture": 0.12, "Office Supplies": 0.4}
    chance = random.Random(0)
    found = []
    for _ in range(2500):
        product = chance.choice(["Oak bookcase", "Bic pens", "Laser printer", "Desk lamp"])
        category, discount = chance.choice(list(margins)), chance.choice([0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.5, 0.7])
        sales = round(chance.lognormvariate(4.5, 1.2), 2)
        value = {"product": product, "category": category, "sales": sales, "discount": discount}
        found.append((value, round(sales * (margins[category] - discount * 1.1) + chance.gauss(0, 15), 2)))
    return found


def lookups() -> tuple[Rows, Rows]:
    """Keys with their names, some twice."""
    chance = random.Random(0)
    names = {f"K{number}": f"Name {chance.randint(1, 10**6)}" for number in range(60)}
    keys = [*names, *chance.choices(list(names), k=90)]
    return [({"key": key}, names[key]) for key in keys], [({"key": key}, name) for key, name in names.items()]


def frauds() -> tuple[Rows, Rows]:
    """One text in a hundred is fraud; the test rows are only frauds."""
    words = "meeting lunch report invoice please send today project thanks team".split()  # noqa: SIM905 reads better
    chance = random.Random(0)
    rows: Rows = []
    for _ in range(5000):
        fraud = chance.random() < 0.01
        text = chance.choices(words, k=12)
        if fraud or chance.random() < 0.01:
            text[chance.randrange(12)] = "wire"
        if fraud:
            text[chance.randrange(12)] = chance.choice(["urgent", "password"])
        rows.append(({"text": " ".join(text)}, "fraud" if fraud else "ok"))
    return rows[:2500], [row for row in rows[2500:] if row[1] == "fraud"]


def languages() -> tuple[Rows, Rows]:
    """Sentences of Django's own translations: 60 of each language to learn from, up to 30 others."""
    import django

    shown, others = [], []
    for language in LANGUAGES:
        found: set[str] = set()
        for path in sorted(Path(django.__file__).parent.glob(f"**/locale/{language}/LC_MESSAGES/django.mo")):
            with path.open("rb") as file:
                catalogue = vars(gettext.GNUTranslations(file))["_catalog"]
            found |= {text for key, text in catalogue.items() if key and 30 <= len(text) <= 150 and "%" not in text}
        chosen = sorted(found)
        random.Random(0).shuffle(chosen)
        shown += [(text, language) for text in chosen[:60]]
        others += [(text, language) for text in chosen[60:90]]
    return shown, others


def _outputs(shown: Rows, others: Rows) -> list[Any]:
    made = generate(TaskDescription("rows"), [{"input": value, "output": output} for value, output in shown])
    if not isinstance(made, Candidate):
        raise TypeError(made.reason)
    with ProgramPool() as pool:
        return [one.output for one in pool.run_many(Program(made.code), [value for value, _ in others])]


def wrong(shown: Rows, others: Rows) -> float:
    """The share of the other rows that a program learnt from the shown rows gets wrong."""
    outputs = _outputs(shown, others)
    return float(sum(one != output for one, (_, output) in zip(outputs, others)) / len(others))


def unexplained(shown: Rows, others: Rows) -> float:
    """One minus R² on the other rows."""
    return _unexplained(_outputs(shown, others), others)


@functools.lru_cache(maxsize=1)
def amounts_wrong() -> float:
    """The largest share of rows that is wrong for any kind of amount."""
    return max(wrong(rows[:30], rows[30:]) for rows in amounts())


def pipeline_wrong(shown: Rows, others: Rows) -> float:
    """The same as `wrong` for a logistic regression on one-hot columns, or on character n-grams of texts."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    pipeline = make_pipeline(_columns(shown), LogisticRegression(C=30, max_iter=2000))
    pipeline.fit([_flat(value) for value, _ in shown], [output for _, output in shown])
    return 1 - float(pipeline.score([_flat(value) for value, _ in others], [output for _, output in others]))


def boosting_unexplained(shown: Rows, others: Rows) -> float:
    """The same as `unexplained` for scikit-learn's HistGradientBoosting on one-hot columns, without the texts."""
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.pipeline import make_pipeline

    def tidy(value: dict[str, Any]) -> dict[str, Any]:
        return {key: inner for key, inner in value.items() if key != "product"}

    pipeline = make_pipeline(DictVectorizer(sparse=False), HistGradientBoostingRegressor(random_state=0))
    pipeline.fit([tidy(value) for value, _ in shown], [output for _, output in shown])
    return _unexplained(pipeline.predict([tidy(value) for value, _ in others]), others)


def _unexplained(outputs: Any, others: Rows) -> float:
    mean = sum(output for _, output in others) / len(others)
    missed = sum((float(one) - output) ** 2 for one, (_, output) in zip(outputs, others))
    return float(missed / sum((output - mean) ** 2 for _, output in others))


def _columns(shown: Rows) -> Any:
    from sklearn.feature_extraction import DictVectorizer
    from sklearn.feature_extraction.text import TfidfVectorizer

    return (
        DictVectorizer()
        if isinstance(_flat(shown[0][0]), dict)
        else TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3))
    )


def _flat(value: Any) -> Any:
    return value["text"] if isinstance(value, dict) and set(value) == {"text"} else value
