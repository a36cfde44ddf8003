"""What the name of a folder says: a part of a split, pictures without labels, or nothing about the pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping

from thawline.data.listing import PART_NAMES
from thawline.naming import canonical, written
from thawline.records import Part

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+")
_PART_WORDS: Mapping[str, Part] = {
    **PART_NAMES,
    "trn": "train",
    "trainval": "train",
    "tst": "test",
    "tests": "test",
    "eval": "test",
    "evaluation": "test",
    "holdout": "test",
}
_GENERIC = frozenset(
    "image images img imgs picture pictures pic pics photo photos jpg jpeg jpegs png pngs file files frame frames "
    "data dataset datasets set sets folder split part all raw original x new final the".split()
)
"""Words that say that there are pictures, but not of what."""
_UNLABELLED = frozenset(
    "pred preds predict prediction predictions unlabeled unlabelled unlabel unknown unsup unsupervised nolabel "
    "nolabels unclassified unsorted unannotated submission submit inference".split()
)
_SURELY_UNLABELLED = frozenset("unlabeled unlabelled unlabel unsup unsupervised nolabel nolabels".split())
_BESIDE = frozenset(
    "mask masks annotation annotations label labels gt ground truth groundtruth segmentation segmentations bbox bboxes "
    "box boxes xml xmls json txt csv doc docs documentation license licenses readme meta metadata script scripts code "
    "src log logs info devkit list lists splits".split()
)
"""Words of folders that lie beside pictures and hold notes about them."""
_ENDINGS = ("set", "sets", "data", "dataset", "images", "image", "imgs", "img", "pics", "folder", "split")


def matched(name: str) -> str:
    """Return the form of a folder's name in which classes are matched."""
    return canonical(written(name))


def words_of(name: str) -> list[str]:
    """Return the words of a folder's name in lower case: ``01_trainImages`` -> train, images."""
    found: list[str] = []
    for word in (word.lower() for word in _WORD.findall(name)):
        ending = next((e for e in _ENDINGS if word.endswith(e) and word.removesuffix(e) in _PART_WORDS), None)
        found += [word] if ending is None else [word.removesuffix(ending), ending]
    return found


def exact_part(name: str) -> Part | None:
    """Return the part of a split whose very name this is: ``Train``, ``valid``."""
    return PART_NAMES.get(name.lower())


def part_of(name: str) -> Part | None:
    """Return the part of a split that one word of a name says: ``seg_train``, ``Testing``, ``01_valid_images``."""
    words = words_of(name)
    if is_unlabelled(name) or any(word in _BESIDE for word in words):
        return None
    parts = {_PART_WORDS[word] for word in words if word in _PART_WORDS}
    if parts == {"train", "val"}:  # train_val: what is trained on before the test
        return "train"
    return next(iter(parts)) if len(parts) == 1 else None


def rest_of(name: str) -> tuple[str, ...]:
    """Return the words of a name that are neither a part of a split nor generic: ``seg_train_2`` -> seg."""
    return tuple(word for word in words_of(name) if word not in _PART_WORDS and word not in _GENERIC)


def is_unlabelled(name: str) -> bool:
    """Tell a folder of pictures without labels by its name: ``seg_pred``, ``unknown``."""
    words = words_of(name)
    return any(word in _UNLABELLED for word in words) or {"no", "labels"} <= {*words} or {"no", "label"} <= {*words}


def says_unlabelled(name: str) -> bool:
    """Tell a folder that cannot be a class by its name: ``unsup``; texts may well be of a class ``unknown``."""
    return any(word in _SURELY_UNLABELLED for word in words_of(name))


def is_generic(name: str) -> bool:
    """Tell a name that says nothing about what the pictures show: ``images``, ``test``."""
    words = words_of(name)
    return bool(words) and all(word in _GENERIC or word in _PART_WORDS for word in words)


def says_images(name: str) -> bool:
    """Tell a folder of pictures by its name, whatever they show: ``images``, ``img``."""
    words = words_of(name)
    return bool(words) and all(word in _GENERIC for word in words)


def is_beside(name: str) -> bool:
    """Tell a folder of notes about pictures by its name: ``masks``, ``annotations``, ``docs``."""
    words = words_of(name)
    return bool(words) and all(word in _BESIDE for word in words)
