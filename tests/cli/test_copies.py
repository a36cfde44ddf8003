"""``--copies``: which copies count, from the command line to the files of a run."""

from __future__ import annotations

import json


def test_copies_are_counted_in_a_run(tiny_photos, thawline, tmp_path) -> None:
    disc = tiny_photos / "disc" / "disc_00.png"
    (tiny_photos / "disc" / "twin.png").write_bytes(disc.read_bytes())
    answer = thawline("fit", tiny_photos, "--thaw", "none", "--copies", "off", "--run", tmp_path / "run", "--json")
    assert answer.code == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["copies"]["sought"] == "off" and metrics["copies"]["identical"] == 1
    assert any("--copies is off" in warning for warning in metrics["warnings"])
    wrong = thawline("fit", tiny_photos, "--copies", "some")
    assert wrong.code == 2
    assert "copies must be one of near, exact, off; got 'some'" in wrong.err
