"""Short English texts with a free licence: what WordNet says of its words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

FILES = ("data.noun", "data.verb", "data.adj", "data.adv")
_EXAMPLE = re.compile(r'"([^"]+)"')
_MARK = re.compile(r"\((?:a|p|ip)\)$")
"""Where an adjective may stand, behind its word."""
SHORTEST = 3
"""Words of an example; shorter ones are phrases that say little."""


def wordnet_texts(folder: Path) -> tuple[list[str], list[str]]:
    """Return the examples and the definitions of WordNet's synsets, each text once, in the order of its files.

    A definition stands behind its words, as in a dictionary: ``dog, domestic dog: a member of the genus Canis``.

    Args:
        folder: With ``data.noun``, ``data.verb``, ``data.adj`` and ``data.adv``, as Debian's ``wordnet-base`` has them
            in ``/usr/share/wordnet``.
    Source:
        G. A. Miller, WordNet: a lexical database for English, Communications of the ACM 38(11), 1995; release 3.0.
    """
    found = dict.fromkeys(text for name in FILES for text in _texts(folder / name))
    return [text for text in found if ": " not in text], [text for text in found if ": " in text]


def _texts(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("  "):  # the licence
                continue
            entry, _, gloss = line.partition("|")
            _, _, _, n_words, *fields = entry.split()
            words = [_MARK.sub("", word).replace("_", " ") for word in fields[: 2 * int(n_words, 16) : 2]]
            definition = _EXAMPLE.sub("", gloss).strip(" ;\n")
            yield f"{', '.join(words)}: {definition}"
            for example in _EXAMPLE.findall(gloss):
                if len(example.split()) >= SHORTEST:
                    yield example.strip()
