"""List the pictures of a folder with one folder for each class, below train, val and test folders or not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from thawline.data.listing import PART_NAMES, Listing, first_few
from thawline.data.sources import FileSource
from thawline.errors import DataError
from thawline.inputs.image.decode import SUFFIXES
from thawline.naming import canonical, written
from thawline.records import Part, Skipped


@dataclass
class _Found:
    files: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def open_folder(folder: Path, groups: Mapping[str, object] | None = None) -> Listing:
    """List the pictures of a folder; the name of a class folder is the class of everything below it.

    A single folder around the class folders (``all/``) is ignored, and so are hidden files and files whose name does
    not promise a picture. Links that lead outside the folder, or to folders, are listed as skipped.

    Raises:
        DataError: The folder is empty, or its pictures are in no class folder.
    """
    found = _Found()
    base = _unwrap(folder)
    parts = _part_folders(base)
    if parts:
        for part, part_folder in parts:
            classes = _folders(part_folder)
            for name in classes:
                _collect(found, folder, part_folder / name, name, part)
            loose = len(_pictures_in(part_folder))
            if loose:
                where = part_folder.relative_to(folder)
                found.warnings.append(f"{loose} pictures in {where} are in no class folder and are left out.")
        others = sorted(set(_folders(base)) - {part_folder.name for _, part_folder in parts})
        if others:
            found.warnings.append(f"Folders beside the train and test folders are left out: {first_few(others)}.")
    else:
        for name in _folders(base):
            _collect(found, folder, base / name, name, "train")
    if not found.files:
        _refuse(folder, base, found)
    return Listing(
        name=folder.resolve().name,
        files=tuple(found.files),
        source=FileSource(tuple(str(folder / file) for file in found.files)),
        labels=tuple(found.labels),
        given=tuple(found.parts) if parts else None,
        groups=None if groups is None else _grouped(groups, found.files),
        skipped=tuple(found.skipped),
        warnings=tuple(found.warnings),
        root=folder,
    )


def _grouped(groups: Mapping[str, object], files: Sequence[str]) -> tuple[object, ...]:
    """Return the group of each file; a name may be written in either form, as the disk has it or as it is shown."""
    if not any(file not in groups for file in files):
        return tuple(groups[file] for file in files)
    by_form = {canonical(written(str(name))): group for name, group in groups.items()}
    return tuple(groups.get(file, by_form.get(canonical(written(file)))) for file in files)


def list_pictures(folder: Path) -> Listing:
    """List every picture below a folder, without labels."""
    found = _Found()
    _collect(found, folder, folder, "", "train")
    return Listing(
        name=folder.resolve().name,
        files=tuple(found.files),
        source=FileSource(tuple(str(folder / file) for file in found.files)),
        skipped=tuple(found.skipped),
        root=folder,
    )


def _refuse(folder: Path, base: Path, found: _Found) -> None:
    if found.skipped:
        first = found.skipped[0]
        raise DataError(
            f"{folder}: none of its {len(found.skipped)} pictures can be used; "
            f"the first is {first.file} ({first.reason})."
        )
    loose = len(_pictures_in(base))
    if loose:
        raise DataError(
            f"{folder}: expected one folder for each class; found {loose} pictures in none. "
            f"Put each class into a folder of its own, or give a table with the columns filename,label."
        )
    known = " ".join(sorted(SUFFIXES))
    raise DataError(f"{folder}: expected one folder of pictures for each class; found no pictures ({known}).")


def _unwrap(folder: Path) -> Path:
    """Descend through folders that hold nothing but one folder of folders."""
    base = folder
    while True:
        names = _folders(base)
        if len(names) != 1 or _pictures_in(base):
            return base
        inner = base / names[0]
        if inner.is_symlink() or not _folders(inner) or _pictures_in(inner):
            return base
        base = inner


def _part_folders(base: Path) -> list[tuple[Part, Path]]:
    """Return the train, val and test folders, or none: a class may be called ``train`` as well."""
    named = [(PART_NAMES[name.lower()], base / name) for name in _folders(base) if name.lower() in PART_NAMES]
    named = [(part, path) for part, path in named if not path.is_symlink()]
    is_split = any(part == "train" and _folders(path) and not _pictures_in(path) for part, path in named)
    return named if is_split else []


def _folders(folder: Path) -> list[str]:
    """List the names of the folders in a folder, links included; ``_collect`` says why it follows none."""
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if not e.name.startswith(".") and _is_folder(e))


def _pictures_in(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(e.name for e in entries if _is_picture_name(e.name) and not _is_folder(e))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def _is_picture_name(name: str) -> bool:
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122


def _collect(found: _Found, folder: Path, class_folder: Path, label: str, part: Part) -> None:
    inside = folder.resolve()
    for path in _walk(class_folder):
        name = path.relative_to(folder).as_posix()
        reason = _why_not_followed(path, inside) if path.is_symlink() else None
        if reason is not None:
            found.skipped.append(Skipped(name, reason))
        else:
            found.files.append(name)
            found.labels.append(label)
            found.parts.append(part)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the pictures below a folder in order of name, and the links to folders, which are not followed."""
    if folder.is_symlink():
        yield folder
        return
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            yield from _walk(folder / entry.name)
        elif _is_picture_name(entry.name):
            yield folder / entry.name


def _why_not_followed(link: Path, inside: Path) -> str | None:
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):
        return "a link that leads nowhere"
    if not target.is_relative_to(inside):
        return "a link that leads outside the folder"
    return "a link to a folder; links to folders are not followed" if target.is_dir() else None
