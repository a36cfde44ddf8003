"""What the guides say: embeddings of the frozen sentence encoder, then a logistic regression.

    .venvs/text/bin/python text_frozen.py DATA ENCODER --variant plain|search|mteb

`plain` is LogisticRegression with room to converge, all else as scikit-learn has it. `search` is LogisticRegressionCV
with its default ten strengths and five folds. `mteb` is the protocol of the benchmark MTEB: ten times, 8 texts of each
class and 100 iterations; the mean accuracy on the whole test set is reported. MTEB's published figure for
all-MiniLM-L6-v2 on Banking77 is 80.0.
"""

from __future__ import annotations

import statistics
from collections import Counter

import job as benchmark
import numpy as np
import text_job
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV

EXPERIMENTS, EACH = 10, 8


def mteb(train: np.ndarray, labels: list[str], test: np.ndarray, expected: list[str], seed: int) -> list[float]:
    """Accuracy of each of MTEB's experiments (AbsTaskClassification: the order is shuffled on, never anew)."""
    order, rng, found = list(range(len(labels))), np.random.RandomState(seed), []
    for _ in range(EXPERIMENTS):
        rng.shuffle(order)
        seen: Counter[str] = Counter()
        rows = []
        for row in order:
            if seen[labels[row]] < EACH:
                rows.append(row)
                seen[labels[row]] += 1
        head = LogisticRegression(max_iter=100).fit(train[rows], [labels[row] for row in rows])
        found.append(float(head.score(test, expected)))
    return found


def main() -> None:
    job = text_job.parse(__doc__, ("plain", "search", "mteb"))
    encoder = SentenceTransformer(str(job.encoder), device="cpu")
    train, test = encoder.encode(job.train.texts), encoder.encode(job.test.texts)
    if job.variant == "mteb":
        experiments = mteb(train, job.train.labels, test, job.test.labels, job.seed or 42)
        accuracy, more = statistics.mean(experiments), {"experiments": experiments}
    else:
        head = (
            LogisticRegression(max_iter=1000)
            if job.variant == "plain"
            else LogisticRegressionCV(
                Cs=10, cv=5, max_iter=1000, scoring="accuracy", l1_ratios=(0.0,), use_legacy_attributes=False
            )
        )
        accuracy, more = float(head.fit(train, job.train.labels).score(test, job.test.labels)), {}
    packages = ("sentence-transformers", "torch", "scikit-learn")
    benchmark.report(f"frozen-{job.variant}", accuracy, len(test), packages, **more)


if __name__ == "__main__":
    main()
