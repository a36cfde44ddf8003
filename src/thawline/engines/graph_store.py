"""Keep converted backbones in the cache: the next process that needs one starts without torch.

``ROOT/models/KEY/`` is a folder of graphs, as ``graphs`` describes it. It appears whole, at one stroke, and is never
changed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from thawline.engines.graphs import DESCRIPTION, UNREADABLE, GraphKey, StoredGraphs, read_graphs, write_graphs
from thawline.scale import cache_root
from thawline.scale.disk import storage_errors
from thawline.store.room import ELSEWHERE, CacheEntry, Kept, Shelf, make_room, remove
from thawline.store.sizes import limit_from_environment

if TYPE_CHECKING:
    from thawline.engines.graphs import Converted

logger = logging.getLogger(__name__)

_intact: set[tuple[str, ...]] = set()
"""Files that this process has found intact: a fit asks for its graphs several times."""


class GraphStore:
    """Converted backbones, addressed by ``GraphKey``."""

    def __init__(self, root: Path | None = None) -> None:
        """Open a store; nothing is read or written before the first question."""
        self.root = cache_root() if root is None else root
        self._shelf = Shelf(self.root, "models")

    def find(self, key: GraphKey) -> StoredGraphs | None:
        """Find a converted backbone and check its files; a damaged one is removed, with a warning in the log."""
        folder = self._shelf.folder / key.digest()
        try:
            found = read_graphs(folder, intact=_intact)
        except FileNotFoundError:
            return None
        except UNREADABLE:
            logger.warning("A stored model was damaged; it is converted again (%s).", folder)
            with contextlib.suppress(OSError):  # a shared cache may be readable only
                remove(folder)
            return None
        self._shelf.touch(key.digest())
        return found

    def keep(self, key: GraphKey, converted: Converted, model: str) -> StoredGraphs:
        """Write a converted backbone; over the cache's limit, remove what was not used for longest.

        Args:
            model: What people call the backbone.
        Raises:
            StorageError: The disk is full, or the cache cannot be written.
        """
        folder = self._shelf.use(key.digest())
        with storage_errors(folder, elsewhere=ELSEWHERE):
            self._shelf.folder.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=".", dir=self._shelf.folder))
            try:
                write_graphs(converted, draft, key, model)
                _move_into_place(draft, folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        make_room(self.root, limit_from_environment())
        return read_graphs(folder, intact=_intact)

    def usage(self) -> list[CacheEntry]:
        """List what is stored, most recently used first."""
        entries = (_entry(kept) for kept in reversed(self._shelf.kept()))
        return [entry for entry in entries if entry is not None]

    def clear(self, older_than: timedelta | None = None, key: str | None = None) -> int:
        """Remove converted backbones and return how many bytes that freed; see ``Shelf.clear``."""
        return self._shelf.clear(older_than, key)


def _entry(kept: Kept) -> CacheEntry | None:
    try:
        described = json.loads((kept.folder / DESCRIPTION).read_bytes())
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
    except UNREADABLE:
        return None


def _move_into_place(draft: Path, folder: Path) -> None:
    try:
        draft.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster: what it wrote is the same
            raise
