"""From a text to the ids of its tokens, by the fast tokenizer that a backbone was trained with; needs no torch."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from thawline.errors import WeightsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.records import TextPreparation

LARGEST = 64 * 2**20
"""Bytes of a ``tokenizer.json``; those of 250,000 tokens have 17 MB."""


class Encoded(NamedTuple):
    """A text as a backbone takes it."""

    ids: NDArray[np.int32]
    """(n,) at most ``length``."""
    lost: int
    """Tokens that it does not see."""


class Tokens:
    """A tokenizer with the special tokens that it puts around one text. Safe to use from several threads."""

    def __init__(self, content: bytes, file: Path) -> None:
        """Read a tokenizer.

        Args:
            content: Of a ``tokenizer.json``.
            file: Where it lies, for messages.
        Raises:
            WeightsError: It cannot be used.
        """
        self._tokenizer = _read(content, file)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        bare = self._plain("a")
        whole = list(self._tokenizer.encode("a").ids)
        start = next((i for i in range(len(whole)) if whole[i : i + len(bare)] == bare), None) if bare else None
        if start is None:
            raise WeightsError(
                f"a tokenizer must put its special tokens before and behind a text; {file} does something else. "
                "Choose another encoder."
            )
        self.before = whole[:start]
        """Ids of the special tokens before a text."""
        self.behind = whole[start + len(bare) :]
        """Those behind it."""
        self.size: int = self._tokenizer.get_vocab_size()
        self.largest: int = max(self._tokenizer.get_vocab().values(), default=0)
        """Largest id that it gives."""

    def encode(self, text: str, preparation: TextPreparation) -> Encoded:
        """Return the ids of a text, cut as ``preparation.long`` says; of windows, the first."""
        if preparation.long == "windows":
            return Encoded(self.windows(text, preparation)[0], 0)
        ids = self._plain(self._prompted(text, preparation))
        room = preparation.length - len(self.before) - len(self.behind)
        lost = max(len(ids) - room, 0)
        if lost:
            tail = room // 2 if preparation.long == "head-tail" else 0
            ids = ids[: room - tail] + (ids[-tail:] if tail else [])
        return Encoded(np.array([*self.before, *ids, *self.behind], np.int32), lost)

    def windows(self, text: str, preparation: TextPreparation) -> list[NDArray[np.int32]]:
        """Return the ids of a text in as few windows as hold all of it, whose sizes differ by one token at most."""
        ids = np.array(self._plain(self._prompted(text, preparation)), np.int32)
        room = preparation.length - len(self.before) - len(self.behind)
        parts = np.array_split(ids, max(-(-len(ids) // room), 1))
        around = np.array(self.before, np.int32), np.array(self.behind, np.int32)
        return [np.concatenate([around[0], part, around[1]]) for part in parts]

    def _prompted(self, text: str, preparation: TextPreparation) -> str:
        text = preparation.prompt + text
        # Rust takes no lone surrogates, which broken JSON and file names may hold
        text = text.encode("utf-8", "replace").decode("utf-8")
        return text.lower() if preparation.lowercase else text

    def _plain(self, text: str) -> list[int]:
        # a batch of one: it leaves out offsets, which take a third of the time
        return list(self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids)


def tokens_of(preparation: TextPreparation) -> Tokens:
    """Return the tokenizer of a preparation, read once in a process.

    Raises:
        WeightsError: Its file is not there, or holds another tokenizer.
    """
    with _opening:
        if preparation.tokenizer_sha256 not in _opened:
            content = content_of(preparation)
            _opened[preparation.tokenizer_sha256] = Tokens(content, Path(str(preparation.tokenizer_file)))
        return _opened[preparation.tokenizer_sha256]


def content_of(preparation: TextPreparation) -> bytes:
    """Return the content of the ``tokenizer.json`` of a preparation.

    Raises:
        WeightsError: It is not there, or holds another tokenizer.
    """
    path = Path(str(preparation.tokenizer_file))
    if not path.is_file():
        raise WeightsError(f"the tokenizer must lie at {path}; there is no such file. Open the backbone again.")
    if path.stat().st_size > LARGEST:
        raise WeightsError(f"a tokenizer must have at most {LARGEST:,} bytes; {path} has {path.stat().st_size:,}.")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != preparation.tokenizer_sha256:
        raise WeightsError(f"the tokenizer at {path} has changed since the backbone was opened. Open it again.")
    return content


_opened: dict[str, Tokens] = {}
_opening = threading.Lock()


def _read(content: bytes, file: Path) -> Any:
    # A run of texts makes threads of its own, and may fork: the library would warn of its own threads.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises bare exceptions
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"tokenizer.json must be a tokenizer; {file} is not: {reason}.") from error


def padded(ids: NDArray[np.int32], preparation: TextPreparation) -> NDArray[np.int32]:
    """Fill ids (n,) up to (length,)."""
    full = np.full(preparation.length, preparation.pad, np.int32)
    full[: len(ids)] = ids
    return full
