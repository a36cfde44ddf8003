"""The tokenizer of a folder: its ``tokenizer.json``, or one that transformers makes of its vocabulary."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from thawline.backbones.providers.hf_folder import TOKENIZER
from thawline.backbones.providers.hf_text_families import TextFamily
from thawline.errors import ModelError, WeightsError
from thawline.scale import cache_root
from thawline.scale.disk import file_sha256, storage_errors, written_whole
from thawline.scale.releases import release

SHELF = "tokenizers"
"""Folder of the cache."""


def tokenizer_in(folder: Path, family: TextFamily) -> tuple[Path, tuple[str, ...]]:
    """(a ``tokenizer.json``, notes)

    Raises:
        WeightsError: There is none, and none can be made.
        StorageError: The cache cannot be written.
    """
    file = folder / TOKENIZER
    if file.is_file():
        return file, ()
    found = [folder / name for name in family.made_of]
    if not found or not all(path.is_file() for path in found):
        made_of = f", and no {' and '.join(family.made_of)} either" if found else ""
        raise WeightsError(
            f"a text encoder must have {TOKENIZER} beside its weights; {folder} has none{made_of}. Fetch it from where "
            "the weights came from."
        )
    told = (f"There is no {TOKENIZER}: transformers made one of {found[0].name}.",)
    settings = [folder / name for name in ("tokenizer_config.json", "special_tokens_map.json")]
    digests = {path.name: file_sha256(path) for path in (*found, *settings) if path.is_file()}
    described = json.dumps([family.tokenizer, release("transformers"), digests])
    made = cache_root() / SHELF / hashlib.sha256(described.encode()).hexdigest() / TOKENIZER
    if not made.is_file():
        content = _made(folder, family, found[0].name)
        with storage_errors(made, elsewhere="set THAWLINE_CACHE to a folder"):
            made.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(made) as out:
            out.write(content)
    return made, told


def _made(folder: Path, family: TextFamily, vocabulary: str) -> str:
    """Let the library's own class of the family read the vocabulary; code of the folder is never run."""
    from thawline.backbones.providers.transformers_import import import_transformers

    try:
        kind = getattr(import_transformers(""), family.tokenizer)
        content: str = kind.from_pretrained(str(folder), local_files_only=True).backend_tokenizer.to_str()
    except ModelError:
        raise
    except Exception as error:  # the library raises errors of many kinds, those of missing packages among them
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"{TOKENIZER} must be there, or be made of {vocabulary}; transformers could not make it: {reason} "
            f"({folder}). Install what it names, or take {TOKENIZER} from where the weights came from."
        ) from error
    return content
