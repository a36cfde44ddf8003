"""The recipe of the backbone that ships: a training that was stopped goes on to the same weights."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

N = 24


@pytest.fixture
def recipe_modules(monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, Any]:
    """The recipe's own modules, which stand beside the package, not in it."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "pretraining"))
    pictures, teacher, training = map(import_module, ("pictures", "teacher", "training"))
    return pictures, teacher, training


def started(modules: tuple[Any, Any, Any]) -> Any:
    """A training of two epochs on a few pictures, three steps each, with a teacher that says something at random."""
    pictures, teacher, training = modules
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    lessons = training.Lessons(
        rng.integers(0, 256, (N, 64, 64, 3), dtype=np.uint8),
        torch.from_numpy(rng.integers(0, training.N_CLASSES, N)),
        np.arange(N),
        [pictures.draw_boxes(N, 0.35, pictures.generator(0, 2, view)) for view in range(2)],
        [rng.normal(size=(N, 12)).astype(np.float16) for _ in range(2)],
        teacher.TeacherHead(12, training.N_CLASSES).requires_grad_(False),
    )
    recipe = training.Recipe(
        channels=(4, 4, 8, 8),
        epochs=2,
        sizes_px=((0.0, 32), (0.5, 40)),
        batch_size=8,
        workers=1,
        warmup_epochs=0.5,
        n_views=2,
    )
    return training.Training(recipe, lessons)


def weights(run: Any) -> dict[str, torch.Tensor]:
    kept = {f"student.{name}": tensor for name, tensor in run.student.state_dict().items()}
    return kept | {f"average.{name}": tensor for name, tensor in run.ema.module.state_dict().items()}


def test_a_stopped_training_goes_on_to_the_same_weights(recipe_modules: tuple[Any, Any, Any], tmp_path: Path) -> None:
    whole, stopped = started(recipe_modules), started(recipe_modules)
    begun = {name: tensor.clone() for name, tensor in weights(whole).items()}
    assert whole.n_steps == 6
    for _ in range(6):
        whole.train_step()
    for _ in range(4):
        stopped.train_step()
    stopped.save(tmp_path / "checkpoint.pt")
    resumed = started(recipe_modules)
    resumed.load(tmp_path / "checkpoint.pt")
    assert resumed.step == 4
    for _ in range(2):
        resumed.train_step()

    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name]), name
    assert not [name for name, tensor in begun.items() if torch.equal(tensor, weights(whole)[name])]


def test_an_opinion_that_was_asked_for_is_kept(recipe_modules: tuple[Any, Any, Any], tmp_path: Path) -> None:
    pictures, teacher, _ = recipe_modules
    asked = []

    class Reader:
        width = 3

        def features(self, pixels: Any, boxes: torch.Tensor, title: str) -> Any:
            asked.append(title)
            yield from (np.full((1, 3), float(row)) for row in range(len(pixels)))

    pixels = np.zeros((4, 64, 64, 3), np.uint8)
    boxes = pictures.draw_boxes(4, 0.35, pictures.generator(0))
    first = teacher.taught(Reader, pixels, boxes, tmp_path / "view-0.npy")
    again = teacher.taught(Reader, pixels, boxes, tmp_path / "view-0.npy")
    assert asked == ["view-0"]
    assert first.tolist() == again.tolist() == [[row] * 3 for row in range(4)]
    assert [file.name for file in tmp_path.iterdir()] == ["view-0.npy"]
