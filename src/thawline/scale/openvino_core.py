"""The one door to OpenVINO in a process."""

from __future__ import annotations

import threading

from thawline.scale.openvino_import import ov

_opening = threading.Lock()
_kept: list[ov.Core] = []


def core() -> ov.Core:
    """Return the core that this process keeps until it ends.

    Where the processor has AMX, the plugin gives the thread that first compiles a stack of its own for signals, and
    takes it away when the last core is destroyed: in whatever thread that is. A signal that comes to the first thread
    after that, such as Ctrl-C, would end the process with a segmentation fault.
    """
    with _opening:
        if not _kept:
            _kept.append(ov.Core())
        return _kept[0]
