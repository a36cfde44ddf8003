"""The expert's LP-FT script: its parts against what they stand for, and a short run on random weights.

It runs in a process of its own: it declares torchvision's operators as the other peers do.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
PARTS = """
import sys
sys.path.insert(0, sys.argv[1])
import lp_ft
import numpy as np
import timm
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

torch.manual_seed(0)
model = timm.create_model("mobilenetv2_100", num_classes=2, pad_type="same").eval()
for name, values in model.named_buffers():  # statistics that folding must take in
    if name.endswith(("running_mean", "running_var")):
        values.copy_(torch.rand_like(values) + 0.5)
pictures = torch.rand(2, 3, 64, 64)
with torch.no_grad():
    expected = model(pictures)
    chain = nn.Sequential(*lp_ft.layers(model).values(), model.classifier).eval()
    torch.testing.assert_close(chain(pictures), expected)
    folded = lp_ft.fold(chain)
    torch.testing.assert_close(folded(pictures), expected, rtol=1e-3, atol=1e-4)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in folded.modules())

for n_classes in (2, 3):
    model.classifier = nn.Linear(8, n_classes)
    features, labels = torch.randn(30, 8), torch.arange(30) % n_classes
    lp_ft.solve_head(model, features, labels)
    wanted = LogisticRegression(C=lp_ft.C, max_iter=1000).fit(features.numpy(), labels.numpy())
    found = model.classifier(features).softmax(1).detach().numpy()
    np.testing.assert_allclose(found, wanted.predict_proba(features.numpy()), atol=1e-5)

above = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
optimiser, schedule = lp_ft.optimisation(above, 20)
rates = []
for _ in range(20):
    rates.append([group["lr"] for group in optimiser.param_groups])
    optimiser.step()
    schedule.step()
np.testing.assert_allclose(rates[0], [0.5e-3, 0.85 * 0.5e-3])  # half-way up the warm-up of two steps
np.testing.assert_allclose(rates[2], [1e-3, 0.85e-3])
assert np.all(np.diff(np.array(rates)[2:, 0]) < 0) and 0 < rates[-1][0] < 1e-5
"""
WEIGHTS = """
import sys
sys.path.insert(0, sys.argv[1])
import torchvision_ops
import safetensors.torch
import timm
safetensors.torch.save_file(timm.create_model("mobilenetv2_100").state_dict(), sys.argv[2])
"""


def run(*command: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_its_parts_say_what_they_stand_for() -> None:
    run("-c", PARTS, PEERS)


@pytest.mark.slow
def test_a_run_trains_tests_and_tells(tiny_photos: Path, tmp_path: Path) -> None:
    weights, data = tmp_path / "weights.safetensors", tmp_path / "data"
    run("-c", WEIGHTS, PEERS, weights)
    for file in sorted(tiny_photos.glob("*/*.png")):
        target = data / ("test" if file.stem[-1] in "01" else "train") / file.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    options = ["--line", "blocks.6.0", "--curve", "--epochs", "2", "--precision", "f32", "--workers", "0"]
    found = json.loads(run(PEERS / "lp_ft.py", data, weights, *options, "--threads", "1"))
    n_train = len(list(data.glob("train/*/*")))
    assert (found["n_train"], found["n_test"]) == (n_train, len(list(data.glob("test/*/*"))))
    assert found["steps"] == 2 * -(-n_train // 32) and found["precision"] == "float32"
    assert [point["step"] for point in found["curve"]] == [0, found["steps"] // 2, found["steps"]]
    seconds = [point["seconds"] for point in found["curve"]]
    assert seconds == sorted(seconds)
    assert found["curve"][-1]["test_accuracy"] == found["test_accuracy"]
    assert seconds[-1] + found["parts_s"]["test"] == pytest.approx(
        sum(found["parts_s"].values()) - found["parts_s"]["testing"], abs=0.05
    )
    refused = subprocess.run(
        [sys.executable, PEERS / "lp_ft.py", data, weights, "--line", "blocks.9"], capture_output=True, text=True
    )
    assert refused.returncode == 1 and "--line must be all or one of conv_stem, bn1, blocks.0.0" in refused.stderr
