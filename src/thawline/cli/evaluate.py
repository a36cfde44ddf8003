"""``thawline evaluate``: judge a run on other labelled data."""

from thawline.cli.console import listening, print_json
from thawline.cli.opening import opened
from thawline.cli.options import Data, LabelledData, OnlySeed, OutputOptions, RunFolder

EXAMPLES = "Examples:\n\nthawline evaluate runs/ants more_photos/\n\nthawline evaluate runs/ants checked.csv --json"


def evaluate(
    *,
    run: RunFolder,
    data: Data,
    data_options: LabelledData,
    compute: OnlySeed,
    output: OutputOptions,
) -> None:
    """Judge a run on other labelled data. Says how much of it the model has seen before."""
    from thawline import runs
    from thawline.cli.results import json_of, print_data, print_evaluation

    finished = runs.open_run(run)
    with listening(quiet=output.silent) as listener:
        labelled = opened(data, data_options, listener, trainable=False)
        evaluation = runs.evaluate(finished, labelled, seed=compute.seed, listener=listener)
    if output.json_:
        notes = {"warnings": [*labelled.warnings, *evaluation.warnings]}
        print_json(evaluation.to_json() | json_of(labelled) | notes | {"classes": list(evaluation.classes)})
    else:
        print_data(labelled)
        print_evaluation(evaluation)
