"""Weights from the model hub, fetched as files and then opened like any local file."""

from __future__ import annotations

from pathlib import Path

from thawline.errors import HubError

_FILES = ("config.json", "model.safetensors")
_PATIENCE_S = 10.0


def fetch(repository: str, name: str, offline_alternative: str) -> Path:
    """Return the folder in the hub's own cache that holds ``config.json`` and ``model.safetensors``.

    What was fetched before is used without asking the hub again.

    Args:
        repository: Such as ``timm/mobilenetv2_100.ra_in1k``.
        name: The model as the user wrote it, for the error.
        offline_alternative: A model that needs no hub, for the error.
    Raises:
        HubError: Not reachable, not there, or without safetensors weights. Never a silent fallback.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    fetched = is_fetched(repository)
    try:
        if not fetched:  # one short question: the download itself would retry for half a minute before giving up
            get_hf_file_metadata(hf_hub_url(repository, _FILES[-1]), timeout=_PATIENCE_S)
        paths = [Path(hf_hub_download(repository, file, local_files_only=fetched)) for file in _FILES]
    except Exception as error:  # whatever the hub's client or its transport raises: the user's next step is the same
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        raise HubError(
            f"{name} must be fetched from the model hub ({repository}), which did not give it: {reason}. "
            f"Offline: --model {offline_alternative}, or --model {name}@FILE.safetensors with weights on this disk."
        ) from error
    return paths[-1].parent


def is_fetched(repository: str) -> bool:
    """Whether the weights lie in the hub's cache already, so that no network is needed."""
    from huggingface_hub import try_to_load_from_cache

    return all(isinstance(try_to_load_from_cache(repository, file), str) for file in _FILES)
