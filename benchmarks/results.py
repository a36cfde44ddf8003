"""Gather what the other benchmarks wrote, under what this machine can do at most. Writes benchmarks/RESULTS.md.

make bench                       every benchmark, then this
python benchmarks/results.py     only this; with --pages, the pages anew under the limits as they were measured before
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from thawline.engines.choices import hardware
from thawline.runs.reporting import environment

HERE = Path(__file__).parent
ORDER = (
    "main_job",
    "embedded",
    "peers",
    "extraction",
    "extraction_avx512",
    "extraction_avx2",
    "at_once",
    "decode",
    "heads",
    "training_speed",
    "boundary",
    "boundary_rows",
    "time_to_accuracy",
    "thaw_lines",
    "judgement",
    "random_labels",
    "forecasts",
    "forecasts_avx2",
    "budgets",
    "budgets_avx2",
    "ranking",
    "preparation",
    "kills",
    "fuzz",
    "copies",
    "depths",
)
N_ROUNDS = 5
MACHINE = "This machine"
NO_CARD = "A graphics card was not measured here; `make bench-gpu` does it where there is one."


def best_and_median(amount: float, work: Callable[[], object]) -> str:
    """Amount per second: the best of a few rounds, and their median; neighbours can only take away."""
    rates = []
    for _ in range(N_ROUNDS):
        started = time.perf_counter()
        work()
        rates.append(amount / (time.perf_counter() - started))
    return f"{max(rates):,.0f} | {statistics.median(rates):,.0f}"


def limits() -> list[str]:
    """What the processors and the memory give to one program that does nothing else."""
    rows = []
    source = np.ones(2**27, np.uint8)
    target = np.empty_like(source)
    rows.append(f"| copying memory, GB/s (read and written) | 1 | {_rate(2 * source.nbytes / 1e9, source, target)} |")
    usual = torch.get_num_threads()
    kinds = {"float32": torch.float32}
    if hardware()[1] == "bf16":  # elsewhere torch emulates it, and takes minutes
        kinds["bfloat16"] = torch.bfloat16
    for threads in sorted({1, usual}):
        torch.set_num_threads(threads)
        for name, kind in kinds.items():
            square = torch.ones(2048, 2048, dtype=kind)
            torch.mm(square, square)
            gflop = 2 * 2048**3 / 1e9
            rows.append(
                f"| product of matrices in {name}, 2048 squared, GFLOP/s | {threads} "
                f"| {best_and_median(gflop, lambda square=square: torch.mm(square, square))} |"
            )
    torch.set_num_threads(usual)
    return rows


def _rate(amount: float, source: np.ndarray, target: np.ndarray) -> str:
    return best_and_median(amount, lambda: np.copyto(target, source))


def section(name: str) -> list[str]:
    """One benchmark's own page, a level lower; or how to make it."""
    page = HERE / f"{name}.md"
    if not page.exists():
        return [f"## {name}", "", f"Not measured yet: `python benchmarks/{name}.py`.", ""]
    lines = page.read_text(encoding="utf-8").splitlines()
    return [f"#{line}" if line.startswith("#") else line for line in lines] + [""]


def machine() -> list[str]:
    """What it is, and what it gives."""
    return [
        f"{MACHINE}: {', '.join(f'{key} {value}' for key, value in environment().items())}.",
        "",
        f"What it gave at most, on {time.strftime('%Y-%m-%d')}:",
        "",
        f"| | threads | best of {N_ROUNDS} | median |",
        "|---|---|---|---|",
        *limits(),
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pages", action="store_true", help="keep what stands there of the machine")
    page = HERE / "RESULTS.md"
    if parser.parse_args().pages:
        before = page.read_text(encoding="utf-8").splitlines()
        first = next(at for at, line in enumerate(before) if line.startswith(MACHINE))
        known = before[first : before.index(NO_CARD)]
    else:
        known = machine()
    lines = [
        "# Results",
        "",
        f"Gathered by `python benchmarks/results.py` on {time.strftime('%Y-%m-%d')}; each part has its own date.",
        *known,
        NO_CARD,
        "",
    ]
    for name in ORDER:
        lines += section(name)
    page.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    print(f"Written to {page}")


if __name__ == "__main__":
    main()
