"""At which level of a folder the classes stand, and which folders are the parts of a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from thawline.data import open_data
from thawline.data.folders.words import is_unlabelled, part_of, words_of
from thawline.errors import DataError, UsageError
from thawline.records import Dataset

Make = Callable[..., Path]


def counts_of(data: Dataset) -> dict[str, int]:
    return dict(Counter(data.classes[label] for label in data.labels))


def sets_of(data: Dataset) -> dict[str, int] | None:
    return None if data.given is None else dict(Counter(data.given.tolist()))


def below(*parts: str, names: tuple[str, ...] = ("cat", "dog"), n: int = 2) -> dict[str, int]:
    return {f"{part}/{name}": n for part in parts for name in names}


@pytest.mark.parametrize(
    ("folders", "sets"),
    [
        (below("seg_train/seg_train", "seg_test/seg_test") | {"seg_pred/seg_pred": 2}, {"train": 4, "test": 4}),
        (below("training_set/training_set", "test_set/test_set"), {"train": 4, "test": 4}),
        (below("Training", "Testing"), {"train": 4, "test": 4}),
        (below("TRAIN", "TEST"), {"train": 4, "test": 4}),
        (below("01_train", "02_valid", "03_test") | {"unlabeled": 2}, {"train": 4, "val": 4, "test": 4}),
        (below("x_train", "x_test"), {"train": 4, "test": 4}),
        (below("images/train", "images/val") | {"labels": 0}, {"train": 4, "val": 4}),
        (below("train/images", "test/images"), {"train": 4, "test": 4}),
        (below("train_data", "valData"), {"train": 4, "val": 4}),
        (below("all/archive/train2017", "all/archive/eval2017"), {"train": 4, "test": 4}),
        (below("train_images") | {"test_images": 2}, {"train": 4}),
        (below("asl_train/asl_train") | {"asl_test/asl_test": 2}, {"train": 4}),
        (below("cat", "dog", names=("train", "test")), {"train": 4, "test": 4}),
        ({f"{name}/{part}/{name}_{i}": 1 for name in ("cat", "dog") for part in ("training", "val") for i in (1, 2)},
         {"train": 4, "val": 4}),
    ],
)  # fmt: skip
def test_parts_of_a_split_are_known_by_their_words(
    class_folders: Make, folders: dict[str, int], sets: dict[str, int]
) -> None:
    data = open_data(class_folders(folders))
    assert data.classes == ("cat", "dog")
    assert sets_of(data) == sets


def test_a_split_inside_the_classes_beside_notes(class_folders: Make) -> None:
    folders = below("cat", "dog", names=("train", "test")) | {"cat/unlabeled": 2, "eel/train": 2}
    root = class_folders(folders)
    (root / "dog/labels").mkdir()
    (root / "dog/labels/0.txt").write_text("x")
    data = open_data(root)
    assert (counts_of(data), sets_of(data)) == ({"cat": 4, "dog": 4, "eel": 2}, {"train": 6, "test": 4})
    assert "Folders of pictures without labels are left out: 'cat/unlabeled'." in data.warnings


def test_what_is_left_out_beside_parts_is_said(class_folders: Make) -> None:
    data = open_data(class_folders(below("seg_train", "seg_test") | {"seg_pred": 3}))
    assert (
        "The folders are read as a split: 'seg_train' as the training set, 'seg_test' as the test set." in data.warnings
    )
    assert "Folders beside the train and test folders are left out: 'seg_pred'." in data.warnings
    data = open_data(class_folders(below("train_a") | {"test_a": 2}, "loose"))
    assert "2 pictures in test_a are in no class folder and are left out." in data.warnings


@pytest.mark.parametrize(
    "folders",
    [
        {"train": 2, "bus": 2, "tram": 2},
        {"test": 2, "control": 2},
        {"bullet_train": 2, "test_tube": 2},
        {"valid": 2, "invalid": 2},
        {"train_station/a": 2, "train_station/b": 2, "test_tube/c": 2, "test_tube/d": 2, "airport": 2},
        {"steam_train/old": 2, "steam_train/new": 2, "bullet_train/red": 2, "bullet_train/blue": 2},
        {"unknown": 2, "known": 2},
        {"labels": 2, "stamps": 2},
        {"images": 2, "drawings": 2},
    ],
)
def test_classes_may_have_the_names_of_parts(class_folders: Make, folders: dict[str, int]) -> None:
    data = open_data(class_folders(folders))
    assert data.classes == tuple(sorted({name.split("/")[0] for name in folders}))
    assert data.given is None


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (below("cat", "dog", names=("old", "new")) | {"dog/brown": 1, "cat/wild": 1}, True),
        ({f"{name}/patient{i:02}": 1 for name, some in (("cat", (1, 2, 3)), ("dog", (2, 3, 4))) for i in some}, False),
        ({"cat/brown": 2, "cat/black": 2, "dog/small": 2, "dog/large": 2}, False),
        (below("cat", "dog", names=("images",)), False),
    ],
)  # fmt: skip
def test_folders_below_a_class_may_share_names(class_folders: Make, folders: dict[str, int], said: bool) -> None:
    data = open_data(class_folders(folders))
    assert data.classes == ("cat", "dog")
    assert any("nearly the same" in warning for warning in data.warnings) == said


@pytest.mark.parametrize("inside", ["", "/images"])
def test_domains_are_no_classes(class_folders: Make, inside: str) -> None:
    folders = below(*(f"{domain}{inside}" for domain in ("amazon", "dslr", "webcam")), names=("bike", "mug"))
    root = class_folders(folders)
    level = 3 if inside else 2
    with pytest.raises(DataError) as refused:
        open_data(root)
    assert "the classes may be the folders 'amazon', 'dslr', 'webcam', or the folders 'bike', 'mug'" in str(
        refused.value
    )
    assert f"--class-level 1 (class_level=1) for the former, --class-level {level} for the latter" in str(refused.value)
    assert counts_of(open_data(root, class_level=level)) == {"bike": 6, "mug": 6}
    assert counts_of(open_data(root, class_level=1)) == {"amazon": 4, "dslr": 4, "webcam": 4}
    assert counts_of(open_data(root / f"dslr{inside}")) == {"bike": 2, "mug": 2}


def test_domains_of_which_one_lacks_a_class(class_folders: Make) -> None:
    names = ("bike", "cup", "mug", "pen", "shoe")
    root = class_folders(below("amazon", "dslr", names=names, n=1) | below("webcam", names=names[1:], n=1))
    with pytest.raises(DataError, match=r"the folders 'cup', 'mug', 'pen' and 1 more .*--class-level 2"):
        open_data(root)
    assert open_data(root, class_level=2).classes == names


def test_domains_with_a_split_of_their_own(class_folders: Make) -> None:
    root = class_folders(below(*(f"{domain}/{part}" for domain in ("sketch", "photo") for part in ("train", "test"))))
    with pytest.raises(DataError, match=r"folders 'photo', 'sketch', or the folders 'cat', 'dog' .* --class-level 3"):
        open_data(root)
    data = open_data(root, class_level=3)
    assert (counts_of(data), sets_of(data)) == ({"cat": 8, "dog": 8}, {"train": 8, "test": 8})


def test_domains_below_a_training_set(class_folders: Make) -> None:
    folders = {f"train/{domain}/{name}": 2 for domain in ("a_site", "b_site") for name in ("cat", "dog")}
    root = class_folders(folders | {"test/a_site/cat": 2, "test/a_site/dog": 2})
    with pytest.raises(DataError, match=r"--class-level 2 .* --class-level 3"):
        open_data(root)
    data = open_data(root, class_level=3)
    assert (data.classes, sets_of(data)) == (("cat", "dog"), {"train": 8, "test": 4})


def test_a_level_that_cannot_be(class_folders: Make) -> None:
    root = class_folders({"cat": 2, "dog": 2})
    with pytest.raises(UsageError, match=r"class_level \(--class-level\) must be 1 or more: .* got 0"):
        open_data(root, class_level=0)
    with pytest.raises(DataError, match=r"no folder stands 4 levels below it, where class_level \(--class-level\)"):
        open_data(root, class_level=4)
    (root / "table.csv").write_text("filename,label\ncat/0.png,cat\ndog/0.png,dog\n")
    with pytest.raises(UsageError, match=r"\(--class-level\) goes with a folder of class folders, not with"):
        open_data(root / "table.csv", class_level=1)


def test_parts_without_class_folders_are_no_classes(class_folders: Make) -> None:
    root = class_folders({"train": 3, "test": 2})
    with pytest.raises(DataError, match=r"'test', 'train' are by name the parts of a split, and hold loose pictures"):
        open_data(root)
    assert counts_of(open_data(root, class_level=1)) == {"test": 2, "train": 3}
    with pytest.raises(DataError, match="are by name the parts of a split"):
        open_data(class_folders({"seg_train": 3, "seg_test": 2, "seg_pred": 2}, "seg"))


def test_a_class_called_train_with_folders_in_it(class_folders: Make) -> None:
    root = class_folders({"train/steam": 2, "train/diesel": 2, "bus/city": 2, "car": 2})
    with pytest.raises(DataError) as refused:
        open_data(root)
    assert "'train' may be a training set with the classes 'diesel', 'steam', or a class beside 'bus', 'car'" in str(
        refused.value
    )
    assert counts_of(open_data(root, class_level=1)) == {"bus": 2, "car": 2, "train": 4}
    assert counts_of(open_data(root / "train")) == {"diesel": 2, "steam": 2}


@pytest.mark.parametrize(
    "beside",
    ["__MACOSX/pets/cat/._0.png", "@eaDir/cat/x.png", "$RECYCLE.BIN/a.png", ".ipynb_checkpoints/a.png",
     "docs/README.md",
     "README.md", "LICENSE", "notes/about.txt", "System Volume Information/x.dat", "Thumbs.db"],
)  # fmt: skip
@pytest.mark.parametrize("split", [False, True])
def test_what_lies_beside_the_data_folder_stops_nothing(class_folders: Make, beside: str, split: bool) -> None:
    root = class_folders(below("pets/train", "pets/test") if split else below("pets"))
    (root / beside).parent.mkdir(parents=True, exist_ok=True)
    (root / beside).write_bytes(b"\0\5\x16\7" + bytes(20))
    data = open_data(root)
    assert data.classes == ("cat", "dog")
    assert sets_of(data) == ({"train": 4, "test": 4} if split else None)
    assert data.skipped == ()


def test_folders_of_notes_beside_classes_are_no_classes(class_folders: Make) -> None:
    root = class_folders({"cat": 2, "dog": 2})
    for name in ("annotations/cat/0.xml", "docs/index.html", "cat/labels/0.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    data = open_data(root)
    assert (data.classes, data.skipped) == (("cat", "dog"), ())


@pytest.mark.parametrize("top", [True, False])
def test_masks_beside_pictures_are_left_out_with_a_word(class_folders: Make, top: bool) -> None:
    folders = below("images", "masks") if top else below("cat", "dog", names=("images", "masks"))
    data = open_data(class_folders(folders))
    assert counts_of(data) == {"cat": 2, "dog": 2}
    assert any("masks" in warning and "left out" in warning for warning in data.warnings)


@pytest.mark.parametrize("name", ["unknown", "unlabelled", "no_labels", "test", "images", "all", "predict"])
def test_pictures_without_labels_in_a_test_folder_are_left_out(class_folders: Make, name: str) -> None:
    data = open_data(class_folders(below("train") | {f"test/{name}": 2}))
    assert (data.classes, sets_of(data)) == (("cat", "dog"), {"train": 4})
    assert any(f"test/{name} " in warning and "thawline predict labels them" in warning for warning in data.warnings)


def test_unknown_may_be_a_class(class_folders: Make) -> None:
    data = open_data(class_folders(below("train", "test", names=("cat", "unknown"))))
    assert (data.classes, sets_of(data)) == (("cat", "unknown"), {"train": 4, "test": 4})
    data = open_data(class_folders(below("train", "valid") | {"valid/unlabeled": 2}, "more"))
    assert (data.classes, sets_of(data)) == (("cat", "dog"), {"train": 4, "val": 4})


def test_a_class_that_one_part_spells_otherwise(class_folders: Make) -> None:
    root = class_folders({"train/daisy": 2, "train/dandelion": 2, "test/daisy": 2, "test/Dandelion": 2})
    with pytest.raises(DataError, match=r"of class 'Dandelion': its 2 samples are in the test .* Did you mean 'd"):
        open_data(root)
    (root / "test/Dandelion").rename(root / "test/dandelion")
    assert len(open_data(root)) == 8
    with pytest.raises(DataError, match=r"class 'roses': .* in the validation set .* Did you mean 'rose'\? Rename"):
        open_data(class_folders({"train/rose": 2, "train/tulip": 2, "val/roses": 2}, "plural"))
    with pytest.raises(DataError, match=r"class 'zebra': .* Add samples of it to the training set, or remove"):
        open_data(class_folders({"train/rose": 2, "train/tulip": 2, "val/zebra": 2}, "zebra"))


def test_classes_that_differ_in_case_only_are_named(class_folders: Make) -> None:
    data = open_data(class_folders({"Daisy": 2, "daisy": 2, "tulip": 2}))
    assert data.classes == ("Daisy", "daisy", "tulip")
    assert any("'Daisy' (2) and 'daisy' (2) differ only in case" in warning for warning in data.warnings)


def test_runs_beside_the_classes_are_no_class(class_folders: Make) -> None:
    root = class_folders({"cat": 2, "dog": 2})
    (root / "runs/pets-1").mkdir(parents=True)
    for name in ("bundle.json", "model.safetensors", "report.html"):
        (root / "runs/pets-1" / name).write_text("x")
    assert open_data(root, strict=True).classes == ("cat", "dog")


def test_a_class_without_a_test_sample_is_said(class_folders: Make) -> None:
    data = open_data(class_folders({"train/cat": 2, "train/dog": 2, "train/eel": 2, "test/cat": 2, "test/dog": 1}))
    said = "The test set has no sample of class 'eel': no score says anything about it."
    assert said in data.warnings


def test_words_of_names() -> None:
    assert words_of("01_trainImages") == ["train", "images"]
    assert [part_of(name) for name in ("seg_train", "Testing", "train_val", "trainset", "valid-2")] == [
        "train", "test", "train", "train", "val",
    ]  # fmt: skip
    assert [part_of(name) for name in ("contest", "latest", "training_masks", "test_unlabeled", "train_test")] == [
        None
    ] * 5
    assert is_unlabelled("seg_pred")
    assert not is_unlabelled("predator")
