"""Names that columns usually have, the likeliest first, without case, blanks, underscores and hyphens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from thawline.errors import DataError, NoLabelsError, nearest

FILE_COLUMNS = (
    "filename", "file", "path", "image", "imagepath", "filepath", "imagefile", "imagefilename", "imagename", "img",
    "imgpath", "imgfile", "imgname", "imgfilename", "fname", "picture", "photo", "imageid", "imgid", "imageindex",
    "fileid", "photoid", "pictureid", "id",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "class", "category", "target", "labels", "classes", "labelname", "classname", "categoryname", "classlabel",
    "targetname", "labelid", "classid", "categoryid", "targetid", "breed", "species", "diagnosis", "dx", "lbl", "y",
)  # fmt: skip
TEXT_LABEL_COLUMNS = (
    "sentiment", "intent", "topic", "emotion", "polarity", "stance", "spam", "isspam", "classindex", "labelcoarse",
    "coarselabel", "newsgroup", "genre", "rating", "stars", "isduplicate", "language", "lang",
)  # fmt: skip
"""Further names of columns of labels that are read beside texts."""
TEXT_COLUMNS = (
    "text", "texts", "sentence", "sentences", "review", "reviews", "message", "messages", "sms", "tweet", "tweets",
    "question", "query", "utterance", "comment", "comments",
)  # fmt: skip
OFTEN_TEXT_COLUMNS = (
    "content", "contents", "body", "post", "document", "doc", "passage", "paragraph", "article", "abstract",
    "transcript", "narrative", "complaint", "feedback", "email", "description", "headline", "title", "subject",
    "summary", "caption", "prompt", "input", "txt", "string",
)  # fmt: skip
"""Names of columns of texts that columns of anything else have as well."""
TEXT_WORDS = ("text", "sentence", "review", "message", "tweet", "question", "query", "utterance", "comment", "content")
"""How the name of a column of texts often begins or ends: ``review_text``, ``question1``."""
SPLIT_COLUMNS = ("split", "subset", "partition", "set", "dataset", "phase")
FLAG_COLUMNS = ("isvalid", "isval", "isvalidation", "istest", "istrain")
"""Columns of yes and no that name one set; ``is_valid`` is fastai's."""
_SHOWN = 12
"""Names of columns in a message."""


def key_of(name: str) -> str:
    """Return a column's name as usual names are matched: ``Image Index``, ``image_index`` -> ``imageindex``."""
    return "".join(ch for ch in name.casefold() if ch.isalnum())


def is_index(name: str) -> bool:
    """Tell a column of row numbers, as pandas and R write it."""
    return name == "" or name.startswith(("Unnamed:", "__index_level_"))


def usual_column(usual: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the column with the likeliest of the usual names."""
    keys = {key_of(name): name for name in reversed(names)}
    return next((keys[name] for name in usual if name in keys), None)


def named_column(path: Path, role: str, asked: str | None, names: Sequence[str]) -> str | None:
    """Return the column that was asked for by name; None if none was.

    Raises:
        DataError: There is no such column.
    """
    if asked is None or asked in names:
        return asked
    if asked.strip() in names:
        return asked.strip()
    error = NoLabelsError if role == "label" else DataError
    raise error(
        f"{path}: {role}_column {asked!r} is not in the table, which has {shown(names)}.{nearest(asked, names)}"
    )


def shown(names: Sequence[str]) -> str:
    """List the first names of columns, and say how many more there are."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
