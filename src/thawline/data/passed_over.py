"""Say which files are left out: grouped by folder, suffix and reason, since hundreds may share these."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import commonpath
from pathlib import PurePosixPath

from thawline.inputs.image.formats import suffix_of
from thawline.records import Skipped

_FOLDERS = 3
"""Folders that are named one by one."""
MOST = 4
"""Groups that are described; the rest are counted."""


def sentences(skipped: Sequence[Skipped]) -> list[str]:
    """Describe files that are left out, those that share folder, suffix and reason in one sentence."""
    groups = _groups(skipped)
    rest = sum(map(len, groups[MOST:]))
    more = [f"{rest:,} more are listed with their reasons."] if rest else []
    return [_sentence(group) for group in groups[:MOST]] + more


def are_alike(skipped: Sequence[Skipped]) -> bool:
    """Tell whether any of the files share folder, suffix and reason."""
    return len(_groups(skipped)) < len(skipped)


def _groups(skipped: Sequence[Skipped]) -> list[list[Skipped]]:
    """Divide files by suffix and reason, and by folder if these are few; the largest group comes first."""
    alike: dict[tuple[str, str], list[Skipped]] = {}
    for one in skipped:
        alike.setdefault(("#" if _is_numbered(one.file) else suffix_of(one.file), one.reason), []).append(one)
    return sorted((group for some in alike.values() for group in _by_folder(some)), key=lambda group: -len(group))


def ending(suffix: str, n: int) -> str:
    """``end in .download``, ``has no suffix``."""
    if suffix:
        return f"{'end' if n > 1 else 'ends'} in {suffix}"
    return f"{'have' if n > 1 else 'has'} no suffix"


def _is_numbered(name: str) -> bool:
    """Tell a sample without a file of its own: ``array#3``, ``train.parquet#17``."""
    return name.rpartition("#")[2].isdigit()


def _by_folder(group: Sequence[Skipped]) -> list[list[Skipped]]:
    """Divide a group by folder, if these are few."""
    folders: dict[str, list[Skipped]] = {}
    for one in group:
        folders.setdefault(_folder(one.file), []).append(one)
    return list(folders.values()) if len(folders) <= _FOLDERS else [list(group)]


def _folder(file: str) -> str:
    return str(PurePosixPath(file).parent)


def _where(members: Sequence[Skipped]) -> str:
    folders = {_folder(one.file) for one in members}
    if len(folders) == 1:
        (folder,) = folders
        return "" if folder == "." else f" in {folder}"
    try:
        common = commonpath(folders)
    except ValueError:  # paths with a root and without
        common = ""
    return f" in {len(folders):,} folders{f' of {common}' if common else ''}"


def _sentence(group: Sequence[Skipped]) -> str:
    first = group[0]
    if len(group) == 1:
        return f"{first.file}: {first.reason}."
    each = "each " if first.reason.startswith(("a ", "an ")) else ""
    if _is_numbered(first.file):
        return f"{len(group):,} samples, first {first.file}: {each}{first.reason}."
    if first.reason.startswith(("a link", "a folder")):  # its suffix, if it leads to a file at all, explains nothing
        return f"{len(group):,} links{_where(group)}, first {first.file}: {each}{first.reason}."
    if first.reason.startswith(("no such file", "leads outside")):  # what a table names
        return f"{len(group):,} files{_where(group)}, first {first.file}: {first.reason}."
    return f"{len(group):,} files{_where(group)} {ending(suffix_of(first.file), 2)}: {each}{first.reason}."
