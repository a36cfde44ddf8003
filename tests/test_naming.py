"""Names as people have them: one form for matching, one that can be written anywhere."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from thawline.naming import MAX_FOLDER_NAME, as_folder_name, as_json, canonical, quoted, shell_word, written
from thawline.records import Skipped
from thawline.showing import few, printable, visible

LATIN1 = os.fsdecode(b"fl\xf6wer")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (LATIN1, r"fl\xf6wer"),
        ("daisy", "daisy"),
        ("pâquerette", "pâquerette"),
        ("é" + LATIN1, r"éfl\xf6wer"),
        ("\udcff\udcfe", r"\xff\xfe"),
        ("half \ud83d", r"half \ud83d"),
        ("\udce9 and half \ud83d", r"\udce9 and half \ud83d"),
    ],
)
def test_every_name_can_be_written(name: str, text: str) -> None:
    assert written(name) == text
    assert written(name).encode().decode() == text


def test_a_system_of_ascii_hands_over_bytes_of_names_that_are_utf8() -> None:
    assert written("pâquerette".encode().decode("ascii", "surrogateescape")) == "pâquerette"


def test_accents_joined_and_apart_are_one_name() -> None:
    assert canonical("pa\u0302querette") == canonical("pâquerette") == "pâquerette"
    assert canonical(LATIN1) == LATIN1


@pytest.mark.parametrize("name", [LATIN1, '"' + LATIN1 + "\\n", "\\" + LATIN1, "a\\xf6\nb", "pâquerette"])
def test_json_holds_what_is_written(name: str) -> None:
    text = as_json({"files": [name], name: 1})
    text.encode()
    assert json.loads(text) == {"files": [written(name)], written(name): 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        as_json({name: float("nan")}, allow_nan=False)


def test_files_left_out_are_named_as_they_can_be_written() -> None:
    assert Skipped(LATIN1, "why").file == r"fl\xf6wer"


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("photos", "photos"),
        ("my photos", "my photos"),
        ("pâquerette", "pâquerette"),
        (LATIN1, r"fl\xf6wer"),
        ("a\nb\tc\x1b", "a_b_c_"),
        ("   ", "data"),
    ],
)
def test_new_folders_are_named_after_data(name: str, folder: str) -> None:
    assert as_folder_name(name) == folder


@pytest.mark.parametrize("letter", ["x", "é", "\N{BLOSSOM}"])
def test_names_of_new_folders_leave_room_to_grow(letter: str) -> None:
    name = as_folder_name(letter * 250)
    assert MAX_FOLDER_NAME - 4 < len(name.encode()) <= MAX_FOLDER_NAME
    assert set(name) == {letter}


@pytest.mark.parametrize("name", ["runs/a", "my photos", LATIN1 + " it's", "a\nb", "tab\t\\", "$HOME"])
def test_a_command_that_is_printed_can_be_typed(name: str) -> None:
    word = shell_word(name)
    assert word.isprintable()
    said = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout
    assert os.fsdecode(said) == name


def test_names_are_shown_on_one_line() -> None:
    assert visible(f"a\n{LATIN1}\r\tb\x1b[1m\u2028c") == r"a fl\xf6wer b" + "\N{REPLACEMENT CHARACTER}[1m c"
    assert printable(LATIN1) == r"fl\xf6wer"
    assert few(["  ", "daisy"]) == "'  ', daisy"
    assert printable("") == ""


def test_names_in_messages_stand_in_quotes() -> None:
    assert quoted(LATIN1) == quoted(written(LATIN1)) == r"'fl\xf6wer'"
    assert (quoted("daisy"), quoted("it's"), quoted("a\nb")) == ("'daisy'", '"it\'s"', r"'a\nb'")
