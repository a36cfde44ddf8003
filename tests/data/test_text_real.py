"""Real sets of texts are read whole, and what is wrong with them is found."""

from __future__ import annotations

import pytest

from thawline.data import open_data, split_data


def test_the_questions_that_stand_in_both_sets_of_trec_are_found(real_data):
    data = open_data(real_data / "text" / "trec6")
    assert (data.kind, len(data)) == ("text", 5_952)
    assert data.classes == ("DESC", "ENTY", "ABBR", "HUM", "LOC", "NUM")
    assert any(note.startswith("10 samples of the training set are in the test set too") for note in data.warnings)
    assert len(split_data(data).dropped) == 10


@pytest.mark.parametrize(
    ("name", "n", "classes", "sets"),
    [
        ("sst2", 9_613, 2, {"train": 6_920, "val": 872, "test": 1_821}),
        ("banking77", 13_083, 77, {"train": 10_003, "test": 3_080}),
    ],
)
def test_folders_of_tables(real_data, name, n, classes, sets):
    data = open_data(real_data / "text" / name)
    assert (len(data), len(data.classes)) == (n, classes)
    assert {part: (data.given == part).sum() for part in sets} == sets


@pytest.mark.parametrize("name", ["all.csv", "SMSSpamCollection.csv"])
def test_repeated_messages_are_counted(real_data, name):
    data = open_data(real_data / "text" / "sms_spam" / name)
    assert (len(data), data.classes) == (5_574, ("ham", "spam"))
    assert any(note.startswith("403 of 5574 samples repeat the content of another") for note in data.warnings)
