"""Write a linear model as source: its tables of weights and the function that sums them."""

from __future__ import annotations

from ..literals import comment, literal, rounded, row, table
from .learnt import TIMES, Learnt, LinearModel, Row, Words, WordTerms
from .reading import MEASURE_NAMES

CERTAIN = ", and how certain it is"
_WORD_DIGITS = 3  # digits of a word's weight: in sums of thousands, errors in the last digit cancel out


def linear_source(one: Learnt, model: LinearModel, function: str, prefix: str) -> str:
    """The tables and the function of one output field."""
    many = len(model.start) > 1
    tables = ["\n".join(comment(_legend(one, model))), *_tables(model, prefix, one)]
    if model.words is not None:
        tables.extend(_word_tables(model.words, prefix, many=many))
    body = [
        f"def {function}(fields):",
        f'    """{_told(one, model)}"""',
        start_line(model.start),
        *_sums(model, prefix, many=many),
        *(answer_lines(one, prefix, many=many) if model.highest is None else _exponential(one, model.highest)),
    ]
    return "\n".join(tables) + "\n\n\n" + "\n".join(body)


def answer_lines(one: Learnt, prefix: str, *, many: bool) -> list[str]:
    """The lines that turn the score or scores into the answer."""
    if many:
        certainty = f"certainty_of_{'each' if one.one_each else 'many'}(scores, {one.scale!r})"
        return [f"    return {prefix}LABELS[scores.index(max(scores))], {certainty}"]
    if one.target.is_class:
        certainty = f"certainty_of_two(score, {one.scale!r})"
        return [f"    return {prefix}LABELS[1] if score > 0 else {prefix}LABELS[0], {certainty}"]
    return [amount_line(one, "score")]


def amount_line(one: Learnt, amount: str) -> str:
    """The line that returns an amount, rounded if amounts are whole."""
    return f"    return round({amount})" if one.target.whole else f"    return {amount}"


def _exponential(one: Learnt, highest: float) -> list[str]:
    return [amount_line(one, f"math.exp(min(score, {rounded(highest, 6)}))")]


def start_line(start: Row) -> str:
    """The start of the sums: literals, since Monty's host treats a name as a value that may be shared."""
    shown = [rounded(value, 6) for value in start]
    return f"    scores = [{', '.join(shown)}]" if len(shown) > 1 else f"    score = {shown[0]}"


def labels_line(one: Learnt, prefix: str) -> str:
    """The answers to choose from."""
    return f"{prefix}LABELS = [{', '.join(literal(label) for label in one.target.labels)}]"


def _legend(one: Learnt, model: LinearModel) -> str:
    if model.highest is not None:
        return f"What adds to the logarithm of {one.target.name}, and what takes from it (negative)."
    if not one.target.is_class:
        return f"What adds to {one.target.name}, and what takes from it (negative)."
    if len(one.target.labels) > 2:
        return f"What speaks for each answer of {one.target.name}, in the order of the labels."
    first, second = (literal(label) for label in one.target.labels)
    return f"What speaks for {second}, or (negative) for {first}."


def _told(one: Learnt, model: LinearModel) -> str:
    if model.highest is not None:
        return "e to the power of the sum of what each field adds."
    if not one.target.is_class:
        return "The sum of what each field adds."
    return f"The answer for which most speaks{CERTAIN}."


def _tables(model: LinearModel, prefix: str, one: Learnt) -> list[str]:
    lines = [labels_line(one, prefix)] if one.target.is_class else []
    if model.numbers:
        lines.append("# A number's mean, and what each unit above it adds.")
        entries = [f"{literal(term.field)}: ({rounded(term.mean, 7)}, {row(term.weights)})" for term in model.numbers]
        lines.append(f"{prefix}NUMBERS = {table(entries)}")
        gaps = [f"{literal(term.field)}: {row(term.missing)}" for term in model.numbers if any(term.missing)]
        if gaps:
            lines.append(f"# What a missing number adds.\n{prefix}MISSING = {table(gaps)}")
    if model.measures:
        lines.append(f"# Measures of the texts ({', '.join(MEASURE_NAMES)}): field, which, mean, weight.")
        entries = [
            f"({literal(term.field)}, {term.index}, {rounded(term.mean, 7)}, {row(term.weights)})"
            for term in model.measures
        ]
        lines.append(f"{prefix}MEASURES = [" + table(entries)[1:-1] + "]")
    if model.choices:
        lines.append("# What each category adds.")
        entries = [
            f"{literal(field)}: "
            + table([f"{literal(value)}: {row(weights)}" for value, weights in values.items()], indent=4)
            for field, values in model.choices.items()
        ]
        lines.append(f"{prefix}CHOICES = {{\n" + "".join(f"    {entry},\n" for entry in entries) + "}")
    return lines


