"""How an input is read. Training calls these functions and programs carry their source, so both read it the same way.

For that reason they only use what Monty supports (`math`, `re` and the patterns below), and never raise.
"""

from __future__ import annotations

import math
import re

# Both regular-expression engines (CPython's and Monty's) agree on explicit ranges, not on `\w`. Every character from
# U+00DF on that is not punctuation is a letter of a word. Japanese and Chinese characters count one by one, since no
# spaces separate their words, and so do pictographs.
WORD_PATTERN = (
    "[0-9a-z\\u00b5\\u00df-\\u00f6\\u00f8-\\u1fff\\u2c00-\\u2dff\\ua000-\\ud7ff\\uf900-\\ufdff]+"
    "|[\\u2600-\\u27bf\\u3040-\\u30ff\\u3400-\\u9fff\\U00010000-\\U0010ffff]"
)
WORD_OR_MARK_PATTERN = WORD_PATTERN + "|[!-/:-@\\[-`{-~]"
CAPITAL_PATTERN = "[A-Z]"
DIGIT_PATTERN = "[0-9]"

WORD = re.compile(WORD_PATTERN)
WORD_OR_MARK = re.compile(WORD_OR_MARK_PATTERN)
CAPITAL = re.compile(CAPITAL_PATTERN)
DIGIT = re.compile(DIGIT_PATTERN)


def at(value: object, path: tuple) -> object:  # type: ignore[type-arg]  # programs carry it: kept plain
    """What stands at this place of the input, or None; a step None means every item of a list."""
    for place, step in enumerate(path):
        if step is None:
            rest = path[place + 1 :]
            return [at(item, rest) for item in value] if isinstance(value, list) else None
        if isinstance(step, str):
            if not isinstance(value, dict) or step not in value:
                return None
        elif not isinstance(value, list) or step >= len(value):
            return None
        value = value[step]
    return value


def texts(value: object) -> str:
    """The texts of a list, one after the other."""
    return " ".join(item for item in value if isinstance(item, str)) if isinstance(value, list) else ""


def total(value: object) -> float | None:
    """The sum of the numbers in a list."""
    if not isinstance(value, list):
        return None
    found = [number(item) for item in value]
    return float(sum(item for item in found if item is not None))


def size(value: object) -> float | None:
    """How many items a list has."""
    return float(len(value)) if isinstance(value, list) else None


def text(value: object) -> str:
    """A text; "" for anything else."""
    return value if isinstance(value, str) else ""


def number(value: object) -> float | None:
    """A number, also one written as a text; None for anything else."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if -1e100 < value < 1e100 else None


def years(value: object) -> float | None:
    """A date such as 2015-03-14, in years; None for anything else."""
    found = re.match("([0-9]{4})-([0-9]{2})-([0-9]{2})(?![0-9])", value) if isinstance(value, str) else None
    if found is None:
        return None
    return int(found.group(1)) + (int(found.group(2)) - 1) / 12 + (int(found.group(3)) - 1) / 372


def choice(value: object) -> str | None:
    """A category's name; None for anything else."""
    return value if isinstance(value, str) else None


def code(value: object) -> int | None:
    """A category's number; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def flag(value: object) -> bool | None:
    """True or False; None for anything else."""
    return value if isinstance(value, bool) else None


def words(text: str) -> list:  # type: ignore[type-arg]  # programs carry it: kept plain
    """The words of a text, in lower case."""
    return WORD.findall(text.lower())


def words_and_marks(text: str) -> list:  # type: ignore[type-arg]  # programs carry it: kept plain
    """The words of a text, in lower case, and its punctuation marks."""
    return WORD_OR_MARK.findall(text.lower())


def trigrams(text: str) -> list:  # type: ignore[type-arg]  # programs carry it: kept plain
    """All runs of three characters in a text's words."""
    line = " " + " ".join(WORD.findall(text.lower())) + " "
    return [line[start : start + 3] for start in range(len(line) - 2)]


def fragments(text: str) -> list:  # type: ignore[type-arg]  # programs carry it: kept plain
    """All runs of one, two and three characters in a text's words."""
    line = " " + " ".join(WORD.findall(text.lower())) + " "
    size = len(line)
    pairs = [line[start : start + 2] for start in range(size - 1)]
    return list(line) + pairs + [line[start : start + 3] for start in range(size - 2)]


def with_pairs(tokens: list) -> list:  # type: ignore[type-arg]  # programs carry it: kept plain
    """The tokens, and each two that stand side by side."""
    return tokens + [first + " " + second for first, second in zip(tokens, tokens[1:])]


def measures(text: str) -> list:  # type: ignore[type-arg]  # programs carry it: kept plain
    """Square root of the length, share of capitals, share of digits, exclamation marks, question marks."""
    size = len(text) or 1
    return [
        math.sqrt(len(text)),
        len(CAPITAL.findall(text)) / size,
        len(DIGIT.findall(text)) / size,
        math.sqrt(text.count("!")),
        math.sqrt(text.count("?")),
    ]


MEASURE_NAMES = ("length", "capitals", "digits", "exclamation marks", "question marks")
