"""What a text encoder of the hub has beside its weights: a tokenizer, and what sentence-transformers wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from thawline.backbones.providers.hf_folder import MODULES, TOKENIZER, VOCABULARIES
from thawline.backbones.providers.hf_sentence import LIMITS, PROMPTS, places_in
from thawline.backbones.providers.hub import CONFIG, PATIENCE_S, WEIGHTS, fetch_if_there
from thawline.errors import WeightsError

_BESIDE = (
    TOKENIZER,
    "tokenizer_config.json",
    MODULES,
    PROMPTS,
    LIMITS,
)


def fetch_beside(repository: str, folder: Path) -> tuple[str, ...]:
    """Fetch what is not in the hub's cache yet, and return notes.

    The hub is asked only for files of which the cache does not know whether they exist; without a connection, the
    encoder opens with what is there.

    Args:
        folder: In the hub's cache, of one state of the repository.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    state, asked = folder.name, False
    for file in _wanted(folder):
        if _is_known(repository, file, state):
            continue
        try:
            if not asked:  # one short question: the download itself would retry for half a minute before giving up
                get_hf_file_metadata(hf_hub_url(repository, CONFIG), timeout=PATIENCE_S)
                asked = True
            fetch_if_there(lambda name: Path(hf_hub_download(repository, name, revision=state)), file)
        except Exception as error:  # whatever the hub's client or its transport raises
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            return (f"The hub could not be asked for {file} of {repository}, which may be missed: {reason}.",)
    return ()


def _wanted(folder: Path) -> Iterator[str]:
    """Name the files, those last whose names stand in others."""
    yield from _BESIDE
    if not (folder / TOKENIZER).is_file():
        yield from VOCABULARIES
    try:
        places = places_in(folder)
    except WeightsError:  # it comes again when the folder is opened
        return
    for kind, place in places:
        if place and kind != "Normalize":
            yield str(PurePosixPath(place) / CONFIG)
            if kind == "Dense":
                yield str(PurePosixPath(place) / WEIGHTS)


def _is_known(repository: str, file: str, state: str) -> bool:
    """Whether the cache holds a file, or knows that there is none."""
    from huggingface_hub import try_to_load_from_cache

    return try_to_load_from_cache(repository, file, revision=state) is not None
