"""Does `thawline rank` find the right backbone, and at what cost? Writes benchmarks/ranking.md.

    python benchmarks/ranking.py

Needs THAWLINE_REAL_DATA (hymenoptera, flowers5_128, fashion_mnist_small, brain_mri) and THAWLINE_REAL_WEIGHTS. Five
backbones on four data sets. Full probes: the features of every picture, and a logistic head on all that is not the test
part. Each data set's ranking and full probes run in a process and with a cache of their own. The clock runs from before
the first model is opened; imports and reading the data are not counted, conversion of the models is.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DATA = ("hymenoptera", "flowers5_128", "fashion_mnist_small", "brain_mri")
SEEDS = (0, 1, 2)
"""Each draws its own split, where the data bring none, and its own pictures."""
WEIGHTS = ("imagenet", "inat_insect", "inat_bird")
RANDOM = "random/mobilenetv2_100"
KEPT = Path(__file__).with_suffix(".part.json")
"""What a run that was stopped has measured already."""
MOST_REGRET, MOST_COST = 0.5, 0.15


def models() -> list[Any]:
    """Names, and for the random weights the same backbone whatever the seed."""
    from thawline.planning.contenders import open_contender

    folder = Path(os.environ["THAWLINE_REAL_WEIGHTS"])
    trained = [f"timm/mobilenetv2_100@{folder}/mobilenetv2_100.{name}.safetensors" for name in WEIGHTS]
    return [*trained, "embedded/resnet18_half", open_contender(RANDOM, 0)]


def short(name: str) -> str:
    """imagenet, inat_insect, inat_bird, embedded, random."""
    return name.split(".")[-2] if name.endswith(".safetensors") else name.partition("/")[0]


def opened(name: str) -> Any:
    """The data set; what both ways import is imported here, before the clock runs."""
    import sklearn.mixture  # noqa: F401

    import thawline as tl
    from thawline.backbones.providers.timm_import import import_timm

    import_timm()
    return tl.open_data(Path(os.environ["THAWLINE_REAL_DATA"]) / name)


def part_rank(name: str) -> dict[str, Any]:
    """Rank with each seed; the first finds an empty cache, and its seconds are those that count."""
    import thawline as tl

    data = opened(name)
    found: dict[str, Any] = {"seconds": [], "work": [], "chosen": [], "rounds": []}
    for seed in SEEDS:
        started = time.perf_counter()
        ranking = tl.rank(data, models(), seed=seed)
        found["seconds"].append(time.perf_counter() - started)
        found["work"].append(ranking.work_frac)
        found["chosen"].append(short(ranking.models[0].name))
        found["rounds"].append(ranking.rounds)
    return found


def part_full(name: str) -> dict[str, Any]:
    """Probe every model on everything; only the first seed's head is on the clock."""
    import thawline as tl
    from thawline.backbones import Backbone
    from thawline.heads import fit_head

    data = opened(name)
    started, others_s = time.perf_counter(), 0.0
    accuracy: dict[str, list[float]] = {}
    for model in models():
        backbone = model if isinstance(model, Backbone) else tl.open_backbone(model)
        values = tl.extract_features(data, backbone).values
        for seed in SEEDS:
            head_started = time.perf_counter()
            split = tl.split_data(data, seed=seed)
            rows = np.sort(np.concatenate([split.train, split.val]))
            fitted = fit_head(
                "logistic", values[rows], data.labels[rows], len(data.classes), groups=data.groups[rows], seed=seed
            )
            right = fitted.head.logits(values[split.test]).argmax(axis=1) == data.labels[split.test]
            accuracy.setdefault(short(backbone.name), []).append(float(right.mean()))
            others_s += (time.perf_counter() - head_started) * (seed != SEEDS[0])
    return {"seconds": time.perf_counter() - started - others_s, "accuracy": accuracy, "n": len(data)}


PARTS: dict[str, Callable[[str], dict[str, Any]]] = {"rank": part_rank, "full": part_full}


