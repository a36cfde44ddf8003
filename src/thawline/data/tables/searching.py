"""Find files that are not where a table says, by the ends of their names: other machines, sub-folders, addresses."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from thawline.data.folders.words import part_of
from thawline.data.tables.finding import Finder, Folder, Found, folded, steps_of
from thawline.errors import DataError
from thawline.inputs.image.formats import SUFFIXES, promises_picture
from thawline.naming import shell_word
from thawline.showing import counted, few

Key = Callable[[str], str]
_TRIED, _SEARCHED = 20, 2_000
"""Cells that are looked up to find out whether a column names files, and folders that are searched for them."""


class _Place(NamedTuple):
    """One file that a name may mean."""

    path: str
    base: str
    """Folder that the common tail of folders starts from."""


def search_below(finder: Finder, names: Sequence[str], found: Found, labels: Sequence[object] | None = None) -> None:
    """Fill in the paths of missing files that lie below the root in another place, and say so.

    If most files are where the table says, the others are not used from elsewhere: somebody may have set them apart.
    Of several files of one name, the one whose folders end most like the name wins; of equal ones, the one in the
    folder called like its label, or below the only folder that holds all. If no file at all is found, other suffixes,
    and numbers without zeros, are tried.

    Raises:
        DataError: Two folders hold these files.
    """
    steps = {row: tuple(parts) for row in found.missing() if (parts := steps_of(names[row]))}
    if not steps:
        return
    in_place = len(found.rows())
    for key, how in _KEYS[:1] if in_place else _KEYS:
        places = _places(finder, steps, key)
        if in_place > len(steps):
            for row, (place, *_) in places.items():
                found.reasons[row] += f" (one of that name is {os.path.relpath(place.path, finder.root)})"
            return
        if labels is not None:
            places = {row: _of_class(several, str(labels[row])) for row, several in places.items()}
        chosen = _choose(finder, names, places)
        if chosen:
            _keep(finder, names, found, chosen, how)
            return


def names_files(cells: Sequence[object], root: Path, beside: Path) -> bool:
    """Tell whether most of these cells name files that are there, or below in folders that are not too many."""
    names = [str(cell).strip() for cell in cells if cell is not None and str(cell).strip()][:_TRIED]
    if not names:
        return False
    finder = Finder(root, beside, most_folders=_SEARCHED)
    found = finder.find_all(names)
    if not found.rows():
        with suppress(DataError):  # there are too many folders, or two files of one name
            search_below(finder, names, found)
    return 2 * (len(found.rows()) + len(found.outside)) > len(names)


def _whole(name: str) -> str:
    return folded(name)


def _stem(name: str) -> str:
    return folded(os.path.splitext(name)[0] if promises_picture(name) else name)  # noqa: PTH122


def _number(name: str) -> str:
    stem = _stem(name)
    return stem.lstrip("0") or "0" if stem.isdigit() else stem


_KEYS: tuple[tuple[Key, str], ...] = (
    (_whole, ""),
    (_stem, " with another suffix"),
    (_number, " with zeros before the number"),
)


def _places(finder: Finder, steps: Mapping[int, tuple[str, ...]], key: Key) -> dict[int, list[_Place]]:
    """Return the files that each row may mean: of all with its name, those with the longest common tail."""
    last = {row: key(parts[-1]) for row, parts in steps.items()}
    wanted = set(last.values())
    folders: list[Folder] = []
    named: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for folder in finder.folders_below():
        for name in folder.files:
            for found_as in _found_as(name, key):
                if found_as in wanted:
                    named[found_as].append((len(folders), name))
        folders.append(folder)
    above = [Path(folder.path).parts for folder in folders]
    alike = [[folded(part) for part in reversed(parts)] for parts in above]
    tails: dict[tuple[str, ...], dict[int, int]] = defaultdict(dict)
    bases: dict[tuple[int, int], str] = {}
    places: dict[int, list[_Place]] = {}
    for row, parts in steps.items():
        candidates = named.get(last[row])
        if not candidates:
            continue
        tail = tails[parts[:-1]]
        for number, _ in candidates:
            if number not in tail:
                tail[number] = _common(alike[number], parts[:-1])
        longest = max(tail[number] for number, _ in candidates)
        places[row] = [
            _Place(folders[number].prefix + name, _shortened(above, number, longest, bases))
            for number, name in candidates
            if tail[number] == longest
        ]
    return places


def _shortened(above: Sequence[tuple[str, ...]], number: int, tail: int, known: dict[tuple[int, int], str]) -> str:
    """Return the path of a folder without its last ``tail`` parts; the few that there are, are kept."""
    if (number, tail) not in known:
        parts = above[number]
        known[number, tail] = os.fspath(Path(*parts[: len(parts) - tail]))
    return known[number, tail]


def _found_as(name: str, key: Key) -> tuple[str, ...]:
    """Return the keys by which a file is found: its name and, for ids, its name without suffix."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    if suffix.lower() not in SUFFIXES:
        return (key(name),) if key is _whole else ()
    return (_whole(name), _whole(stem)) if key is _whole else (key(stem),)


