"""Give the Python API mutated pictures, tables, weights, plans and bundles: it may refuse, and do nothing else.

    python benchmarks/fuzz.py                                  10,000 inputs; writes fuzz.md (about 15 minutes)
    python benchmarks/fuzz.py --only tables --at 17            one of them again, with its traceback

Input number k of a kind is made from the seed, the kind and k alone. Whatever raises something else than
`ThawlineError`, ends the process, takes more than 30 s, or makes the process grow by more than 1 GiB is a fault.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import resource
import shutil
import struct
import tempfile
import time
import tomllib
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from in_children import outcomes

COUNTS = {"pictures": 5_000, "tables": 2_600, "weights": 800, "plans": 900, "bundles": 700}
SEED = 0
SLOW_S, SILENT_S, PREPARING_S, GROWTH_KIB = 30, 180, 900, 2**20
CLASSES = ("left", "right")
MODEL = "test_resnet"
"""Smallest of timm's residual networks: 0.5 M parameters."""

NUMBERS = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 0xFFFFFFFE)
WORDS = (
    "nan", "inf", "-inf", "-1", "0", "1e309", "99999999999999999999", "true", "null", "''", '""', "[]", "{}", "[[1]]",
    "'x'", "1.5", "../../etc/passwd", "/dev/zero", "\\", "\0", "\N{REPLACEMENT CHARACTER}", "é", "é", "\u202e",
    "a" * 300, "[" * 300, "%s%n", "=1+1", "train", "test", ",", ";", "\t", "\r", "\n\n", '"', "#",
)  # fmt: skip
"""What is put where something else is expected."""


