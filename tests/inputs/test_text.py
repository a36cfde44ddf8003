"""Texts: read, compared, made tokens of, and shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.text_tokenizer import preparation_with, write_tokenizer

from thawline.errors import UndecodableError, WeightsError
from thawline.inputs import kind_of
from thawline.inputs.text import kind
from thawline.inputs.text.decode import decoded, text_of
from thawline.inputs.text.sketches import near, normal_form, remarks, sketch
from thawline.inputs.text.tokens import tokens_of
from thawline.inputs.text.truncation import Truncation


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    return write_tokenizer(tmp_path / "encoder")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_files_are_read_by_what_they_begin_with(encoding: str) -> None:
    assert decoded("naïve שלום 😀".encode(encoding)) == ("naïve שלום 😀", False)


def test_a_file_that_is_no_utf8_is_read_as_windows_1252_and_remarked() -> None:
    content = "café".encode("cp1252")
    assert decoded(content) == ("café", True)
    (said,) = remarks(np.stack([sketch("plain"), sketch(content)]), ["a.txt", "b.txt"])
    assert "1 of 2 texts are not UTF-8" in said and "b.txt" in said


@pytest.mark.parametrize("payload", ["", "  \n\t", b"", b"\xef\xbb\xbf", b"PK\x03\x04\0\0", np.zeros((2, 2), np.uint8)])
def test_what_holds_no_text_is_refused_with_the_reason(payload: object) -> None:
    with pytest.raises(UndecodableError, match="text"):
        text_of(payload)  # type: ignore[arg-type]


def test_copies_differ_in_case_blanks_and_punctuation_alone() -> None:
    texts = [
        "Free prize, call NOW!",
        "free  prize call now",
        "Free prize - call later",
        "\uff26\uff32\uff25\uff25 prize call now",  # letters as wide as Chinese ones
        ":)",
        ":(",
    ]
    families = near(np.stack([sketch(text) for text in texts])).family.tolist()
    assert families == [0, 0, 2, 0, 4, 5]


@given(st.text(max_size=60))
def test_the_normal_form_is_stable_under_case_and_blanks(text: str) -> None:
    once = normal_form(text)
    assert normal_form(f"  {text}\n") == once
    assert not any(character.isspace() for character in once)


def test_emoji_decide_what_a_text_is() -> None:
    assert normal_form("great 😀") != normal_form("great 😡")


def test_control_characters_are_remarked() -> None:
    (said,) = remarks(np.stack([sketch("fine"), sketch("b\x07d")]), ["row 1", "row 2"])
    assert "1 of 2 texts hold control characters" in said and "row 2" in said


def test_ids_are_those_of_the_library_with_special_tokens_and_padding(tokenizer: Path) -> None:
    from tokenizers import Tokenizer

    preparation = preparation_with(tokenizer)
    ids = kind.prepare("The FILM was not good", preparation)
    expected = Tokenizer.from_file(str(tokenizer)).encode("The FILM was not good").ids
    assert ids.dtype == np.int32 and ids.shape == preparation.spec.shape
    assert ids[: len(expected)].tolist() == expected and not ids[len(expected) :].any()


def test_long_texts_are_cut_as_asked_and_counted(tokenizer: Path) -> None:
    words = "good bad fine poor film book food service".split()
    known = {word: kind.prepare(word, preparation_with(tokenizer))[1] for word in words}
    whole = [known[word] for word in words]
    head = preparation_with(tokenizer, length=6)
    ends = preparation_with(tokenizer, length=6, long="head-tail")
    heard = Truncation()
    assert kind.prepare(" ".join(words), head, heard)[1:-1].tolist() == whole[:4]
    assert kind.prepare(" ".join(words), ends)[1:-1].tolist() == whole[:2] + whole[-2:]
    kind.prepare("good film", head, heard)
    assert (heard.texts, heard.cut, heard.lost) == (2, 1, 4)
    (said,) = heard.remarks(())
    assert "1 of 2 texts are longer" in said and "4 of 14 tokens" in said


def test_nothing_is_said_where_nothing_was_cut(tokenizer: Path) -> None:
    heard = Truncation()
    kind.prepare("good film", preparation_with(tokenizer), heard)
    assert heard.remarks(()) == []


def test_prompt_and_case_come_before_the_tokenizer(tokenizer: Path) -> None:
    plain = kind.prepare("what is good", preparation_with(tokenizer))
    prompted = kind.prepare("IS good", preparation_with(tokenizer, prompt="What ", lowercase=True))
    assert plain.tolist() == prompted.tolist()


@pytest.mark.parametrize("text", ["x" * 1_000_000, "good " * 200_000, "\ud800 lone", "שלום עולם", "😀" * 50, "a\0b"])
def test_odd_texts_become_tokens(tokenizer: Path, text: str) -> None:
    preparation = preparation_with(tokenizer)
    ids = kind.prepare(text, preparation)
    assert ids.shape == (16,) and ids.min() >= 0 and ids.max() < preparation.vocabulary


def test_a_tokenizer_that_changed_or_is_gone_is_refused(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path, ("opened", "nowhere", "else"))
    preparation = preparation_with(tokenizer)
    tokenizer.write_text("{}")
    with pytest.raises(WeightsError, match="has changed"):
        tokens_of(preparation)
    tokenizer.unlink()
    with pytest.raises(WeightsError, match="no such file"):
        tokens_of(preparation)


def test_a_file_that_is_no_tokenizer_is_refused(tokenizer: Path) -> None:
    tokenizer.write_text('{"model": 3}')
    with pytest.raises(WeightsError, match="must be a tokenizer"):
        tokens_of(preparation_with(tokenizer))


def test_stand_ins_are_tokens_and_never_padding_inside(tokenizer: Path) -> None:
    preparation = preparation_with(tokenizer, pad=3)
    drawn = kind.stand_ins(20, preparation)
    assert drawn.shape == (20, 16) and (drawn == kind.stand_ins(20, preparation)).all()
    for row in drawn:
        length = int((row != 3).sum())
        assert length >= 4 and (row[:length] != 3).all() and (row[length:] == 3).all()
        assert 0 <= row.min() and row.max() < preparation.vocabulary


def test_people_see_the_beginning_on_one_line() -> None:
    shown = kind_of("text").show("one\n\ttwo " + "word " * 100, 0)
    assert isinstance(shown, str) and shown.startswith("one two word") and len(shown) == kind.SHOWN


def test_looking_at_texts_imports_neither_pillow_nor_tokenizers() -> None:
    source = (
        "import sys; from thawline.inputs import kind_of; kind_of('text').look('a text');"
        "print({'PIL', 'tokenizers', 'torch'} & sys.modules.keys())"
    )
    found = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
