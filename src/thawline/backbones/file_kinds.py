"""What a file is that holds no weights which can be read, and what to do with it; which file of a folder holds them."""

from __future__ import annotations

import shlex
import zipfile
from pathlib import Path

from thawline.errors import WeightsError, nearest

_BEGINNING = 4096
_USUAL = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".tar")
_TENSORFLOW = "Thawline reads weights with timm's names: choose a model with `thawline models QUERY`."


def not_there(path: Path) -> WeightsError:
    """Say what lies beside a file that is not there."""
    folder = path.parent
    if path.name == _USUAL[0] and folder.is_dir():
        found = sorted(folder.glob("*.safetensors"))
        found = found or sorted(file for file in folder.iterdir() if file.suffix in TORCH_SUFFIXES and file.is_file())
        if len(found) == 1:
            return WeightsError(f"weights in a folder must be called model.safetensors; {folder} holds {found[0].name}."
                                f" Give that file: {found[0]}")  # fmt: skip
    near = nearest(path.name, [file.name for file in folder.iterdir()]) if folder.is_dir() else ""
    return WeightsError(
        f"weights must be a safetensors file or a folder holding model.safetensors; {path} is not there.{near}"
    )


def weights_in(folder: Path) -> Path:
    """Return the file of weights of a folder, by its usual names; it may not be there."""
    return next((folder / name for name in _USUAL if (folder / name).is_file()), folder / _USUAL[0])


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
        return "is a JSON file", "Give the file of the weights, which lies beside it or where it came from."
    if begin.startswith(b"PK"):
        return _of_zip(path)
    if begin.startswith(b"\x89HDF\r\n\x1a\n"):
        return "is an HDF5 file, as Keras writes it", _of_keras(path)
    if path.suffix.lower() == ".onnx":
        return "is an ONNX model", f"It can be used frozen: --model onnx/{path.stem}@{path}."
    if begin[4:8] == b"TFL3" or path.suffix.lower() == ".pb":
        return f"is a TensorFlow{' Lite' if begin[4:8] == b'TFL3' else ''} model", _TENSORFLOW
    if begin.startswith((b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"7z\xbc\xaf", b"Rar!")):
        return "is compressed", "Unpack it, and give the file that was inside."
    return "is not (its header is damaged or missing)", "Fetch the file again."


def _of_zip(path: Path) -> tuple[str, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "is a damaged zip archive", "Fetch the file again."
    if any(name.endswith(".h5") for name in names):
        return "is a Keras model", _of_keras(path)
    if any(name.endswith(("archive_format", "/models/model.json")) for name in names):
        return (
            "is an exported program of PyTorch",
            "Export the model to ONNX instead, and use that frozen: --model onnx/NAME@FILE.onnx.",
        )
    if any(name.endswith(".npy") for name in names):
        return "is an archive of NumPy arrays", "Save the arrays with safetensors.numpy.save_file."
    return "is a zip archive", "Unpack it, and give the file that was inside."


def _of_keras(path: Path) -> str:
    return f"Open it as --model keras/NAME@{path}; a whole model of your own as keras/custom@{path}."


def python_command(code: str) -> str:
    """Write a call of Python as a shell takes it: in the quotes of any system, unless the code holds what these do not.

    Args:
        code: One line; names of files may hold anything.
    """
    return f"python -c {shlex.quote(code)}" if set(code) & set('"$`\\!%') else f'python -c "{code}"'
