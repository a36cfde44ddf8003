"""``thawline cache``: list what the cache holds, or delete it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thawline.cli.console import plain, print_json, say
from thawline.cli.groups import grouped
from thawline.cli.guard import guarded
from thawline.cli.options import OnlyJson

if TYPE_CHECKING:
    from thawline.store.room import CacheEntry

app = typer.Typer(
    help="Show or clear stored features, converted models and converted weights.",
    invoke_without_command=True,
    rich_markup_mode="rich",
)


def show(context: typer.Context, *, output: OnlyJson) -> None:
    """Show what the cache holds: model, layer, rows, size, last used."""
    if context.invoked_subcommand is not None:
        return
    from thawline.cli.results import table
    from thawline.engines.graph_store import GraphStore
    from thawline.store.sizes import format_bytes
    from thawline.store.store import FeatureStore
    from thawline.store.weights import WeightsShelf

    store = FeatureStore()
    found = [*store.usage(), *GraphStore().usage(), *WeightsShelf().usage()]
    entries = sorted(found, key=lambda entry: entry.last_used, reverse=True)
    total = sum(entry.bytes for entry in entries)
    if output.json_:
        described = [_as_json(entry) for entry in entries]
        print_json({"folder": str(store.root), "bytes": total, "limit_bytes": store.limit_bytes, "entries": described})
        return
    rows = table("key", "model", "layer", "precision", "rows", "size", "last used", left=("model", "layer"))
    for entry in entries:
        rows.add_row(
            entry.key[:12],
            plain(entry.model),
            plain(entry.rung),
            entry.precision,
            f"{entry.rows:,}" if entry.rows else "",
            format_bytes(entry.bytes),
            f"{entry.last_used:%Y-%m-%d %H:%M}",
        )
    say(rows)
    say(f"{format_bytes(total)} of at most {format_bytes(store.limit_bytes)} in {plain(store.root)}", soft_wrap=True)


def _as_json(entry: CacheEntry) -> dict[str, Any]:
    described = asdict(entry) | {"last_used": entry.last_used.isoformat()}
    described["layer"] = described.pop("rung")
    return described


def clear(
    *,
    older_than_days: Annotated[
        float | None, typer.Option(min=0, help="Only entries that were not used for so many days.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="Only the entry with this key, or with a key that begins so.")] = None,
    output: OnlyJson,
) -> None:
    """Delete stored features, converted models and converted weights; they are computed again when needed."""
    from thawline.engines.graph_store import GraphStore
    from thawline.store.sizes import format_bytes
    from thawline.store.store import FeatureStore
    from thawline.store.weights import WeightsShelf

    age = None if older_than_days is None else timedelta(days=older_than_days)
    converted, stored = GraphStore(), FeatureStore()
    freed = converted.clear(older_than=age, key=key) + WeightsShelf().clear(age, key)
    if key is None or not freed:  # an unknown key is refused by the larger store
        freed += stored.clear(older_than=age, key=key)
    if output.json_:
        print_json({"freed_bytes": freed})
    else:
        say(f"{format_bytes(freed)} freed.")


app.callback(epilog="Examples:\n\nthawline cache\n\nthawline cache clear --older-than-days 30")(guarded(grouped(show)))
app.command()(guarded(grouped(clear)))