def in_a_process(part: str, name: str) -> dict[str, Any]:
    """Run one part in a process of its own, with an empty cache."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OMP_")}
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, __file__, "--part", part, "--data", name]
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment | {"THAWLINE_CACHE": cache}, check=False
        )
    if done.returncode:
        raise SystemExit(f"{part} {name}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(part, name, found, flush=True)
    return found


def row(name: str, made: dict[str, Any]) -> tuple[str, list[float]]:
    """A row of the table, and the regrets in points."""
    rank, full = made[f"rank {name}"], made[f"full {name}"]
    accuracy = full["accuracy"]
    best = [max(values[i] for values in accuracy.values()) for i in range(len(SEEDS))]
    regrets = [100 * (best[i] - accuracy[chosen][i]) for i, chosen in enumerate(rank["chosen"])]
    means = sorted(accuracy, key=lambda model: -statistics.mean(accuracy[model]))
    probed = ", ".join(f"{model} {100 * statistics.mean(accuracy[model]):.1f}" for model in means)
    shown = "; ".join(" then ".join(f"{n:,} for {m}" for m, n in rounds) for rounds in rank["rounds"][:1])
    cells = [
        name,
        f"{full['n']:,}",
        probed,
        ", ".join(rank["chosen"]),
        ", ".join(f"{regret:.1f}" for regret in regrets),
        shown,
        f"{100 * statistics.mean(rank['work']):.1f}",
        f"{rank['seconds'][0]:.1f}",
        f"{full['seconds']:.1f}",
        f"{100 * rank['seconds'][0] / full['seconds']:.0f}",
    ]
    return f"| {' | '.join(cells)} |", regrets


def page(made: dict[str, Any]) -> list[str]:
    from thawline.runs.reporting import environment

    rows, regrets = zip(*(row(name, made) for name in DATA), strict=True)
    every = [regret for of_data in regrets for regret in of_data]
    ranked_s = sum(made[f"rank {name}"]["seconds"][0] for name in DATA)
    full_s = sum(made[f"full {name}"]["seconds"] for name in DATA)
    work = statistics.mean(statistics.mean(made[f"rank {name}"]["work"]) for name in DATA)
    mean = statistics.mean(every)
    return [
        "# Ranking",
        "",
        f"Written by `python benchmarks/ranking.py` on {time.strftime('%Y-%m-%d')}; "
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
        "",
        "Five backbones: MobileNetV2 with ImageNet, iNaturalist-insect, iNaturalist-bird and random weights, and the",
        "embedded model. `thawline rank` sees the training set only. A full probe is a logistic head on the pooled",
        f"features of all training pictures, tested on the test set. {len(SEEDS)} seeds: each draws its own pictures,",
        "and its own split if the data bring none. Work counts multiply-adds of the backbones. Seconds are those of",
        "the first seed, with an empty cache; they include the conversion of the models but not imports. On few",
        "pictures, opening the models takes most of the time of both, so that the share of seconds is far above the",
        "share of work. The measure (mean of two log losses) and the default share were chosen on these four data",
        "sets, so the regret is that of known data.",
        "",
        "| data | pictures | full probes, test accuracy (mean), % | chosen | regret, points | pictures for models "
        "| work, % | rank, s | full probes, s | % of seconds |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *rows,
        "",
        f"Regret: mean {mean:.2f} points, at most {max(every):.1f}, over {len(every)} rankings (wanted: at most "
        f"{MOST_REGRET} in the mean: {'met' if mean <= MOST_REGRET else 'missed'}).",
        f"Cost: {100 * work:.1f} % of the work of full probes, and {100 * ranked_s / full_s:.1f} % of their seconds "
        f"over the four together ({ranked_s:.0f} s against {full_s:.0f} s; wanted: at most {100 * MOST_COST:.0f} %: "
        f"{'met' if max(work, ranked_s / full_s) <= MOST_COST else 'missed'}).",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--data", choices=DATA, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.part:
        print(json.dumps(PARTS[asked.part](asked.data)))
        return
    missing = [name for name in ("THAWLINE_REAL_DATA", "THAWLINE_REAL_WEIGHTS") if not os.environ.get(name)]
    if missing:
        print(f"{' and '.join(missing)} must be set: benchmarks/ranking.py needs real data and weights.")
        return
    made: dict[str, Any] = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}
    for name in DATA:
        for part in PARTS:
            if f"{part} {name}" not in made:
                made[f"{part} {name}"] = in_a_process(part, name)
                KEPT.write_text(json.dumps(made), "utf-8")
    target = Path(__file__).with_suffix(".md")
    target.write_text("\n".join(page(made)) + "\n", encoding="utf-8")
    KEPT.unlink()
    print(target.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
