"""``thawline evaluate``: judge a run on other labelled data."""

from functools import partial

from thawline.cli import options
from thawline.cli.console import listening, print_json

EXAMPLES = "Examples:\n\nthawline evaluate runs/ants more_photos/\n\nthawline evaluate runs/ants checked.csv --json"


def evaluate(
    run: options.RunFolder,
    data: options.Data,
    label_column: options.LabelColumn = None,
    file_column: options.FileColumn = None,
    image_column: options.ImageColumn = None,
    root: options.Root = None,
    strict: options.Strict = False,
    seed: options.Seed = 0,
    json_: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Judge a run on other labelled data. Says how much of it the model has seen before."""
    from thawline import runs
    from thawline.cli.results import print_evaluation
    from thawline.data import open_data

    finished = runs.open_run(run)
    with listening(quiet=quiet or json_) as listener:
        opened = open_data(
            data,
            label_column=label_column,
            file_column=file_column,
            image_column=image_column,
            root=root,
            strict=strict,
            trainable=False,
            progress=partial(listener.progress, "reading"),
        )
        evaluation = runs.evaluate(finished, opened, seed=seed, listener=listener)
    if json_:
        print_json(evaluation.to_json())
    else:
        print_evaluation(evaluation)
