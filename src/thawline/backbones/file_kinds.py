"""What a file of weights is if it is not safetensors, and how it becomes that. Nothing in it is ever unpickled."""

from __future__ import annotations

import json
import re
import shlex
import zipfile
from pathlib import Path

from thawline.errors import WeightsError, nearest

_BEGINNING = 4096
_INDEX = "model.safetensors.index.json"
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.safetensors$")
_TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
_TENSORFLOW = "Thawline reads weights with timm's names: choose a model with `thawline models QUERY`."


def not_there(path: Path) -> WeightsError:
    """Say what lies beside a file that is not there."""
    folder = path.parent
    if path.name == "model.safetensors" and folder.is_dir():
        if (folder / _INDEX).is_file():
            return not_safetensors(folder / _INDEX)
        found = sorted(folder.glob("*.safetensors"))
        if len(found) == 1:
            return WeightsError(f"weights in a folder must be called model.safetensors; {folder} holds {found[0].name}."
                                f" Give that file: {found[0]}")  # fmt: skip
        pickled = next((file for file in sorted(folder.iterdir()) if file.suffix in _TORCH_SUFFIXES), None)
        if pickled is not None and pickled.is_file():
            return not_safetensors(pickled)
    near = nearest(path.name, [file.name for file in folder.iterdir()]) if folder.is_dir() else ""
    return WeightsError(
        f"weights must be a safetensors file or a folder holding model.safetensors; {path} is not there.{near}"
    )


def not_safetensors(path: Path) -> WeightsError:
    """Say what a file is, by its first bytes, and what to do with it."""
    with path.open("rb") as file:
        begin = file.read(_BEGINNING)
    what, step = _kind(path, begin)
    return WeightsError(f"weights must be in the safetensors format; {path} {what}. {step}")


def _kind(path: Path, begin: bytes) -> tuple[str, str]:
    """(what the file is, the next step)"""
    text = begin.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not begin:
        return "is empty", "Fetch the file again."
    if text.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the weights themselves", "Run `git lfs pull` in its folder."
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return (
            "is a web page",
            "The link led to the page around the file: download it again with the page's own download link.",
        )
    if text.startswith(b"{"):
        return _of_json(path)
    if begin.startswith(b"PK"):
        return _of_zip(path)
    if begin.startswith(b"\x80") or path.suffix.lower() in _TORCH_SUFFIXES:
        return _pickled(path)
    if begin.startswith(b"\x89HDF\r\n\x1a\n"):
        return "is an HDF5 file, as Keras writes it", _TENSORFLOW
    if begin[4:8] == b"TFL3" or path.suffix.lower() in (".onnx", ".pb"):
        kind = "a TensorFlow Lite" if begin[4:8] == b"TFL3" else "an ONNX" if path.suffix == ".onnx" else "a TensorFlow"
        return f"is {kind} model", _TENSORFLOW
    if begin.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")):
        return "is compressed", "Unpack it, and give the file that was inside."
    return "is not (its header is damaged or missing)", "Fetch the file again."


def _pickled(path: Path) -> tuple[str, str]:
    target = path.with_name(f"{path.name.partition('.')[0]}.safetensors")
    code = (
        "import torch; from safetensors.torch import save_file; "
        f"s = torch.load({str(path)!r}, map_location='cpu', weights_only=True); "
        "s = max([s, *(v for v in s.values() if isinstance(v, dict))], "
        "key=lambda d: sum(map(torch.is_tensor, d.values()))); "
        f"save_file({{k: v.clone().contiguous() for k, v in s.items() if torch.is_tensor(v)}}, {str(target)!r})"
    )
    return (
        "is a pickled checkpoint of PyTorch, which can run code and is never opened",
        f"If you trust it, convert it once: {python_command(code)}",
    )


def _of_zip(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return _pickled(path)[0], "It is damaged, too: fetch the file again."
    if any(name.endswith("data.pkl") for name in names):
        return _pickled(path)
    if any(name.endswith(".h5") for name in names):
        return "is a Keras model", _TENSORFLOW
    if any(name.endswith(".npy") for name in names):
        return "is an archive of NumPy arrays", "Save the arrays with safetensors.numpy.save_file."
    return "is a zip archive", "Unpack it, and give the file that was inside."


def _of_json(path: Path) -> tuple[str, str]:
    try:
        parts = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "is a JSON file", "Give the file of the weights, which lies beside it or where it came from."
    return f"lists the {len(parts)} parts of a larger file", _joining([path.with_name(str(part)) for part in parts])


def one_of_several(path: Path) -> str:
    """Return how to join the parts of which a file is one; an empty string if it is whole."""
    match = _PART.search(path.name)
    if match is None or int(match[2]) < 2:
        return ""
    total = int(match[2])
    parts = [path.with_name(path.name.replace(match[0], f"-{n:05d}-of-{match[2]}.safetensors"))
             for n in range(1, min(total, 999) + 1)]  # fmt: skip
    return f"{path.name} is one of {total} parts. {_joining(parts)}"


def _joining(parts: list[Path]) -> str:
    shown = [str(part) for part in parts]
    target = parts[0].with_name("model.safetensors") if parts else Path("model.safetensors")
    code = (
        "from safetensors.torch import load_file, save_file; "
        f"save_file({{k: v for f in {shown!r} for k, v in load_file(f).items()}}, {str(target)!r})"
    )
    return f"Join them: {python_command(code)}"


def python_command(code: str) -> str:
    """Write a call of Python as a shell takes it: in the quotes of any system, unless the code holds what these do not.

    Args:
        code: One line; names of files may hold anything.
    """
    return f"python -c {shlex.quote(code)}" if set(code) & set('"$`\\!%') else f'python -c "{code}"'
