"""A fit from a path opens its data as the command does, and builds its engine meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import thawline as tl
from thawline.errors import UsageError
from thawline.features import ahead
from thawline.planning import Asked

Build = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Build:
    """Names and settings of the backbones that were built ahead."""
    found: Build = []
    monkeypatch.setattr(
        ahead, "build_ahead", lambda backbone, layer, **how: found.append((backbone.name, {"layer": layer, **how}))
    )
    return found


def test_a_path_is_opened_while_the_engine_is_built(tiny_photos: Path, tmp_path: Path, built: Build) -> None:
    asked = Asked.of(layer="layer3", precision="f32")
    tl.fit(tiny_photos, asked, run=tmp_path / "run")
    how = {"layer": "layer3", "engine": "auto", "precision": "f32", "device": "auto"}
    assert built == [("embedded/resnet18_half", how)]
    plan = tl.plan(tl.open_data(tiny_photos), tl.open_backbone(), head="ridge", engine="torch")
    tl.fit(tiny_photos, plan, run=tmp_path / "planned")
    assert built[1][1] == {"layer": "pooled", "engine": "torch", "precision": "auto", "device": "auto"}


def test_nothing_is_built_for_data_that_are_open_or_for_random_weights(
    tiny_photos: Path, tmp_path: Path, built: Build
) -> None:
    tl.fit(tl.open_data(tiny_photos), run=tmp_path / "open")
    with pytest.raises(UsageError, match="layer must be one layer"):  # refused once the data are open
        tl.fit(tiny_photos, Asked.of(from_scratch=True, layer="layer2,layer3"), run=tmp_path / "scratch")
    assert built == []


def test_a_table_is_opened_by_its_columns(tiny_photos: Path, tmp_path: Path) -> None:
    rows = [f"photos/{p.parent.name}/{p.name},{p.parent.name}" for p in sorted(tiny_photos.rglob("*.png"))]
    table = tmp_path / "table.csv"
    table.write_text("where,species\n" + "\n".join(rows))
    run = tl.fit(table, run=tmp_path / "run", file_column="where", label_column="species")
    assert run.report.content["classes"] == ["disc", "square", "stripes"]
    with pytest.raises(UsageError, match="label_column must come with a path; got data that are open already"):
        tl.fit(tl.open_data(tiny_photos), label_column="species")
