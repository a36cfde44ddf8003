"""What of long texts a backbone does not see."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thawline.inputs.text.tokens import Encoded
    from thawline.records import ValueScale


@dataclass(slots=True, eq=False)
class Truncation:
    """Counts, from any number of threads, the texts and tokens that were read and those that were not."""

    texts: int = 0
    """Prepared."""
    cut: int = 0
    """Texts that lost something."""
    tokens: int = 0
    """Of all texts, seen or not, special tokens among them."""
    lost: int = 0
    """Tokens that are not seen."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, encoded: Encoded) -> None:
        """Hear of one text."""
        with self._lock:
            self.texts += 1
            self.cut += encoded.lost > 0
            self.tokens += len(encoded.ids) + encoded.lost
            self.lost += encoded.lost

    def to_json(self) -> dict[str, int]:
        """Return what ``metrics.json`` holds."""
        return {"texts": self.texts, "cut": self.cut, "tokens": self.tokens, "lost": self.lost}

    def remarks(self, scales: Sequence[ValueScale]) -> list[str]:
        """Return one sentence if something was lost."""
        if not self.cut:
            return []
        return [
            f"{self.cut:,} of {self.texts:,} texts are longer than the model reads: {self.lost:,} of {self.tokens:,} "
            f"tokens ({self.lost / self.tokens:.1%}) are not seen. --long head-tail reads the beginning and the end, "
            "--long windows all."
        ]
