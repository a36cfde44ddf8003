"""Import OpenVINO without its converter: every room takes ``ov`` from here.

OpenVINO's package imports its converter at the end, if it can. The converter reports that to a server over the network,
writes into the home folder, and takes more than half of the time of the import. Nothing here needs it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

__all__ = ["ov"]

if TYPE_CHECKING:
    import openvino as ov
else:
    _CONVERTER = "openvino.tools.ovc"

    def _without_converter() -> Any:
        if "openvino" not in sys.modules:
            sys.modules[_CONVERTER] = None  # cannot be imported, which OpenVINO allows for
            try:
                import openvino
            finally:
                del sys.modules[_CONVERTER]
            openvino.convert_model = _convert_model
        return sys.modules["openvino"]

    def _convert_model(*args: Any, **how: Any) -> Any:
        """Do for others in this process what they expect of ``openvino.convert_model``."""
        from openvino.tools.ovc import convert_model

        return convert_model(*args, **how)

    ov = _without_converter()
