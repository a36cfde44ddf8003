"""From deep samples to 8 bits: one scale for each type of number, judged over a whole data set."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from thawline.errors import UndecodableError
from thawline.inputs.image.upright import upright
from thawline.records import ValueScale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from thawline.inputs.image.deep import Deep

FEWEST_BITS, FULL = 8, 65535
_ROWS_AT_ONCE = 256
_FAR = 1e30
"""Beyond it, a difference of two numbers may not fit into 32 bits."""
_FLOAT_MAXIMA = (1, 255, *(2**bits - 1 for bits in range(9, 17)))
"""Greatest values that people store floats by."""
_NEAR = 0.25
"""Of one of these, how much must be reached for floats to be read by it."""
_BAND = 1 / 8
"""Of the range from black to white; values of a data set that fill less, far from black, are hardly told apart."""
_DIM = FULL >> 2
"""A picture of 16 bits that reaches no further may have been saved with fewer."""
_NAMES = {"uint16": "16-bit numbers", "int16": "signed 16-bit numbers", "uint32": "32-bit numbers",
          "int32": "signed 32-bit numbers", "float": "floating-point numbers"}  # fmt: skip


def type_of(samples: NDArray[Any]) -> str:
    """Name the type of deep samples: uint16, int16, uint32, int32 or float."""
    if samples.dtype.kind == "f":
        return "float"
    if samples.dtype.name not in _NAMES:
        raise UndecodableError(f"numbers of type {samples.dtype.name}: convert them to uint8, uint16 or float32")
    return samples.dtype.name


class Depth(NamedTuple):
    """What the samples of one picture are, and how far they reach."""

    values: str
    """As ``type_of``."""
    low: float
    high: float
    stretched: bool = False
    """Whether all are multiples of 257, as 8 bits stretched to 16 are, however dark."""
    inverted: bool = False
    holes: bool = False
    """Whether some are not finite."""


def depth_of(deep: Deep) -> Depth | None:
    """Measure one picture; None if there is nothing to judge.

    Raises:
        UndecodableError: No value is a finite number.
    """
    samples = deep.samples
    if samples.dtype == np.uint8 or deep.declared:
        return None
    values = type_of(samples)
    if values == "float":
        low, high, holes = _finite_range(samples)
        return Depth(values, low, high, inverted=deep.inverted, holes=holes)
    high = float(samples.max())
    stretched = values == "uint16" and high <= FULL // 2 and not (samples % 257).any()
    return Depth(values, float(samples.min()), high, stretched, deep.inverted)


def _finite_range(samples: NDArray[Any]) -> tuple[float, float, bool]:
    """Return the least and the greatest finite value, and whether there are others; a few rows at a time."""
    low, high, n = np.inf, -np.inf, 0
    for first in range(0, len(samples), _ROWS_AT_ONCE):
        rows = samples[first : first + _ROWS_AT_ONCE]
        finite = rows[np.isfinite(rows)]
        if finite.size:
            low, high, n = min(low, float(finite.min())), max(high, float(finite.max())), n + finite.size
    if not n:
        raise UndecodableError("all of its values are infinite or not a number")
    return low, high, n < samples.size


def alone(depth: Depth) -> ValueScale:
    """Return the scale of one picture of which nothing else is known: the range of its type, or that it suggests."""
    values, low, high = depth.values, depth.low, depth.high
    if values == "uint16":
        return ValueScale(values, 0.0, float(FULL))
    if low >= 0 and high <= 1 and values == "float":
        return ValueScale(values, 0.0, 1.0)
    if low >= 0 and high <= 255:
        return ValueScale(values, 0.0, 255.0)
    if low >= 0 and high <= FULL and values != "float":
        return ValueScale(values, 0.0, float(FULL))
    return ValueScale(values, low, high if high > low else low + 1)


def together(depths: Sequence[Depth]) -> ValueScale:
    """Return the one scale of all pictures of a data set whose samples are of one type."""
    values = depths[0].values
    low, high = min(depth.low for depth in depths), max(depth.high for depth in depths)
    if low < 0:
        return ValueScale(values, low, high if high > low else low + 1)
    if values == "float":
        usual = next((float(most) for most in _FLOAT_MAXIMA if high <= most), None)
        by_usual = usual is not None and (usual == 1 or high >= _NEAR * usual)
        return ValueScale(values, 0.0, usual if by_usual and usual else high)
    if values == "uint16" and all(depth.stretched for depth in depths):
        return ValueScale(values, 0.0, float(FULL))  # few values, spread over the whole range
    return ValueScale(values, 0.0, float(2 ** max(int(high).bit_length(), FEWEST_BITS) - 1))


def is_usual(scale: ValueScale) -> bool:
    """Whether a scale is what the type promises, so that nobody needs to hear of it."""
    return scale.black == 0 and scale.white == (1 if scale.values == "float" else FULL)


def to_eight_bits(deep: Deep, scale: ValueScale | None) -> Image.Image:
    """Return RGB or grey of 8 bits, transparency laid over white.

    Args:
        scale: Of the type of its samples; None if they are uint8, or carried to their full range.
    """
    samples = deep.samples
    if samples.dtype == np.uint8:
        grey = samples
    elif scale is None or scale == ValueScale("uint16", 0.0, float(FULL)):
        grey = (samples >> 8).astype(np.uint8) if deep.high_byte else _by_table(samples, 0.0, float(FULL))
    elif samples.dtype == np.uint16:
        grey = _by_table(samples, scale.black, scale.white)
    else:
        grey = _by_rows(samples, scale)
    if deep.inverted:
        grey = 255 - grey
    image = Image.fromarray(np.ascontiguousarray(grey))
    if deep.alpha is None:
        return image
    rgb = image.convert("RGB")
    bands = (*rgb.split(), Image.fromarray(np.ascontiguousarray(deep.alpha)))
    rgba = Image.merge("RGBa", bands).convert("RGBA") if deep.premultiplied else Image.merge("RGBA", bands)
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def _by_table(samples: NDArray[np.uint16], black: float, white: float) -> NDArray[np.uint8]:
    table = _scaled(np.arange(FULL + 1, dtype=np.float32), black, white)
    return table[samples]


def _by_rows(samples: NDArray[Any], scale: ValueScale) -> NDArray[np.uint8]:
    """Scale a few rows at a time: a hundred million numbers would take gigabytes."""
    out = np.empty(samples.shape, np.uint8)
    far = max(abs(scale.black), abs(scale.white)) > _FAR
    small = samples.dtype in (np.float32, np.float16, np.int16) and not far
    for first in range(0, len(samples), _ROWS_AT_ONCE):
        with np.errstate(invalid="ignore"):
            rows = samples[first : first + _ROWS_AT_ONCE].astype(np.float32 if small else np.float64)
        out[first : first + _ROWS_AT_ONCE] = _scaled(rows, scale.black, scale.white)
    return out


def _scaled(values: NDArray[Any], black: float, white: float) -> NDArray[np.uint8]:
    """Not-a-number becomes black; what lies outside is cut off."""
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (values - black) * (255.0 / max(white - black, 1e-30))
    return np.nan_to_num(np.rint(scaled), nan=0.0).clip(0, 255).astype(np.uint8)


# Over a data set


class Extra(NamedTuple):
    """What a look at a picture found beside its sketch."""

    depth: Depth | None
    raw: NDArray[np.float32] | None
    """(16, 16) or (16, 16, 3): the sketch before it was scaled; None where the sketch says enough."""
    pages: bool = False
    """Whether the file holds more pictures than this one."""

    def to_bytes(self) -> bytes:
        """Return what ``extra_from`` takes."""
        head = {"depth": self.depth, "channels": 0 if self.raw is None else self.raw.size, "pages": self.pages}
        return json.dumps(head).encode() + b"\n" + (b"" if self.raw is None else self.raw.tobytes())


def extra_from(stored: bytes) -> Extra:
    """Read what ``Extra.to_bytes`` wrote."""
    head, _, rest = stored.partition(b"\n")
    found = json.loads(head)
    depth = None if found["depth"] is None else Depth(*found["depth"])
    raw = np.frombuffer(rest, np.float32) if found["channels"] else None
    return Extra(
        depth, None if raw is None else raw.reshape(16, 16, *((3,) if raw.size == 768 else ())), found["pages"]
    )


def raw_sketch(deep: Deep, side: int) -> NDArray[np.float32]:
    """Squash the samples as they are, upright, (side, side) or (side, side, 3)."""
    channels = deep.samples[..., None] if deep.samples.ndim == 2 else deep.samples
    small = []
    for i in range(channels.shape[2]):  # one at a time: together they may take gigabytes
        with np.errstate(over="ignore", invalid="ignore"):
            values = np.array(channels[..., i], dtype=np.float32)  # a copy: an array is its owner's
        np.nan_to_num(values, copy=False, posinf=0, neginf=0)
        small.append(Image.fromarray(values).resize((side, side), Image.Resampling.HAMMING))
    turned = [np.asarray(upright(image, (0, 0, side, side), deep.orientation)[0], np.float32) for image in small]
    return turned[0] if len(turned) == 1 else np.stack(turned, axis=2)


def settled(
    extras: Mapping[int, Extra], sketches: NDArray[np.uint8], judged_by: NDArray[np.bool_]
) -> tuple[tuple[ValueScale, ...], NDArray[np.uint8]]:
    """Judge the scales over a data set, and return them with the sketches as they look by them.

    Args:
        extras: Row -> what was found there.
        sketches: (N, 16, 16, 3), each deep one scaled as if it stood alone.
        judged_by: (N,) whether a row may decide: those of a given test set may not.
    Returns:
        Scales that differ from those of a picture alone; sketches, the same array if nothing changed.
    """
    scales = []
    for values in _NAMES:
        rows = [row for row, extra in extras.items() if extra.depth is not None and extra.depth.values == values]
        deciding = [row for row in rows if judged_by[row]] or rows
        if not deciding:
            continue
        scale = together([depth for row in deciding if (depth := extras[row].depth) is not None])
        if values != "uint16" or not is_usual(scale):
            scales.append(scale)
        again = [row for row in rows if (depth := extras[row].depth) is not None and alone(depth) != scale]
        if again:
            sketches = sketches.copy()
        for row in again:
            sketches[row] = _sketch_by(scale, extras[row], sketches[row])
    return tuple(scales), sketches


def _sketch_by(scale: ValueScale, extra: Extra, sketch: NDArray[np.uint8]) -> NDArray[np.uint8]:
    assert extra.depth is not None
    own = alone(extra.depth)
    raw = extra.raw
    if raw is None:
        shown = 255.0 - sketch if extra.depth.inverted else sketch
        raw = np.asarray(shown / 255 * (own.white - own.black) + own.black, np.float32)
    grey = _scaled(raw, scale.black, scale.white)
    grey = 255 - grey if extra.depth.inverted else grey
    return np.broadcast_to(grey if grey.ndim == 3 else grey[..., None], sketch.shape)


def remarks(extras: Mapping[int, Extra], scales: Sequence[ValueScale], files: Sequence[str]) -> list[str]:
    """Say how deep pictures were read, and what else was found in their files."""
    said = []
    n, by_type = len(files), {scale.values: scale for scale in scales}
    for values in _NAMES:
        found = {
            row: extra.depth
            for row, extra in extras.items()
            if extra.depth is not None and extra.depth.values == values
        }
        if not found:
            continue
        scale = by_type.get(values, ValueScale(values, 0.0, float(FULL)))
        said += _of_type(found, scale, n, files)
        holes = [row for row, depth in found.items() if depth.holes]
        if holes:
            said.append(
                f"{len(holes)} of {n} pictures hold values that are infinite or not a number, first {files[holes[0]]}: "
                "missing ones are read as black."
            )
    pages = [row for row, extra in extras.items() if extra.pages]
    if pages:
        said.append(
            f"{len(pages)} of {n} files hold several pages; the first of each is read, the others are left out, for "
            f"one {files[pages[0]]}."
        )
    return said


def _of_type(found: Mapping[int, Depth], scale: ValueScale, n: int, files: Sequence[str]) -> list[str]:
    """Say by which scale the pictures of one type are read, if it is not what the type promises."""
    high = max(depth.high for depth in found.values())
    said = []
    if not is_usual(scale):
        said.append(f"{len(found)} of {n} pictures hold {_reach(scale, found.values())}.")
    low = min(depth.low for depth in found.values())
    if 0 < low < high and high - low < _BAND * (scale.white - scale.black):
        share = (high - low) / (scale.white - scale.black)
        said.append(
            f"The {_NAMES[scale.values]} of {len(found)} pictures lie between {_number(low)} and {_number(high)}, "
            f"{share:.0%} of the range from black to white, so they have little contrast. To use the whole range, "
            f"subtract {_number(low)} from all values and save the pictures again."
        )
    beyond = [row for row, depth in found.items() if depth.high > scale.white or depth.low < scale.black]
    if beyond:
        go = "go" if len(beyond) > 1 else "goes"
        said.append(
            f"{len(beyond)} of them {go} beyond that scale, in the test set; first {files[beyond[0]]}, which reaches "
            f"{_number(found[beyond[0]].high)}. What lies outside is cut off."
        )
    few = [row for row, depth in found.items() if 0 < depth.high <= _DIM and not depth.stretched]
    if scale.values == "uint16" and is_usual(scale) and few:
        said.append(
            f"{len(few)} of {len(found)} pictures of 16 bits reach only "
            f"{_number(max(found[row].high for row in few))} or less, the others {_number(high)}; all are read as 16 "
            f"bits, so these look dark, first {files[few[0]]}. If they were saved with fewer bits, multiply their "
            "values to fill 16."
        )
    return said


def _reach(scale: ValueScale, depths: Iterable[Depth]) -> str:
    values, depths = _NAMES[scale.values], list(depths)
    low, high = min(depth.low for depth in depths), max(depth.high for depth in depths)
    if scale.black == 0 and scale.values != "float":
        bits = int(scale.white).bit_length()
        least = f"{_number(high)} of {_number(2.0 ** (32 if '32' in scale.values else 16) - 1)}"
        return f"{values} that reach only {least}: read as {bits} bits, all by this one scale"
    return (
        f"{values} from {_number(low)} to {_number(high)}: read by one scale, {_number(scale.black)} as black and "
        f"{_number(scale.white)} as white"
    )


def _number(value: float) -> str:
    return f"{int(value):,}" if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


# One picture at a time, for predictions


@dataclass(slots=True)
class Ranges:
    """How far the deep pictures reached that a model was shown; several threads may note them at once."""

    _found: dict[str, tuple[int, float, float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, deep: Deep) -> None:
        """Take one picture into account."""
        depth = depth_of(deep)
        if depth is None:
            return
        with self._lock:
            n, low, high = self._found.get(depth.values, (0, depth.low, depth.high))
            self._found[depth.values] = (n + 1, min(low, depth.low), max(high, depth.high))

    def remarks(self, scales: Sequence[ValueScale]) -> list[str]:
        """Say where the pictures do not fit the scales that a model was fitted with."""
        by_type, said = {scale.values: scale for scale in scales}, []
        for values, (n, low, high) in sorted(self._found.items()):
            pictures = f"{n} picture{'s' if n > 1 else ''}"
            reach = f"{_NAMES[values]} from {_number(low)} to {_number(high)}"
            scale = by_type.get(values)
            if scale is not None and (high > scale.white or low < scale.black):
                said.append(
                    f"{pictures} with {reach} {'go' if n > 1 else 'goes'} beyond the scale that the model was "
                    f"fitted with, {_number(scale.black)} to {_number(scale.white)}; what lies outside is cut off."
                )
            elif scale is None and (high <= _DIM if values == "uint16" else values != "float" or low < 0 or high > 1):
                white = "65,535" if values == "uint16" else "what each picture suggests"
                said.append(
                    f"{pictures} with {reach}: the model was fitted with no pictures that settle their scale, so "
                    f"white is {white}. If that leaves them too dark, convert them as its training pictures were."
                )
        return said
