"""Look at a PyTorch checkpoint without opening it: is it one, and which functions does it want to call?"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from thawline.backbones.foreign.sentences import called
from thawline.errors import WeightsError

_HOMES = frozenset(("torch", "collections", "builtins", "__builtin__", "_codecs", "numpy", "argparse"))
"""First parts of the names that state dicts may hold; which of them exactly, the reader decides."""
_LIGHTNING = ("lightning", "lightning_fabric", "pytorch_lightning")
_PICKLE_LIMIT, _MOST_STEPS = 64 * 2**20, 4_000_000
_LEGACY_PICKLES = 4
"""The old format begins with so many pickles: a mark, the version, what the writer's computer was, and the object."""
_MOST_TIMES, _MOST_FILES = 2, 200_000
"""torch stores without compressing, so the files in an archive are together not larger than this many times itself."""


def check(path: Path) -> None:
    """Refuse a checkpoint that no reader needs to see: nothing is opened and nothing runs.

    Raises:
        WeightsError: It wants to call what no state dict calls, is a program, or is a bomb.
    """
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
        file.seek(0)
        for module, name in _calls_in_zip(path) if zipped else _calls(file, _LEGACY_PICKLES):
            home = module.partition(".")[0]
            if home not in _HOMES and not (home in _LIGHTNING and name == "AttributeDict"):
                raise WeightsError(called(f"{module}.{name}".replace("__builtin__", "builtins"), path))


def _calls_in_zip(path: Path) -> Iterator[tuple[str, str]]:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if any("/code/" in name or name.endswith("/constants.pkl") for name in names):
                raise WeightsError(
                    f"weights must be a state dict; {path} is a TorchScript program. "
                    "Save its weights alone: torch.save(torch.jit.load(FILE).state_dict(), 'weights.pt')."
                )
            whole = sum(entry.file_size for entry in entries)
            if whole > _MOST_TIMES * path.stat().st_size + 2**20 or len(entries) > _MOST_FILES:
                raise WeightsError(
                    f"weights must be as large as their file; {path} unpacks to {whole:,} bytes in {len(entries):,} "
                    "files. It is no checkpoint of PyTorch."
                )
            pickles = [entry for entry in entries if entry.filename.endswith("data.pkl")]
            if len(pickles) != 1:
                raise _damaged(path, f"it holds {len(pickles)} data.pkl instead of one")
            if pickles[0].file_size > _PICKLE_LIMIT:
                raise _damaged(path, f"its data.pkl is {pickles[0].file_size:,} bytes long")
            with archive.open(pickles[0]) as file:
                yield from _calls(file, 1)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError) as error:
        if isinstance(error, WeightsError):
            raise
        raise _damaged(path, str(error)) from error


def _calls(file: IO[bytes], n_pickles: int) -> Iterator[tuple[str, str]]:
    """Yield (module, name) of everything that pickles would look up; stop silently where one is damaged.

    The reader runs its own checks: this look spares it most hostile files, and gives the name for the message.
    """
    texts: list[str] = []
    n_steps = 0
    for _ in range(n_pickles):
        try:
            for operation, argument, _place in pickletools.genops(file):
                n_steps += 1
                if n_steps > _MOST_STEPS:
                    return
                if operation.name in ("GLOBAL", "INST") and isinstance(argument, str):
                    module, _, name = argument.partition(" ")
                    yield module, name
                elif operation.name == "STACK_GLOBAL" and len(texts) == 2:
                    yield texts[0], texts[1]
                elif isinstance(argument, str):
                    texts = [*texts[-1:], argument]
        except Exception:  # pickletools raises ValueError, struct.error, UnicodeError, ... on damage
            return


def _damaged(path: Path, why: str) -> WeightsError:
    return WeightsError(
        f"weights must be a sound checkpoint of PyTorch; {path} cannot be read: {why.rstrip('.')}. Fetch it again."
    )
