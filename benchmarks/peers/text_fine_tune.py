"""Fine-tuning as transformers' guide to text classification shows it: the whole encoder, with its Trainer.

    .venvs/text/bin/python text_fine_tune.py DATA ENCODER --seed N

The guide's batches of 16, weight decay of 0.01 and padding to the longest text of a batch; Trainer's own three epochs
and 5e-5, as the guide's 2e-5 hardly moves so small an encoder. No validation set: the last epoch counts.
"""

from __future__ import annotations

import tempfile

import job as benchmark
import numpy as np
import text_job
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)


def main() -> None:
    job = text_job.parse(__doc__)
    set_seed(job.seed)  # the new head is drawn before Trainer is there
    names = sorted(set(job.train.labels))
    tokenizer = AutoTokenizer.from_pretrained(job.encoder)
    model = AutoModelForSequenceClassification.from_pretrained(job.encoder, num_labels=len(names))

    def prepared(part: text_job.Part) -> Dataset:
        ids = tokenizer(part.texts, truncation=True, max_length=256)
        return Dataset.from_dict({**ids, "label": [names.index(label) for label in part.labels]})

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder, per_device_train_batch_size=16, per_device_eval_batch_size=32, num_train_epochs=3,
                max_steps=2 if job.smoke else -1, weight_decay=0.01, seed=job.seed, use_cpu=True, report_to="none",
                save_strategy="no", disable_tqdm=True,
            ),
            train_dataset=prepared(job.train),
            data_collator=DataCollatorWithPadding(tokenizer),
            processing_class=tokenizer,
        )  # fmt: skip
        trainer.train()
        logits = trainer.predict(prepared(job.test)).predictions  # (N, C)
    right = np.array(names)[logits.argmax(axis=1)] == np.array(job.test.labels)
    benchmark.report("fine-tune", float(right.mean()), len(right), ("transformers", "torch"))


if __name__ == "__main__":
    main()
