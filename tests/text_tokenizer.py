"""A small tokenizer of words, made on the spot, and the preparation that uses it."""

from __future__ import annotations

from pathlib import Path

from thawline.records import TextPreparation
from thawline.scale.disk import file_sha256

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
WORDS = (
    "a the of and not good bad fine poor film book food service was is very with what where who how many city "
    "number person river does mean free prize call now win see you later home"
).split()


def write_tokenizer(folder: Path, words: tuple[str, ...] = tuple(WORDS)) -> Path:
    """Write ``tokenizer.json``: words in lower case, ``[CLS]`` before a text and ``[SEP]`` behind it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def preparation_with(path: Path, *, length: int = 16, **changed: object) -> TextPreparation:
    """Return the preparation of a backbone with this tokenizer."""
    settings = {"length": length, "vocabulary": len(SPECIAL) + len(WORDS), "pad": 0} | changed
    return TextPreparation(tokenizer_sha256=file_sha256(path), tokenizer_file=path, **settings)  # type: ignore[arg-type]
