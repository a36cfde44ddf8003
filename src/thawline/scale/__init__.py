"""The seam: who runs a job or a step, and where.

Takes jobs, which are records of plain values that any process can open; or items, a step that prepares one of them and
a step that runs a batch. Gives the results in order, from threads of this process. Refuses nothing of its own: an error
in a step arrives unchanged, with a note that names the item.
"""

from typing import TYPE_CHECKING

from thawline.lazy import lazily

if TYPE_CHECKING:
    from thawline.scale.executors import Executor as Executor
    from thawline.scale.executors import Job as Job
    from thawline.scale.local import LocalExecutor as LocalExecutor
    from thawline.scale.local import executor as executor
    from thawline.scale.paths import cache_root as cache_root

_HOME = {
    "Executor": "thawline.scale.executors",
    "Job": "thawline.scale.executors",
    "LocalExecutor": "thawline.scale.local",
    "cache_root": "thawline.scale.paths",
    "executor": "thawline.scale.local",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = sorted(_HOME)
