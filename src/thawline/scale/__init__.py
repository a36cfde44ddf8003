"""The seam: who runs a step, and where.

Takes items, a step that prepares one of them and a step that runs a batch. Gives the results in order, from whatever
does the work: threads of this process now, other machines later. Refuses nothing of its own: what a step raises
arrives unchanged, with a note that says which item it was.
"""

from thawline.scale.executor import Executor
from thawline.scale.local import LocalExecutor
from thawline.scale.paths import cache_root

__all__ = ["Executor", "LocalExecutor", "cache_root", "executor"]


def executor() -> Executor:
    """Return who runs steps here; rooms ask this and never start threads or processes of their own."""
    return LocalExecutor()
