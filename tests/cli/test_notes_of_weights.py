"""Every verb that reads weights says how they were read, and what was assumed of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from thawline.backbones.providers.embedded import EMBEDDED

pytestmark = pytest.mark.usefixtures("shared_cache")
NOTES = {
    "bare": "bare.safetensors does not say how its pictures were prepared",
    "wrapped": "All names in wrapped.safetensors begin with 'module.', which was taken off",
}
LAST = {"features": ("--out", "f.npz"), "compare": ("--only", "last-layer"), "fit": ("--thaw", "none"),
        "plan": ("--thaw", "none")}  # fmt: skip


def model(kind: str) -> tuple[str, ...]:
    """The embedded model as somebody else saved it, on 32 pixels."""
    tensors = load_file(next(iter(EMBEDDED.values())).path)
    widths = json.dumps([32, 64, 128, 256])
    if kind == "wrapped":
        tensors = {f"module.{name}": tensor for name, tensor in tensors.items()}
    save_file(tensors, f"{kind}.safetensors")
    return f"timm/resnet18@{kind}.safetensors", "--model-arg", f"channels={widths}", "--input-px", "32"


@pytest.mark.parametrize("kind", NOTES)
@pytest.mark.parametrize("verb", ["fit", "plan", "compare", "features"])
def test_a_verb_prints_the_note_and_puts_it_into_json(
    thawline, tiny_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    name, *settings = model(kind)
    asked = (verb, tiny_photos, "--model", name, *settings, *LAST[verb])
    answer = thawline(*asked, "--quiet")
    assert answer.code == 0, answer.err
    assert f"note: {NOTES[kind]}" in " ".join(answer.out.split())
    again = thawline(*asked, "--json", *(() if verb in ("fit", "compare") else ("--force",)))
    assert again.code == 0, again.err
    assert any(note.startswith(NOTES[kind]) for note in again.json["warnings"])


@pytest.mark.slow
def test_rank_names_the_model_that_a_note_is_about(
    thawline, tiny_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tensors = load_file(next(iter(EMBEDDED.values())).path)
    config = {"architecture": "resnet18", "model_args": json.dumps({"channels": [32, 64, 128, 256]})}
    save_file({f"module.{name}": tensor for name, tensor in tensors.items()}, "wrapped.safetensors", config)
    answer = thawline("rank", tiny_photos, "--models", "wrapped.safetensors,embedded/resnet18_half", "--json")
    assert answer.code == 0, answer.err
    assert any(note.startswith("timm/resnet18@wrapped.safetensors: All names in") for note in answer.json["warnings"])
    assert not any("embedded" in note for note in answer.json["warnings"])
