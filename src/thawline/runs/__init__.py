"""Do what a plan says, and write the run folder.

Takes data and a plan; gives a run folder with the model, every number with its interval, the receipt and a report.
Refuses to overwrite. A run that is stopped leaves nothing half-written in its place, and `resume` finishes it.
"""

from typing import TYPE_CHECKING

from thawline.lazy import lazily

if TYPE_CHECKING:
    from thawline.runs.classifier import ThawlineClassifier as ThawlineClassifier
    from thawline.runs.compared import Comparison as Comparison
    from thawline.runs.comparison import compare as compare
    from thawline.runs.judge import Evaluation as Evaluation
    from thawline.runs.judge import evaluate as evaluate
    from thawline.runs.run import Run as Run
    from thawline.runs.run import RunReport as RunReport
    from thawline.runs.run import open_run as open_run
    from thawline.runs.walk import fit as fit
    from thawline.runs.walk import resume as resume

_HOME = {
    "Comparison": "thawline.runs.compared",
    "Evaluation": "thawline.runs.judge",
    "Run": "thawline.runs.run",
    "RunReport": "thawline.runs.run",
    "ThawlineClassifier": "thawline.runs.classifier",
    "compare": "thawline.runs.comparison",
    "evaluate": "thawline.runs.judge",
    "fit": "thawline.runs.walk",
    "open_run": "thawline.runs.run",
    "resume": "thawline.runs.walk",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = sorted(_HOME)
