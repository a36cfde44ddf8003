"""Weights from the model hub, fetched as files and then opened like any local file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from thawline.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG, WEIGHTS, INDEX, PROCESSOR = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "preprocessor_config.json",
)
_PART = re.compile(r"[\w-][\w.-]*\.safetensors")
PATIENCE_S = 10.0


def fetch(repository: str, name: str, offline_alternative: str, *, local: str = "FILE.safetensors") -> Path:
    """Return the folder in the hub's own cache that holds ``config.json`` and ``model.safetensors``, or its parts.

    What was fetched before is used without asking the hub again. Nothing but safetensors and JSON is fetched.

    Args:
        repository: Such as ``timm/mobilenetv2_100.ra_in1k``.
        name: The model as the user wrote it, for the error.
        offline_alternative: A model that needs no hub, for the error.
        local: What may stand behind ``@``, for the error.
    Raises:
        HubError: Not reachable, not there, or without safetensors weights. Never a silent fallback.
    """
    folder = fetched_folder(repository)
    if folder is not None:
        return folder
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    try:
        # one short question: the download itself would retry for half a minute before giving up
        commit = get_hf_file_metadata(hf_hub_url(repository, CONFIG), timeout=PATIENCE_S).commit_hash
        return _fetched(lambda file: Path(hf_hub_download(repository, file, revision=commit)))
    except Exception as error:  # whatever the hub's client or its transport raises: the user's next step is the same
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise HubError(
            f"{name} must be fetched from the model hub ({repository}), which did not give it: {reason}. "
            f"Offline: --model {offline_alternative}, or --model {name}@{local} with weights on this disk."
        ) from error


def _fetched(download: Callable[[str], Path]) -> Path:
    """Fetch the files of a model by a function that returns where one lies; return their folder."""
    config = download(CONFIG)
    if fetch_if_there(download, WEIGHTS) is None:
        index = fetch_if_there(download, INDEX)
        if index is None:
            raise FileNotFoundError(f"it holds no {WEIGHTS}; other kinds of weights are not fetched")
        for part in _parts(index):
            download(part)
    fetch_if_there(download, PROCESSOR)  # models of timm have none
    return config.parent


def fetch_if_there(download: Callable[[str], Path], file: str) -> Path | None:
    """Fetch a file by a function that returns where one lies; None if the repository has none of that name."""
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return download(file)
    except LocalEntryNotFoundError:  # the connection broke, which says nothing of the repository
        raise
    except EntryNotFoundError:
        return None


def _parts(index: Path) -> list[str]:
    """List the files that an index names.

    Raises:
        ValueError: It names something that does not lie beside it.
    """
    parts = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    if odd := [part for part in parts if not isinstance(part, str) or not _PART.fullmatch(part)]:
        raise ValueError(f"{index.name} must name safetensors files beside it; got {odd[0]!r}")
    return parts


def fetched_folder(repository: str) -> Path | None:
    """Return the folder of a model in the hub's cache; None if it is not there as a whole."""
    config = cached(repository, CONFIG)
    if config is None:
        return None
    if cached(repository, WEIGHTS) is not None:
        return config.parent
    index = cached(repository, INDEX)
    try:
        whole = index is not None and all(cached(repository, part) is not None for part in _parts(index))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return config.parent if whole else None


def cached(repository: str, file: str) -> Path | None:
    """Return where a file lies in the hub's cache; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, file)
    return Path(found) if isinstance(found, str) else None


def is_fetched(repository: str) -> bool:
    """Whether the weights lie in the hub's cache already, so that no network is needed."""
    return fetched_folder(repository) is not None


def fetched_repositories() -> frozenset[str]:
    """Return the repositories whose weights lie in the hub's cache."""
    from huggingface_hub import constants

    folders = Path(constants.HF_HUB_CACHE).glob("models--*--*")
    names = ("/".join(folder.name.split("--")[1:]) for folder in folders)
    return frozenset(name for name in names if is_fetched(name))
