"""Train what is above the thaw line.

Takes features (or, above a lowered line, activations), labels and a plan's settings. Gives a Fitted: the head, and a
record of each stage with what it thawed, cost and reached. Refuses labels that it cannot learn from; nothing here ever
sees the test part.
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
