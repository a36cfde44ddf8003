"""Train what is above the thaw line.

Takes features (or, above a lowered line, activations), labels and a plan's settings. Gives a Fitted: the head, and a
record of each stage with what it thawed, cost and reached. Refuses labels that it cannot learn from; nothing here ever
sees the test part.
"""

from thawline.training.probe import Fitted, fit_probe

__all__ = ["Fitted", "fit_probe"]
