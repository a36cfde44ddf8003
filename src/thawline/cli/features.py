"""``thawline features``: what a frozen backbone says about each picture, as a file."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from thawline.cli import options
from thawline.cli.console import listening, print_json, say

EXAMPLES = (
    "Examples:\n\n"
    "thawline features photos/ --out features.npz\n\n"
    "thawline features photos/ --layer layer3 --out features.parquet   (an earlier layer)"
)


def features(
    data: options.Data,
    target: Annotated[Path, typer.Option("--out", help="File to write, .npz or .parquet: values, files, labels.")],
    model: options.Model = None,
    layer: options.Layer = "pooled",
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")] = False,
    label_column: options.LabelColumn = None,
    file_column: options.FileColumn = None,
    image_column: options.ImageColumn = None,
    root: options.Root = None,
    strict: options.Strict = False,
    model_arg: options.ModelArg = None,
    input_px: options.InputPx = None,
    mean: options.Mean = None,
    std: options.Std = None,
    interpolation: options.Interpolation = None,
    crop_pct: options.CropPct = None,
    sha256: options.Sha256 = None,
    engine: options.Engine = "auto",
    precision: options.Precision = "auto",
    device: options.Device = "auto",
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Write what a frozen model says to a file. Features of its end, or of an earlier layer."""
    from thawline.backbones import DEFAULT_MODEL, open_backbone
    from thawline.data import open_data
    from thawline.features import extract_features
    from thawline.features.ahead import build_ahead
    from thawline.features.export import ENDINGS, write_features
    from thawline.scale.disk import check_new_file

    check_new_file(target, "--out", ENDINGS, force=force)
    settings = options.model_settings(model_arg, input_px, mean, std, interpolation, crop_pct, sha256)
    with listening(quiet=quiet or json_) as listener:
        backbone = open_backbone(model or DEFAULT_MODEL, **settings)
        build_ahead(backbone, layer, engine=engine, precision=precision, device=device)
        opened = open_data(
            data,
            label_column=label_column,
            file_column=file_column,
            image_column=image_column,
            root=root,
            strict=strict,
            progress=partial(listener.progress, "reading"),
        )
        extracted = extract_features(
            opened,
            backbone,
            rung=layer,
            engine=engine,
            precision=precision,
            device=device,
            progress=partial(listener.progress, "features"),
        )
    write_features(extracted, opened, target)
    n, dim = extracted.values.shape
    if json_:
        print_json(
            {
                "out": str(target),
                "model": backbone.name,
                "layer": layer,
                "n": n,
                "dim": dim,
                "features": {"computed": extracted.computed, "reused": extracted.reused},
                "seconds": round(extracted.seconds, 4),
            }
        )
    else:
        say(
            f"{n:,} samples x {dim:,} features ({layer}) in {target}; {extracted.computed:,} computed, "
            f"{extracted.reused:,} from the cache, {extracted.seconds:.1f} s.",
            soft_wrap=True,
        )
