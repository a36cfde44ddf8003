"""Write what the embedded backbone says of the golden pictures, which `test_embedded.py` holds it to.

    python tests/golden/embedded.py

Run it when the embedded weights are replaced, and at no other time.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import thawline as tl
from thawline.backbones.providers.embedded import EMBEDDED

HERE = Path(__file__).parent
EXPECTED = HERE / "embedded.json"


def features(precision: str, engine: str) -> dict[str, NDArray[np.float32]]:
    """File -> its features (D,)."""
    data = tl.open_data(sorted((HERE / "pictures").glob("*.png")), ["a", "b", "c"], trainable=False)
    values = tl.extract_features(data, tl.open_backbone(), precision=precision, engine=engine).values
    return {Path(file).name: row for file, row in zip(data.files, values, strict=True)}


if __name__ == "__main__":
    found = {name: [round(float(x), 4) for x in row] for name, row in features("f32", "torch").items()}
    EXPECTED.write_text(json.dumps({"sha256": next(iter(EMBEDDED.values())).sha256, "features": found}) + "\n")
