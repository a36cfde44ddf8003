"""Converted backbones on disk: the next process that needs one starts without torch.

``ROOT/models/KEY/`` holds the graphs in OpenVINO's format (XML and weights) and ``graphs.json``, which says what they
are and what each file's checksum is. A folder appears whole, at one stroke, and is never changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
import tempfile
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from thawline.engines.graphs import StoredGraphs
from thawline.records import Precision
from thawline.scale import cache_root
from thawline.scale.disk import file_sha256, storage_errors
from thawline.store.room import DESCRIPTIONS, ELSEWHERE, CacheEntry, Kept, Shelf, make_room, remove
from thawline.store.sizes import limit_from_environment

if TYPE_CHECKING:
    from thawline.engines.graphs import Converted

logger = logging.getLogger(__name__)

_DESCRIPTION = DESCRIPTIONS["models"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphKey:
    """Everything that decides what a backbone is converted to."""

    weights_sha256: str
    preparation_sha256: str
    rungs: tuple[str, ...]
    precision: Precision
    """What was asked for; first layers may be left in float32."""
    converter: str
    """Release of OpenVINO and revision of the conversion."""

    def digest(self) -> str:
        """SHA-256 (hex) of every field."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


class GraphStore:
    """Converted backbones, addressed by ``GraphKey``."""

    def __init__(self, root: Path | None = None) -> None:
        """Open a store; nothing is read or written before it is asked something."""
        self.root = cache_root() if root is None else root
        self._shelf = Shelf(self.root, "models")

    def find(self, key: GraphKey) -> StoredGraphs | None:
        """Find a converted backbone and check each of its files; a damaged one is removed, which is said in the log."""
        folder = self._shelf.folder / key.digest()
        try:
            found = _read(folder)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            logger.warning("A stored model was damaged; it is converted again (%s).", folder)
            with contextlib.suppress(OSError):  # a shared cache may be readable only
                remove(folder)
            return None
        self._shelf.touch(key.digest())
        return found

    def keep(self, key: GraphKey, converted: Converted, model: str) -> StoredGraphs:
        """Write a converted backbone, and remove those not used for longest where they take too much room together.

        Args:
            model: What people call it.
        Raises:
            StorageError: The disk is full, or the cache cannot be written.
        """
        import openvino as ov

        folder = self._shelf.use(key.digest())
        with storage_errors(folder, elsewhere=ELSEWHERE):
            self._shelf.folder.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".", dir=self._shelf.folder))
            try:
                parts = []
                for number, (graph, precision) in enumerate(converted.graphs):
                    ov.save_model(graph, draft / f"{number}.xml", compress_to_fp16=False)
                    sha256 = {ending: file_sha256(draft / f"{number}.{ending}") for ending in ("xml", "bin")}
                    parts.append({"precision": precision, "sha256": sha256})
                described = asdict(key) | {
                    "model": model,
                    "parts": parts,
                    "multiply_adds": converted.multiply_adds,
                    "float32_share": converted.float32_share,
                    "cosine": converted.cosine,
                }
                (draft / _DESCRIPTION).write_text(json.dumps(described, indent=2), encoding="utf-8")
                _move_into_place(draft, folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        make_room(self.root, limit_from_environment())
        return _read(folder)

    def usage(self) -> list[CacheEntry]:
        """List what is stored, most recently used first."""
        entries = (_entry(kept) for kept in reversed(self._shelf.kept()))
        return [entry for entry in entries if entry is not None]

    def clear(self, older_than: timedelta | None = None, key: str | None = None) -> int:
        """Remove converted backbones and return how many bytes that freed; see ``Shelf.clear``."""
        return self._shelf.clear(older_than, key)


def _entry(kept: Kept) -> CacheEntry | None:
    try:
        described = json.loads((kept.folder / _DESCRIPTION).read_bytes())
        return CacheEntry(
            key=kept.folder.name,
            model=described["model"],
            rung=f"{', '.join(described['rungs'])} (converted)",
            precision=described["precision"],
            engine=described["converter"],
            rows=0,
            bytes=kept.bytes,
            last_used=kept.last_used,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read(folder: Path) -> StoredGraphs:
    """Read the description and check the files; raises OSError, ValueError, KeyError or TypeError."""
    described = json.loads((folder / _DESCRIPTION).read_bytes())
    files = tuple(folder / f"{number}.xml" for number in range(len(described["parts"])))
    for file, part in zip(files, described["parts"], strict=True):
        for ending, expected in part["sha256"].items():
            if file_sha256(file.with_suffix(f".{ending}")) != expected:
                raise ValueError(file)
    return StoredGraphs(
        files=files,
        precisions=tuple(part["precision"] for part in described["parts"]),
        multiply_adds=int(described["multiply_adds"]),
        float32_share=float(described["float32_share"]),
        cosine=float(described["cosine"]),
    )


def _move_into_place(draft: Path, folder: Path) -> None:
    try:
        draft.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster: what it wrote is the same
            raise
