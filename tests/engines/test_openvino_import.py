"""OpenVINO is imported without the part that reports to a server and writes into the home folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run(code: str, home: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | {"HOME": str(home)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_predicting_and_converting_report_nothing_and_leave_the_home_folder_alone(tmp_path: Path) -> None:
    code = (
        "import sys, thawline as tl\n"
        "from thawline.engines.converting.conversion import convert\n"
        "convert(tl.open_backbone(input_px=64), ('pooled',), 'bf16')\n"
        "print([name for name in sys.modules if 'telemetry' in name or name.startswith('openvino.tools.')])\n"
    )
    assert run(code, tmp_path) == "[]\n"
    assert list(tmp_path.iterdir()) == []


def test_others_in_the_process_still_find_the_converter(tmp_path: Path) -> None:
    code = (
        "from thawline.scale.openvino_import import ov\n"
        "import sys, types\n"
        "assert 'openvino.tools.ovc' not in sys.modules\n"
        "sys.modules['openvino.tools.ovc'] = types.SimpleNamespace(convert_model=lambda *a, **h: (a, h))\n"
        "import openvino\n"
        "print(openvino is ov, openvino.convert_model(1, input=2))\n"
    )
    assert run(code, tmp_path) == "True ((1,), {'input': 2})\n"


def test_an_import_that_was_there_before_stays_as_it_is(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['openvino.tools.ovc'] = None\n"
        "import openvino\nfrom thawline.scale.openvino_import import ov\n"
        "print(openvino is ov, hasattr(ov, 'convert_model'), 'openvino.tools.ovc' in sys.modules)\n"
    )
    assert run(code, tmp_path) == "True False True\n"