def _word_tables(words: Words, prefix: str, *, many: bool) -> list[str]:
    weighted = words.weighting == "tf-idf"
    lines = []
    if words.weighting != "binary":
        lines.append("# How much a word counts that stands in a text once, twice and so on.")
        lines.append(f"{prefix}TIMES = [" + table([repr(value) for value in TIMES])[1:-1] + "]")
    lines.append(f"# Words, the strongest first{', each with its weight and its rarity' if weighted else ''}.")
    tables = []
    for term in words.terms:
        ordered = sorted(term.weights.items(), key=lambda entry: (-max(map(abs, entry[1][0])), entry[0]))
        entries = []
        for word, (weights, rarity) in ordered:
            shown = row(tuple(weight * rarity for weight in weights), _WORD_DIGITS)
            entries.append(f"{literal(word)}: ({shown}, {rarity!r})" if weighted else f"{literal(word)}: {shown}")
        tables.append(f"    {_texts(term)}: {table(entries, indent=4)},\n")
    lines.append(f"{prefix}WORDS = {{\n{''.join(tables)}}}")
    return lines


def _texts(term: WordTerms) -> str:
    return literal(" + ".join(term.fields))


def _sums(model: LinearModel, prefix: str, *, many: bool) -> list[str]:
    lines = []
    if model.numbers:
        lines += [
            f"    for name, (mean, {'weights' if many else 'weight'}) in {prefix}NUMBERS.items():",
            "        value = fields[name]",
            "        if value is not None:",
            "            " + _add("weight * (value - mean)", "weights", many=many),
        ]
        if any(any(term.missing) for term in model.numbers):
            lines.append(f"        elif name in {prefix}MISSING:")
            lines.append("            " + _add_row(f"{prefix}MISSING[name]", many=many))
    if model.measures:
        names = list(dict.fromkeys(term.field for term in model.measures))
        measured = ", ".join(f"{literal(name)}: measures(fields[{literal(name)}])" for name in names)
        lines += [
            f"    measured = {{{measured}}}",
            f"    for name, which, mean, {'weights' if many else 'weight'} in {prefix}MEASURES:",
            "        value = measured[name][which]",
            "        " + _add("weight * (value - mean)", "weights", many=many),
        ]
    if model.choices:
        lines.append(f"    for name, weights in {prefix}CHOICES.items():")
        lines.append("        if fields[name] in weights:")
        lines.append("            " + _add_row("weights[fields[name]]", many=many))
    if model.words is not None:
        lines += _word_sums(model.words, prefix, len(model.start))
    return lines


def _add(addend: str, weights: str, *, many: bool) -> str:
    if many:
        return f"scores = [score + {addend} for score, weight in zip(scores, {weights})]"
    return f"score += {addend}"


def _add_row(weights: str, *, many: bool) -> str:
    return _add("weight", weights, many=True) if many else f"score += {weights}"


def _found(addend: str, weights: str, *, many: bool) -> str:
    if many:
        return f"found = [total + {addend} for total, weight in zip(found, {weights})]"
    return f"found += {addend}"


def _word_sums(words: Words, prefix: str, answers: int) -> list[str]:
    many = answers > 1
    lines = ["    for weights, tokens in ("]
    for term in words.terms:
        read = [f"{words.tokens}(fields[{literal(field)}])" for field in term.fields]
        if words.pairs:
            read = [f"with_pairs({one})" for one in read]
        lines.append(f"        ({prefix}WORDS[{_texts(term)}], {' + '.join(read)}),")
    lines.append("    ):")
    if words.weighting == "binary":
        # Insertion order, unlike a set's order, is the same wherever the program runs, and so is the sum.
        return [
            *lines,
            "        for word in dict.fromkeys(tokens):",
            "            if word in weights:",
            "                " + _add_row("weights[word]", many=many),
        ]
    weighted = words.weighting == "tf-idf"
    own = "known[0]" if weighted else "known"
    last = len(TIMES) - 1
    # One look-up per distinct word and no unpacking: each step costs Monty five times as much as CPython. Most words
    # occur once in a text, so that case has its own branch: a sixth less time for an e-mail.
    lines = [
        f"    found = {'[0.0] * ' + str(answers) if many else '0.0'}",
        "    squares = 0.0",
        *lines,
        "        for word, count in Counter(tokens).items():",
        "            known = weights.get(word)",
        "            if known is not None:",
        "                if count == 1:",
        f"                    squares += {'known[1] * known[1]' if weighted else '1.0'}",
        f"                    {_found('weight' if many else own, own, many=many)}",
        "                else:",
        f"                    times = {prefix}TIMES[count] if count < {last} else {prefix}TIMES[{last}]",
        f"                    length = {'times * known[1]' if weighted else 'times'}",
        "                    squares += length * length",
        f"                    {_found('weight * times' if many else f'{own} * times', own, many=many)}",
    ]
    lines.append("    if squares:")
    if many:
        lines.append("        scores = [score + total / math.sqrt(squares) for score, total in zip(scores, found)]")
    else:
        lines.append("        score += found / math.sqrt(squares)")
    return lines