def mutated(data: bytes, chance: random.Random, other: bytes) -> bytes:
    """Change, cut, repeat or splice some bytes, one to four times."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(found) + 1)
        end = min(len(found), at + chance.choice((1, 2, 4, 16, 200)))
        change = chance.randrange(8)
        if change == 0 and at < len(found):
            found[at] ^= 1 << chance.randrange(8)
        elif change == 1:
            found[at:end] = chance.randbytes(end - at)
        elif change == 2:
            number = chance.choice(NUMBERS)
            size, order = chance.choice(("H", "I")), chance.choice("<>")
            packed = struct.pack(order + size, number & (0xFFFF if size == "H" else 0xFFFFFFFF))
            found[at : at + len(packed)] = packed
        elif change == 3:
            del found[at:]
        elif change == 4:
            del found[at:end]
        elif change == 5:
            found[at:at] = found[at:end] * chance.choice((1, 3, 50))
        elif change == 6:
            start = chance.randrange(len(other) + 1)
            found[at:] = other[start:]
        else:
            found[at:at] = chance.choice(WORDS).encode()
    return bytes(found)


def mutated_text(text: str, chance: random.Random, other: str) -> bytes:
    """Exchange words and lines of a text, change its encoding, or change bytes of it."""
    lines, how = text.split("\n"), chance.randrange(8)
    if how < 4:
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(lines))
            mark = chance.choice([mark for mark in ",;\t=" if mark in lines[at]] or [" "])
            words = lines[at].split(mark)
            words[chance.randrange(len(words))] = chance.choice((*WORDS, *words))
            lines[at] = mark.join(words)
    elif how == 4:
        lines = [lines[0], *chance.sample(lines, chance.randint(0, len(lines)))]
    encoding = chance.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"))
    made = "\n".join(lines).encode(encoding, "replace")
    return mutated(made, chance, other.encode()) if how == 5 else made


def mutated_json(value: Any, chance: random.Random) -> Any:
    """Replace, drop or repeat one entry somewhere inside."""
    if isinstance(value, dict) and value and chance.random() < 0.95:
        key = chance.choice(sorted(value))
        rest = {k: v for k, v in value.items() if k != key}
        how = chance.randrange(8)
        if how == 0:
            return rest
        if how == 1:
            return {**rest, chance.choice(WORDS): value[key]}
        return {**rest, key: mutated_json(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        at = chance.randrange(len(value))
        return [*value[:at], *chance.choice(([], [value[at]] * 2, [mutated_json(value[at], chance)])), *value[at + 1 :]]
    word = chance.choice(WORDS)
    try:
        return json.loads(word)
    except (ValueError, RecursionError):
        return chance.choice((word, -1, 2**70, 0.5, float("nan"), [], {}, None, True))


# What is mutated ------------------------------------------------------------------------------------------------------


@cache
def pixels(number: int = 0) -> Any:
    """A smooth picture with some noise, uint8 (40, 56, 3)."""
    import numpy as np

    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:40, 0:56]
    smooth = 128 + 60 * np.sin(x / (5 + number % 7)) + 50 * np.cos(y / (4 + number % 5))
    return (smooth[..., None] + rng.normal(0, 12, (40, 56, 3))).clip(0, 255).astype(np.uint8)


@cache
def pictures() -> dict[str, bytes]:
    """One sound file of each kind, by suffix."""
    import numpy as np
    from PIL import Image, features

    colour, grey = Image.fromarray(pixels()), Image.fromarray(pixels()[..., 0])
    deep = Image.fromarray(pixels()[..., 0].astype(np.uint16) * 16)
    kinds: list[tuple[str, str, Image.Image, dict[str, Any]]] = [
        (".jpg", "JPEG", colour, {"exif": _turned()}), (".progressive.jpg", "JPEG", colour, {"progressive": True}),
        (".png", "PNG", colour, {}), (".palette.png", "PNG", colour.quantize(16), {"transparency": 3}),
        (".deep.png", "PNG", deep, {}), (".webp", "WEBP", colour, {}), (".gif", "GIF", colour, {}),
        (".bmp", "BMP", colour, {}), (".tif", "TIFF", colour, {"compression": "tiff_lzw"}),
        (".deep.tif", "TIFF", deep, {}), (".float.tif", "TIFF", grey.convert("F"), {}), (".ppm", "PPM", colour, {}),
        (".cmyk.jpg", "JPEG", colour.convert("CMYK"), {}),
    ]  # fmt: skip
    kinds += [(".avif", "AVIF", colour, {})] if features.check("avif") else []
    kinds += [(".jp2", "JPEG2000", colour, {})] if features.check("jpg_2000") else []
    found = {}
    for suffix, name, image, options in kinds:
        file = io.BytesIO()
        image.save(file, name, **options)
        found[suffix] = file.getvalue()
    return found


def _turned() -> Any:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@cache
def photos(folder: Path) -> Path:
    """Two classes of five sound pictures."""
    from PIL import Image

    root = folder / "photos"
    for number in range(10):
        path = root / CLASSES[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(number)).save(path)
    return root


@cache
def run_folder(folder: Path) -> Path:
    """A finished run on the sound pictures."""
    import thawline as tl

    return tl.fit(photos(folder), run=folder / "run").folder


@cache
def weights_file(folder: Path) -> bytes:
    """The weights of a small architecture, with what timm writes about it."""
    from safetensors.torch import save

    from thawline.backbones.providers.timm_import import import_timm

    model = import_timm().create_model(MODEL)
    described = {"input_size": [3, 160, 160], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.3], "classifier": "fc"}
    metadata = {"architecture": MODEL, "pretrained_cfg": json.dumps(described)}
    return save({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, metadata)


@cache
def plan_text(folder: Path) -> str:
    """The plan of a training of the last layer."""
    import thawline as tl
    from thawline.planning.fit_plan import write_plan

    backbone = tl.open_backbone(input_px=32)
    plan = tl.plan(tl.open_data(photos(folder)), backbone, thaw="last:1", training={"epochs": 1})
    write_plan(plan, folder / "plan.toml")
    return (folder / "plan.toml").read_text(encoding="utf-8")


# One input of each kind -----------------------------------------------------------------------------------------------


def try_picture(folder: Path, chance: random.Random) -> None:
    """One picture, in a folder that is opened, or given to a run to predict."""
    import thawline as tl

    made = pictures()
    suffix = chance.choice(sorted(made))
    data = mutated(made[suffix], chance, made[chance.choice(sorted(made))])
    name = f"x{chance.choice((suffix, suffix, '', '.jpg', '.png', '.dcm'))}"
    if chance.random() < 0.3:
        tl.load_bundle(run_folder(folder)).predict([data])
        return
    odd = photos(folder) / CLASSES[0] / name
    odd.write_bytes(data)
    try:
        tl.open_data(photos(folder))
    finally:
        odd.unlink()


def try_table(folder: Path, chance: random.Random) -> None:
    """One table, opened or given to a run to predict."""
    import thawline as tl

    names = sorted(path.relative_to(photos(folder)).as_posix() for path in photos(folder).rglob("*.png"))
    rows = [(name, name.split("/")[0], "train" if number % 3 else "test") for number, name in enumerate(names)]
    header = chance.choice((("filename", "label"), ("filename", "label", "split"), ("id", "target"), ("path", "class")))
    path = folder / "tables" / f"table{chance.choice(('.csv', '.csv', '.tsv', '.parquet'))}"
    path.parent.mkdir()
    comma = chance.choice((",", ",", ",", ";")) if path.suffix == ".csv" else "\t"
    text = "\n".join(comma.join(row[: len(header)]) for row in (header, *rows)) + "\n"
    if path.suffix == ".parquet":
        sound = _parquet(header, rows, folder)
        path.write_bytes(mutated(sound, chance, sound[::-1]))
    else:
        path.write_bytes(mutated_text(text, chance, plan_text(folder)))
    if chance.random() < 0.3:
        tl.load_bundle(run_folder(folder)).predict(path, root=photos(folder))
    else:
        tl.open_data(path, root=photos(folder), strict=chance.random() < 0.3)


def _parquet(header: tuple[str, ...], rows: list[tuple[str, ...]], folder: Path) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {
        name: list(column) for name, column in zip(header, zip(*rows, strict=True), strict=False)
    }
    columns["image"] = [(photos(folder) / row[0]).read_bytes() for row in rows]
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def try_weights(folder: Path, chance: random.Random) -> None:
    """One file of weights, opened and loaded; half of the time the bytes of its tensors are left in peace."""
    import thawline as tl

    sound = weights_file(folder)
    size = int.from_bytes(sound[:8], "little")
    if chance.random() < 0.7:
        described = json.loads(sound[8 : 8 + size])
        about = described["__metadata__"]
        if chance.random() < 0.5:
            about["pretrained_cfg"] = json.dumps(mutated_json(json.loads(about["pretrained_cfg"]), chance))
        else:
            described = mutated_json(described, chance)
        header = json.dumps(described).encode()
        made = len(header).to_bytes(8, "little") + header + sound[8 + size :]
    else:
        made = mutated(sound, chance, sound[: 8 + size])
    path = folder / "weights" / f"weights{chance.choice(('.safetensors', '.safetensors', '.bin', '.pth'))}"
    path.parent.mkdir()
    path.write_bytes(made)
    backbone = tl.open_backbone(f"timm/{MODEL}@{path}", input_px=32)
    backbone.module()


def try_plan(folder: Path, chance: random.Random) -> None:
    """One plan, read as a fit reads it."""
    import tomlkit

    from thawline.planning import read_plan

    text = plan_text(folder)
    path = folder / "plans" / "plan.toml"
    path.parent.mkdir()
    if chance.random() < 0.6:
        made = _without_nothing(mutated_json(tomllib.loads(text), chance))
        path.write_text(tomlkit.dumps(made if isinstance(made, dict) else {}), encoding="utf-8")
    else:
        path.write_bytes(mutated_text(text, chance, text[::-1]))
    read_plan(path)


def _without_nothing(value: Any) -> Any:
    """Drop what TOML cannot hold."""
    if isinstance(value, dict):
        return {key: _without_nothing(each) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nothing(each) for each in value if each is not None]
    return value


def try_bundle(folder: Path, chance: random.Random) -> None:
    """One run folder with a changed file, loaded and asked; half of the time the digests are those of the change."""
    import thawline as tl

    sound, place = run_folder(folder), folder / "bundles"
    needed = ["bundle.json", "model.safetensors", *(f"graphs/{path.name}" for path in (sound / "graphs").iterdir())]
    for name in needed:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        os.link(sound / name, place / name)
    name = chance.choice([*needed, "bundle.json", "bundle.json"])
    data = (sound / name).read_bytes()
    if name.endswith(".json") and chance.random() < 0.7:
        made = json.dumps(mutated_json(json.loads(data), chance)).encode()
    else:
        made = mutated(data, chance, (sound / "bundle.json").read_bytes())
    (place / name).unlink()
    (place / name).write_bytes(made)
    if name != "bundle.json" and chance.random() < 0.5:
        _promise(place, name)
    tl.load_bundle(place).predict([pixels(3)]).to_json()


def _promise(place: Path, name: str) -> None:
    """Write the digest of a changed file where the bundle promises it, as a stranger could."""
    from thawline.scale.disk import file_sha256

    if name.endswith((".xml", ".bin")):
        described = json.loads((place / "graphs/graphs.json").read_bytes())
        number, ending = Path(name).name.split(".")
        described["parts"][int(number)]["sha256"][ending] = file_sha256(place / name)
        (place / "graphs/graphs.json").unlink()
        (place / "graphs/graphs.json").write_text(json.dumps(described), encoding="utf-8")
    spec = json.loads((place / "bundle.json").read_bytes())
    spec["tensors_sha256"] = file_sha256(place / "model.safetensors")
    spec["graphs_sha256"] = file_sha256(place / "graphs/graphs.json")
    (place / "bundle.json").unlink()
    (place / "bundle.json").write_text(json.dumps(spec), encoding="utf-8")


KINDS: Mapping[str, Callable[[Path, random.Random], None]] = {
    "pictures": try_picture, "tables": try_table, "weights": try_weights, "plans": try_plan, "bundles": try_bundle,
}  # fmt: skip


# Running --------------------------------------------------------------------------------------------------------------


def one(kind: str, number: int, seed: int, folder: Path, start: int) -> tuple[str, str]:
    """Try one input; return ``read``, the name of a refusal, or ``fault`` with what it was."""
    from thawline.errors import ThawlineError

    shutil.rmtree(folder / kind, ignore_errors=True)
    began, held = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        KINDS[kind](folder, random.Random(f"{seed} {kind} {number}"))
        outcome = "read"
    except ThawlineError as error:
        outcome = type(error).__name__
        if not str(error).strip():
            return "fault", f"{outcome} without a sentence"
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return "fault", f"{type(error).__name__}: {str(error)[:120]} ({Path(frame.filename).name}:{frame.lineno})"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held
    if time.monotonic() - began > SLOW_S:
        return "fault", f"took {time.monotonic() - began:.0f} s"
    if grown > GROWTH_KIB and number > start + 20:  # the first ones import libraries
        return "fault", f"the process grew by {grown / 2**20:.1f} GiB"
    return outcome, ""


def work(kind: str, start: int, stop: int, seed: int) -> None:
    """Try some inputs in this process, a JSON line for each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["THAWLINE_CACHE"] = str(folder / "cache")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        for prepared in (run_folder, plan_text, weights_file):  # which take longer than an input may
            prepared(folder)
        for number in range(start, stop):
            print(json.dumps([number, *one(kind, number, seed, folder, start)]), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=KINDS, help="one kind of input; nothing is written")
    parser.add_argument("--at", type=int, help="with --only: this input alone, with its traceback")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--share", type=float, default=1.0, help="of the inputs of each kind that are tried")
    parser.add_argument("--work", type=int, nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work is not None:
        work(asked.only, *asked.work, asked.seed)
        return
    if asked.at is not None:
        with tempfile.TemporaryDirectory() as name:
            os.environ["THAWLINE_CACHE"] = str(Path(name) / "cache")
            KINDS[asked.only](Path(name), random.Random(f"{asked.seed} {asked.only} {asked.at}"))
        return
    rows, faults, began = [], [], time.monotonic()
    for kind in [asked.only] if asked.only else KINDS:
        found = Counter[str]()
        n = round(COUNTS[kind] * asked.share)
        tried = outcomes(__file__, kind, n, asked.seed, silent_s=SILENT_S, preparing_s=PREPARING_S)
        for number, outcome, what in tried:
            found[outcome] += 1
            if outcome == "fault":
                faults.append(f"{kind} {number}: {what}")
                print(f"\r{faults[-1]}", flush=True)
            elif number % 25 == 0:
                print(f"\r{kind} {number}", end="", flush=True)
        refused = "; ".join(f"{name} {n:,}" for name, n in found.most_common() if name not in ("read", "fault"))
        rows.append((kind, found.total(), found["read"], refused or "none", found["fault"]))
    page = report(rows, faults, asked.seed, time.monotonic() - began)
    print(f"\n{page}")
    if not asked.only and asked.share == 1:
        Path(__file__).with_suffix(".md").write_text(page, encoding="utf-8")


def report(rows: list[tuple[str, int, int, str, int]], faults: list[str], seed: int, seconds: float) -> str:
    """The page."""
    from thawline.runs.reporting import environment

    lines = [
        "# Mutated inputs",
        "",
        f"Written by `python benchmarks/fuzz.py` on {time.strftime('%Y-%m-%d')} in {seconds / 60:.0f} min, "
        f"seed {seed};",
        f"{', '.join(f'{key} {value}' for key, value in environment().items())}.",
        "",
        f"**{sum(row[4] for row in rows)} faults in {sum(row[1] for row in rows):,} inputs.** A fault is anything that",
        "is not a `ThawlineError`: another exception, the end of the process, 30 s, or 1 GiB of memory.",
        "",
        "| kind | inputs | not refused | refused | faults |",
        "|---|---|---|---|---|",
        *(f"| {kind} | {n:,} | {read:,} | {refused} | {bad} |" for kind, n, read, refused, bad in rows),
        *(["", *(f"- {fault}" for fault in faults)] if faults else []),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
