"""Walk a plan through the rooms above, and keep what came of it.

Takes data and a plan; gives a run folder with the model, every number with its interval, the receipt and a report.
Refuses to overwrite, and leaves nothing half-written behind, whatever stops it.
"""

from thawline.runs.evaluate import Evaluation, evaluate
from thawline.runs.fit import fit
from thawline.runs.run import Run, RunReport, open_run

__all__ = ["Evaluation", "Run", "RunReport", "evaluate", "fit", "open_run"]