def _common(alike: Sequence[str], lead: Sequence[str]) -> int:
    """Count the folders that two paths have in common, from the end."""
    tail = 0
    for mine, theirs in zip(alike, reversed(lead), strict=False):
        if mine != folded(theirs):
            break
        tail += 1
    return tail


def _choose(finder: Finder, names: Sequence[str], places: Mapping[int, Sequence[_Place]]) -> dict[int, str]:
    """Return one path for each row; raises DataError if folders compete."""
    places = {row: several for row, several in places.items() if several}
    if not places:
        return {}
    bases = [{place.base for place in several} for several in places.values()]
    common = set.intersection(*bases)
    if len(common) > 1 and finder.part is not None:
        own = {base for base in common if _part_folder(finder, base) == finder.part}
        common = own if len(own) == 1 else common
    unclear = {row: several for row, several in places.items() if len(several) > 1}
    if len(common) == 1:
        base = next(iter(common))
        chosen = {row: [place.path for place in several if place.base == base] for row, several in places.items()}
        unclear = {row: places[row] for row, paths in chosen.items() if len(paths) > 1}
    else:
        chosen = {row: [several[0].path] for row, several in places.items()}
    if unclear:
        row, several = next(iter(unclear.items()))
        _refuse_two(names[row], len(unclear), several, one_root=len(common) > 1)
    owners = Counter(path for path, _ in {(paths[0], names[row]) for row, paths in chosen.items()})
    return {row: paths[0] for row, paths in chosen.items() if owners[paths[0]] == 1}


def _of_class(several: list[_Place], label: str) -> list[_Place]:
    """Return, of several places of a file, those in a folder that is called like its label."""
    own = [place for place in several if len(several) > 1 and folded(Path(place.path).parent.name) == folded(label)]
    return own or several


def _part_folder(finder: Finder, base: str) -> str | None:
    inside = Path(os.path.relpath(base, finder.root)).parts
    return part_of(inside[0]) if inside else None


def _refuse_two(name: str, n: int, several: Sequence[_Place], *, one_root: bool) -> None:
    a, b = (place.base for place in several[:2])
    if a == b:
        a, b = (place.path for place in several[:2])
        raise DataError(f"{name!r} may be {a} or {b}. Write the suffix into the table, or remove one of the files.")
    step = f"Name one: --root {shell_word(a)}" if one_root else "Write the folders before the names in the table."
    raise DataError(f"{counted(n, 'file name')} may lie in {a} or in {b}, such as {name!r}. {step}")


def _keep(finder: Finder, names: Sequence[str], found: Found, chosen: Mapping[int, str], how: str) -> None:
    for row, path in chosen.items():
        found.paths[row], found.reasons[row] = path, ""
    parents = dict.fromkeys(path.rpartition(os.sep)[0] or os.sep for path in chosen.values())
    folders = [os.path.relpath(parent, finder.root) for parent in parents]
    first = next(iter(chosen))
    count = counted(len(chosen), "file name")
    lead = "is not" if len(chosen) == 1 else "are not"
    where = few(["the folder itself" if name == "." else f"{name}/" for name in folders])
    found.notes.append(
        f"{count} {lead} where the table says; the pictures were found by name{how} in {where}; first {names[first]}, "
        f"which is {os.path.relpath(chosen[first], finder.root)}."
    )
