"""``thawline report``: print the numbers of a finished run."""

from typing import Annotated

import typer

from thawline.cli.console import print_json
from thawline.cli.options import OnlyJson, RunFolder

EXAMPLES = "Examples:\n\nthawline report runs/ants\n\nthawline report runs/ants --open"


def report(
    *,
    run: RunFolder,
    open_: Annotated[bool, typer.Option("--open", help="Show report.html in the browser.")] = False,
    output: OnlyJson,
) -> None:
    """Print the numbers of a finished run. Names the file of its report, and can open it."""
    from thawline import runs
    from thawline.cli.results import print_run

    finished = runs.open_run(run)
    if output.json_:
        print_json(finished.to_json())
    else:
        print_run(finished)
    if open_:
        typer.launch(str(finished.report_path))
