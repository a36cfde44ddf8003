"""``thawline features``: features of a frozen backbone, as a file."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from thawline.cli.console import listening, plain, print_json, say
from thawline.cli.groups import without
from thawline.cli.opening import opened_together
from thawline.cli.options import ComputeOptions, Data, LabelledData, ModelOptions, OutputOptions

EXAMPLES = (
    "Examples:\n\n"
    "thawline features photos/ --out features.npz\n\n"
    "thawline features photos/ --layer layer3 --out features.parquet   (an earlier layer)\n\n"
    "thawline features photos/ --pooling flatten --out features.npz   (every number of the last map)"
)


def features(
    *,
    data: Data,
    place: Annotated[Path, typer.Option("--out", help="File to write, .npz or .parquet: values, files, labels.")],
    force: Annotated[bool, typer.Option("--force", help="Replace that file if it is there.")] = False,
    data_options: LabelledData,
    model: ModelOptions,
    compute: Annotated[ComputeOptions, without("seed")],
    output: OutputOptions,
) -> None:
    """Write the features of a frozen model to a file. Features of its last layer, or of an earlier one."""
    from thawline.features import extract_features
    from thawline.features.export import ENDINGS, write_features
    from thawline.features.width import check_room
    from thawline.planning import noted
    from thawline.scale.disk import check_new_file

    layer = model.read_at()
    check_new_file(place, "--out", ENDINGS, force=force)
    hardware = compute.hardware()
    with listening(quiet=output.silent) as listener:
        labelled, backbone = opened_together(data, data_options, model, listener, layer=layer, **hardware)
        labelled = noted(labelled, backbone)
        check_room(backbone, layer, len(labelled), fitting=False)
        extracted = extract_features(
            labelled, backbone, rung=layer, **hardware, progress=partial(listener.progress, "features")
        )
    write_features(extracted, labelled, place)
    from thawline.cli.results import json_of, print_data

    n, dim = extracted.values.shape
    if output.json_:
        print_json(
            {
                "out": str(place),
                "model": backbone.name,
                "layer": layer,
                "n": n,
                "dim": dim,
                "features": {"computed": extracted.computed, "reused": extracted.reused},
                "seconds": round(extracted.seconds, 4),
            }
            | json_of(labelled)
        )
    else:
        print_data(labelled)
        say(
            f"{extracted.computed:,} features computed, {extracted.reused:,} reused, {extracted.seconds:.1f} s. "
            f"Written: {plain(place)} ({n:,} samples x {dim:,} features, {plain(layer)})",
            soft_wrap=True,
        )
