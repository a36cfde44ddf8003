"""Train what is above the thaw line.

Takes features (or, above a lowered line, activations), labels and a plan's settings. Gives a Fitted: the head, and a
report of each stage with what it thawed, cost and reached. Refuses labels that it cannot learn from; nothing here ever
sees the test set.

The path of a training, from the top:
    finetune.fine_tune     sets up: from what a plan asks (Ask) to a net, its stages and their inputs. -> Fitted
    stages.train           trains stage after stage, keeps or rolls back, goes on with all samples. -> TrainingResult
    loop.StageTrainer.run  makes the steps of one stage: (B, ...) -> logits (B, C) -> loss -> step. -> StageResult
A Net is backbone and head; Above is the part of it above the thaw line; TrainingSetup is what all stages share.
"""

from typing import TYPE_CHECKING

from thawline.lazy import lazily

if TYPE_CHECKING:
    from thawline.training.probe import Fitted as Fitted
    from thawline.training.probe import fit_probe as fit_probe

_HOME = {
    "Fitted": "thawline.training.probe",
    "fit_probe": "thawline.training.probe",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = sorted(_HOME)
