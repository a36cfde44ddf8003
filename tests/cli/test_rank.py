"""``thawline rank``: for people at 100 columns, for programs, and when it is asked wrongly."""

from __future__ import annotations

from pathlib import Path

import pytest

from thawline.backbones.providers.embedded import EMBEDDED

WEIGHTS = next(iter(EMBEDDED.values())).path
EMBEDDED_NAME, RANDOM = "embedded/resnet18_half", "random/test_resnet"
TWO = f"{EMBEDDED_NAME},{RANDOM}"
FAST = ("--engine", "torch", "--precision", "f32")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_result_is_a_table_and_a_sentence(thawline, tiny_photos: Path) -> None:
    answer = thawline("rank", tiny_photos, "--models", f"{TWO},timm/nope", "--quiet", *FAST)
    assert answer.code == 0, answer.err
    assert max(map(len, answer.out.splitlines())) <= 100
    said = " ".join(answer.out.split())
    assert "1 embedded/resnet18_half 20 " in said
    assert f"2 {RANDOM} 20 " in said
    assert "left out: timm/nope: model must be one that timm knows; got 'timm/nope'" in said
    assert "embedded/resnet18_half suits photos best: accuracy " in said
    assert "The test set was not looked at." in said
    assert answer.err == ""


def test_json_is_one_object_and_says_the_same_again(thawline, tiny_photos: Path) -> None:
    answer = thawline("rank", tiny_photos, "--models", TWO, "--json", *FAST).json
    assert [model["name"] for model in answer["models"]] == [EMBEDDED_NAME, RANDOM]
    best = answer["models"][0]
    assert best["ci95"][0] <= best["score"] <= best["ci95"][1]
    assert best["behind"] is None
    again = thawline("rank", tiny_photos, "--models", TWO, "--json", *FAST).json
    for one, other in zip(answer["models"], again["models"], strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}


def test_options_reach_the_ranking(thawline, tiny_photos: Path) -> None:
    rows = "\n".join(f"photos/{p.parent.name}/{p.name},{p.parent.name}" for p in sorted(tiny_photos.rglob("*.png")))
    Path("table.csv").write_text(f"where,species\n{rows}\n")
    columns = ("--file-column", "where", "--label-column", "species")
    more = ("--share", "1", "--probe", "22", "--split", "80/10/10", "--seed", "5", "--depths")
    answer = thawline("rank", "table.csv", *columns, "--models", TWO, "--json", *more, *FAST)
    assert answer.code == 0, answer.err
    assert answer.json["n_train"] == 24
    assert answer.json["rounds"] == [{"models": 2, "n": 22}]


def test_a_file_of_weights_is_a_candidate(thawline, tiny_photos: Path) -> None:
    answer = thawline("rank", tiny_photos, "--models", f"all,{WEIGHTS}", "--json", *FAST).json
    assert {model["name"] for model in answer["models"]} == {EMBEDDED_NAME, str(WEIGHTS)}
    assert all(model["tied"] for model in answer["models"])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--models", EMBEDDED_NAME], "models must be at least two, to be compared; got embedded/resnet18_half"),
        (["--models", f"{TWO},{RANDOM}"], "models must be different; got random/test_resnet 2 times"),
        (["--models", "all"], "this disk holds only embedded/resnet18_half"),
        (["--models", "timm/nope,mobilenet"], "none could. timm/nope: model must be one that timm knows"),
        (["--models", TWO, "--share", "10"], "share must be above 0 and at most 1; got 10. Write 0.1 for 10 %."),
        (["--models", TWO, "--probe", "3"], "n_probe (--probe) must be at least 20 samples; got 3"),
        (["--models", TWO, "--split", "70/30"], "--split must be three shares"),
        (["--models", TWO, "--engine", "steam"], "got 'steam'"),
    ],
)
def test_what_cannot_be_is_one_sentence(thawline, tiny_photos: Path, options: list[str], text: str) -> None:
    answer = thawline("rank", tiny_photos, "--quiet", *options)
    assert answer.code == 2
    assert text in " ".join(answer.err.split())
    assert answer.err.count("error: ") == 1
    assert "Traceback" not in answer.err
    assert answer.out == ""


def test_data_that_cannot_be(thawline) -> None:
    answer = thawline("rank", "nowhere", "--models", TWO, "--json")
    assert answer.code == 2
    assert answer.json["error"]["kind"] == "MissingDataError"
    assert thawline("rank", "nowhere").code == 2
