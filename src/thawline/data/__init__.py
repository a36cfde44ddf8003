"""Takes what you bring: class folders, tables, arrays, lists of paths, Hugging Face data sets.

Gives a `Dataset` in which every sample has been read and decoded once, and a `Split` of it that never leaks. Refuses
data that cannot be trained on, in one sentence, and lists each file that cannot be read.
"""

from typing import TYPE_CHECKING

from thawline.lazy import lazily

if TYPE_CHECKING:
    from thawline.data.dataset import open_data as open_data
    from thawline.data.split import split_data as split_data
    from thawline.data.subsets import subset as subset

_HOME = {
    "open_data": "thawline.data.dataset",
    "split_data": "thawline.data.split",
    "subset": "thawline.data.subsets",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = sorted(_HOME)
