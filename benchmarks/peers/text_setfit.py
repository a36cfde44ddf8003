"""SetFit: contrastive fine-tuning on pairs of texts, then a logistic regression.

    .venvs/text/bin/python text_setfit.py DATA ENCODER --seed N

Everything as SetFit 1 has it (one epoch of oversampled pairs, batches of 16 pairs, 2e-5), but for the number of steps.
By default it draws every pair, which grows with the square of the texts: 64 texts of each of six classes take 7,600
steps. It is capped at what its paper drew, 40 pairs a text (R = 20), and at 1,500 steps.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from math import comb

import job as benchmark
import text_job
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments

PAIRS_A_TEXT, BATCH, MOST_STEPS = 40, 16, 1500


def steps(labels: list[str]) -> tuple[int, int]:
    """Steps that SetFit would take by itself, and those it may take."""
    n, alike = len(labels), sum(comb(count + 1, 2) for count in Counter(labels).values())
    by_itself = -(-2 * max(alike, comb(n + 1, 2) - alike) // BATCH)
    return by_itself, min(by_itself, PAIRS_A_TEXT * n // BATCH, MOST_STEPS)


def main() -> None:
    job = text_job.parse(__doc__)
    by_itself, most = steps(job.train.labels)
    most = 2 if job.smoke else most
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=SetFitModel.from_pretrained(str(job.encoder), device="cpu"),
            args=TrainingArguments(
                output_dir=folder, batch_size=BATCH, max_steps=most, seed=job.seed, report_to="none",
                save_strategy="no", show_progress_bar=False,
            ),
            train_dataset=Dataset.from_dict({"text": job.train.texts, "label": job.train.labels}),
        )  # fmt: skip
        trainer.train()
    found = trainer.model.predict(job.test.texts)
    right = sum(str(guess) == label for guess, label in zip(found, job.test.labels, strict=True))
    packages = ("setfit", "sentence-transformers", "transformers", "torch", "scikit-learn")
    benchmark.report(
        "setfit", right / len(job.test.texts), len(job.test.texts), packages, steps=most, steps_by_itself=by_itself
    )


if __name__ == "__main__":
    main()
