"""Tell a folder of texts from one of pictures by what lies in it."""

from __future__ import annotations

from thawline.data.folders.collecting import is_picture
from thawline.data.folders.sought import PICTURES, TEXTS
from thawline.data.folders.tree import File, Folder, walk
from thawline.data.folders.words import is_beside
from thawline.data.sources import read_file
from thawline.errors import UndecodableError
from thawline.inputs.image.formats import HEAD_BYTES
from thawline.inputs.text.formats import may_be_text

_ENOUGH = 20
"""Pictures that make a folder one of pictures, whatever else is in it, and files that are looked into."""
_NOTES = 20
"""Texts for each picture, from which on the pictures are what lies beside them."""


def told(tree: Folder) -> Folder:
    """Return the folder as one of texts if its sub-folders hold texts and hardly a picture; else as it is.

    Raises:
        OSError: A folder cannot be listed.
    """
    pictures, named, nameless, others = 0, list[File](), list[File](), list[File]()
    for entry in walk(tree):
        if not isinstance(entry, File):
            continue
        if PICTURES.promises(entry.base):
            pictures += 1
            if pictures >= _ENOUGH:
                return tree
        elif not entry.folder.name or any(map(is_beside, entry.folder.name.split("/"))):
            continue
        elif TEXTS.promises(entry.base):
            named.append(entry)
        elif may_be_text(entry.base) and not PICTURES.is_companion(entry.base):
            nameless.append(entry)
        elif not PICTURES.is_companion(entry.base):
            others.append(entry)
    looked_into = [*named[:_ENOUGH], *nameless[:_ENOUGH], *others[:_ENOUGH]]
    texts = len(named) or (len(nameless) if nameless and all(map(_is_text, nameless[:_ENOUGH])) else 0)
    if not texts or _NOTES * pictures > texts or any(map(is_picture, looked_into)):
        return tree
    return Folder(tree.path, tree.name, tree.links, tree.is_link, TEXTS)


def _is_text(file: File) -> bool:
    """Tell by its content; a link that is not followed is none."""
    if file.is_link and file.folder.links.why_not(file.path) is not None:
        return False
    try:
        return TEXTS.is_one(read_file(file.path, HEAD_BYTES), file.base)
    except UndecodableError:
        return False
