"""``thawline predict``: label new pictures or texts with a run."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thawline.cli.console import listening, plain, print_json, say
from thawline.cli.groups import only
from thawline.cli.options import ComputeOptions, OutputOptions, RunFolder, UnlabelledData
from thawline.errors import DataError, UsageError

if TYPE_CHECKING:
    from thawline.bundles.answers import Threshold

EXAMPLES = (
    "Examples:\n\n"
    "thawline predict runs/ants photo.jpg\n\n"
    "thawline predict runs/ants table.csv --out predictions.csv\n\n"
    "thawline predict runs/ants new_photos/*.jpg --json\n\n"
    'thawline predict runs/reviews "a film to see twice"\n\n'
    "thawline predict runs/reviews new_reviews.csv --text-column review\n\n"
    "cat lines.txt | thawline predict runs/reviews -"
)


def predict(
    *,
    run: RunFolder,
    samples: Annotated[
        list[str],
        typer.Argument(
            metavar="SAMPLES...",
            help="Pictures, a folder of pictures, or a table with their names; texts, files or a table of texts, or - "
            "for texts from standard input, one on each line.",
        ),
    ],
    place: Annotated[Path | None, typer.Option("--out", help="File to write, .csv or .json.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace that file if it is there.")] = False,
    threshold: Annotated[
        str,
        typer.Option(
            help="Probability from which a label is given, by a model of labels; or best: of each label the one with "
            "the best F1 on samples held out."
        ),
    ] = "0.5",
    data: UnlabelledData,
    compute: Annotated[ComputeOptions, only("device")],
    output: OutputOptions,
) -> None:
    """Predict the class of new pictures or texts. Prints CSV with label and probabilities."""
    from thawline.bundles import load_bundle
    from thawline.data.passed_over import sentences
    from thawline.inputs import kind_of
    from thawline.naming import as_json
    from thawline.scale.disk import check_new_file, written_whole
    from thawline.showing import counted

    if place is not None:
        check_new_file(place, "--out", (".csv", ".json"), force=force)
    bundle = load_bundle(run, device=compute.device)
    noun = kind_of(bundle.backbone.preparation.kind).NOUN
    item = "file" if noun == "picture" else noun
    with listening(quiet=output.silent or not sys.stderr.isatty()) as listener:
        asked: Any = samples[0] if len(samples) == 1 else samples  # one may be a table or a folder
        asked = sys.stdin.buffer if asked == "-" else asked
        predictions = bundle.predict(
            asked,
            file_column=data.file_column,
            image_column=data.image_column,
            text_column=data.text_column,
            root=data.root,
            follow_links=data.follow_links,
            threshold=_threshold(threshold),
            progress=partial(listener.progress, "features"),
        )
        for warning in predictions.warnings:
            listener.note(warning)
        failed = predictions.failed
        if failed and (data.strict or not len(predictions)):
            some = " ".join(sentences(failed))
            least = (
                f"every {item} must be readable (--strict)" if data.strict else f"at least one {noun} must be readable"
            )
            raise DataError(f"{least}; got {counted(len(failed), item)} without a prediction. {some}")
        if failed:
            some = " ".join(sentences(failed))
            listener.note(f"{counted(len(failed), item)} could not be read and got no prediction. {some}")
    if place is not None:
        with written_whole(place) as file:
            if place.suffix.lower() == ".json":
                file.write(as_json(predictions.to_json(), indent=2))
            else:
                predictions.write_csv(file)
    if output.json_:
        print_json(predictions.to_json())
    elif place is None:
        predictions.write_csv(sys.stdout)
    else:
        say(f"{counted(len(predictions), 'prediction')} in {plain(place)}; {counted(len(failed), item)} left out.")


def _threshold(typed: str) -> "Threshold":
    """Read ``--threshold``."""
    if typed == "best":
        return "best"
    try:
        return float(typed)
    except ValueError:
        raise UsageError(f"--threshold must be above 0 and below 1, or best; got {typed!r}.") from None
