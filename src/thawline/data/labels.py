"""Labels as people write them: what is no class at all, and what looks like one class written in two ways."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from thawline.data.listing import Label
from thawline.errors import DataError
from thawline.naming import canonical, quoted, written
from thawline.showing import counted, printable

MANY = 20
"""Distinct numbers with a fractional part above which labels are measurements, however often each occurs."""
_SEPARATORS = ("|", ";", ",", " ")
_RARE = ("|", ";")
"""Of these, those that hardly any name of a class holds."""
_LIST = re.compile(r"\[.*[,'\"].*\]")
_MISSING = ("", "nan")


def is_missing(value: object) -> bool:
    """Tell an empty label: None, NaN, blanks, or the ``nan`` that NumPy and pandas print."""
    if isinstance(value, str):
        return value.strip().lower() in _MISSING
    return value is None or (isinstance(value, float) and math.isnan(value))


def clean_labels(
    values: Sequence[Any], at: Callable[[int], str], where: str, *, whole: bool = True
) -> tuple[tuple[Label, ...], list[str]]:
    """Return labels (N,) as text without blanks around it or as integers, and what a user should know of them.

    Args:
        values: (N,) as they were read; a number without a fractional part may be a float.
        at: Names the place of a row: ``line 8``.
        where: Names the table or argument, for errors.
        whole: These are all labels of the data, to be split and trained on; False if few may have one class.
    Raises:
        DataError: A label is missing, is no text or number, or the labels are measurements or several in one.
    """
    empty = [row for row, value in enumerate(values) if is_missing(value)]
    if empty:
        count = "" if len(empty) == 1 else f" (so have {len(empty):,} of {len(values):,})"
        rows = "the row" if len(empty) == 1 else "these rows"
        raise DataError(f"{where}: {at(empty[0])} has no label{count}. Fill it in, or remove {rows}.")
    for row, value in enumerate(values):
        if isinstance(value, list | tuple | set | dict):
            raise DataError(f"{where}: {at(row)} has a list of labels, {value!r}. {ONE_LABEL}")
        if not isinstance(value, str | int | float):
            raise DataError(f"{where}: labels must be text or whole numbers; got {value!r} in {at(row)}.")
    counts = Counter(values)
    cleaned = {value: value.strip() if isinstance(value, str) else _whole(value) for value in counts}
    tally: Counter[Label | float] = Counter()
    for value, n in counts.items():
        tally[cleaned[value]] += n
    _refuse_several(tally, where)
    _refuse_measurements(tally, where, whole=whole)
    labels: list[Label] = []
    for row, value in enumerate(values):
        label = cleaned[value]
        if isinstance(label, float):
            raise DataError(f"{where}: labels must be text or whole numbers; got {label!r} in {at(row)}.")
        labels.append(label)
    return tuple(labels), [*_blanks(counts, cleaned), *variants(tally), *_quantities(tally)]


ONE_LABEL = "Read them as labels, of which a sample may have several, with --target labels; or keep one for each."


def _whole(value: int | float) -> int | float:
    """Return 1 for 1.0: a column of numbers with gaps is one of floats."""
    return int(value) if not isinstance(value, float) or value.is_integer() else value


def _number(label: Label | float) -> float | None:
    if not isinstance(label, str):
        return float(label)
    try:
        number = float(label.replace(",", ".")) if label[-1:].isdigit() else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _refuse_measurements(counts: Mapping[Label | float, int], where: str, *, whole: bool) -> None:
    """Refuse many different numbers with fractional parts and, if there is no more, labels most of which occur once."""
    n = sum(counts.values())
    once = sum(count == 1 for count in counts.values())
    single = whole and once >= 10 and 2 * once > n
    numbers = [_number(label) for label in counts]
    known = [number for number in numbers if number is not None]
    if len(known) == len(numbers):
        broken = any(not number.is_integer() for number in known)
        many = len(counts) > MANY or (whole and len(counts) > 2 and 3 * len(counts) > n)
        if single or (broken and many):
            raise DataError(
                f"{where}: the labels look like measurements or counts ({len(counts)} different numbers from "
                f"{min(known):g} to {max(known):g} in {n} rows). Learn them as numbers with --target number, name "
                "another column (--label-column), or write classes such as low and high."
            )
    if single:
        first = next(label for label, count in counts.items() if count == 1)
        raise DataError(
            f"{where}: {once:,} of {n:,} labels occur once, such as {printable(first, 60)!r}, so they look like ids or "
            "texts, not classes. Name the column of classes (--label-column), or leave out classes with one sample."
        )


def _refuse_several(counts: Mapping[Label | float, int], where: str) -> None:
    """Refuse cells with several labels: their parts are labels themselves, or come back in ever new company."""
    texts = {label for label in counts if isinstance(label, str)}
    listed = next((text for text in sorted(texts) if _LIST.fullmatch(text)), None)
    if listed is not None:
        raise DataError(f"{where}: {listed!r} is a list of labels. {ONE_LABEL}")
    for separator in _SEPARATORS:
        several = {text: parts for text in texts if len(parts := _parts(text, separator)) > 1}
        telling = any if separator in _RARE else all
        together = sorted(text for text, parts in several.items() if telling(part in texts for part in parts))
        if len(together) > (separator == " ") or _recombine(texts, several, separator):
            n = sum(counts[text] for text in several)
            first = (together or sorted(several))[0]
            have = "has" if n == 1 else "have"
            raise DataError(
                f"{where}: {counted(n, 'row')} {have} several labels in one cell, such as {first!r}. {ONE_LABEL}"
            )


def _parts(text: str, separator: str) -> list[str]:
    return [part.strip() for part in text.split(separator) if part.strip()]


def _recombine(texts: set[str], several: Mapping[str, Sequence[str]], separator: str) -> bool:
    """Tell labels whose parts form ever new sets of different size, as ``clear primary`` and ``haze primary water``."""
    sizes = {len(_parts(text, separator)) for text in texts}
    parts = {part for found in several.values() for part in found}
    if separator == " ":  # "ace of clubs", "two of hearts" and "joker" are names
        return 2 * len(several) >= len(texts) and len(sizes) > 2 and 3 * len(parts) <= len(texts)
    return len(several) >= 4 and len(sizes) > 1 and 2 * len(parts) <= len(texts)


def _blanks(counts: Mapping[Any, int], cleaned: Mapping[Any, Label | float]) -> list[str]:
    """Say which labels became one because the blanks around them are not read."""
    written = defaultdict(list)
    for value, label in cleaned.items():
        written[label].append(value)
    merged = [values for values in written.values() if len(values) > 1 and all(isinstance(v, str) for v in values)]
    padded = [value for values in merged for value in values if value != value.strip()]
    if not padded:
        return []
    n = sum(counts[value] for value in padded)
    labels = f"{counted(n, 'label')} {'has blanks around it' if n == 1 else 'have blanks around them'}"
    return [f"{labels}, which are not read: {padded[0]!r} is {padded[0].strip()!r}."]


def variants(counts: Mapping[Label | float, int]) -> list[str]:
    """Say which classes differ only in case, or in blanks, hyphens and underscores; they stay apart."""
    n = Counter[str]()  # of each name, whichever form its accents have: two forms of one are one class
    for label, count in counts.items():
        if isinstance(label, str):
            n[canonical(written(label))] += count
    alike = defaultdict(list)
    for name in n:
        folded = name.casefold()
        plain = not any(ch.isdigit() for ch in folded)  # 1-1 and 11 are two
        alike["".join(ch for ch in folded if ch not in " _-") if plain else folded].append(name)
    pairs = [sorted(labels) for labels in alike.values() if len(labels) > 1]
    said = []
    for labels in pairs[:3]:
        shown = " and ".join(f"{quoted(label)} ({n[label]})" for label in labels[:3])
        usual = max(labels, key=lambda label: n[label])
        same = len({label.casefold() for label in labels}) == 1
        how = "case" if same else "case, blanks or hyphens"
        said.append(
            f"Classes {shown} differ only in {how} and are kept apart. Did you mean {quoted(usual)} for all of them? "
            "Write them the same way if so."
        )
    return said


def _quantities(counts: Mapping[Label | float, int]) -> list[str]:
    """Say that many whole numbers with gaps, such as ages and years, are read as classes."""
    numbers = [_number(label) for label in counts]
    known = sorted(number for number in numbers if number is not None)
    if len(known) < max(len(numbers), MANY + 1) or known[-1] - known[0] == len(known) - 1:
        return []
    return [
        f"The labels are {len(known)} whole numbers from {known[0]:g} to {known[-1]:g}; each is a class of its own, "
        "and their order is not used. Quantities such as ages or years are learned as numbers with --target number."
    ]
