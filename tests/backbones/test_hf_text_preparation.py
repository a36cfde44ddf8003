"""How the texts of an encoder are prepared: tokenizers, lengths, prompts, padding; what is refused, and the hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.hf_text_models import (
    LENGTH,
    SENTENCES,
    encoded,
    ids_of,
    mean_by_library,
    need_transformers,
    sentence_folder,
    text_folder,
)

import thawline as tl
from thawline.errors import HubError, ModelError, ThawlineError, UsageError, WeightsError
from thawline.inputs.text.tokens import tokens_of
from thawline.records import TextPreparation, of_texts

LONG = "The river rose in March. " * 30


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return found.shape == expected.shape and float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


def edited(path: Path, **different: Any) -> None:
    said = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(said | different))


def preparation_of(folder: Path, **asked: Any) -> TextPreparation:
    return of_texts(tl.open_backbone(f"hf/small@{folder}", **asked).preparation)


def test_how_many_tokens_are_read(tmp_path: Path) -> None:
    folder, _ = text_folder(tmp_path)
    assert preparation_of(folder).length == LENGTH
    assert preparation_of(folder, model_args={"length": 12}).length == 12
    edited(folder / "sentence_bert_config.json", max_seq_length=20)
    assert preparation_of(folder).length == 20
    with pytest.raises(ModelError, match="length must be at most the 40 positions of the encoder; got 41"):
        preparation_of(folder, model_args={"length": 41})
    with pytest.raises(ModelError, match="length must leave room beside 2 special tokens; got 2"):
        preparation_of(folder, model_args={"length": 2})
    with pytest.raises(ModelError, match="length must be a whole number of tokens up to 65,536; got 'long'"):
        preparation_of(folder, model_args={"length": "long"})


def test_only_512_tokens_are_read_unless_more_are_asked_for(tmp_path: Path) -> None:
    folder, _ = text_folder(tmp_path, "modernbert", max_position_embeddings=2048)
    edited(folder / "tokenizer_config.json", model_max_length=2048)
    backbone = tl.open_backbone(f"hf/small@{folder}")
    assert of_texts(backbone.preparation).length == 512
    assert "It can read 2,048 tokens of a text; 512 are read. Set --model-arg length=2048 for all." in backbone.notes
    assert preparation_of(folder, model_args={"length": 2048}).length == 2048


def test_long_texts_are_dealt_with_as_asked(tmp_path: Path) -> None:
    folder, _ = text_folder(tmp_path)
    assert preparation_of(folder).long == "head"
    tail = preparation_of(folder, long="head-tail")
    ids = tokens_of(tail).encode(f"Where {LONG} last", tail).ids
    assert tokens_of(tail).encode("last", tail).ids[1] in ids
    with pytest.raises(UsageError, match="long must be one of head, head-tail, windows; got 'tail'"):
        preparation_of(folder, long="tail")
    with pytest.raises(UsageError, match=r"input_px is for models that take pictures; hf/small@.* takes texts"):
        preparation_of(folder, input_px=64)
    with pytest.raises(UsageError, match="long is for models that take texts; embedded/resnet18_half takes pictures"):
        tl.open_backbone("embedded/resnet18_half", long="head")


def test_prompts_stand_before_texts(tmp_path: Path) -> None:
    folder, _ = sentence_folder(tmp_path)
    prompts = {"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": None}
    edited(folder / "config_sentence_transformers.json", **prompts)
    backbone = tl.open_backbone(f"hf/small@{folder}")
    assert of_texts(backbone.preparation).prompt == ""
    assert backbone.notes == (
        "It knows prompts (query), none of them for every text: --model-arg prompt=NAME takes one.",
    )
    assert preparation_of(folder, model_args={"prompt": "query"}).prompt == "query: "
    assert preparation_of(folder, model_args={"prompt": "Title: "}).prompt == "Title: "
    edited(folder / "config_sentence_transformers.json", default_prompt_name="query")
    asking = tl.open_backbone(f"hf/small@{folder}")
    assert asking.notes == ("Texts are read behind the prompt 'query: ' (query).",)
    by_hand = tuple(f"query: {text}" for text in SENTENCES)
    assert torch.equal(encoded(SENTENCES, asking), encoded(by_hand, backbone))


def test_padding_is_what_the_tokenizer_says(tmp_path: Path) -> None:
    """A tokenizer of another family may give 0 to the token that begins every text."""
    folder, model = text_folder(tmp_path)
    layout = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = layout["model"]["vocab"]
    vocabulary["[PAD]"], vocabulary["[CLS]"] = vocabulary["[CLS]"], vocabulary["[PAD]"]
    for added in layout["added_tokens"]:
        added["id"] = vocabulary[added["content"]]
    layout["post_processor"]["special_tokens"]["[CLS]"]["ids"] = [vocabulary["[CLS]"]]
    (folder / "tokenizer.json").write_text(json.dumps(layout))
    backbone = tl.open_backbone(f"hf/small@{folder}")
    assert of_texts(backbone.preparation).pad == vocabulary["[PAD]"] != 0
    assert close(encoded(SENTENCES, backbone), mean_by_library(model, backbone, SENTENCES))


def test_a_tokenizer_that_keeps_capitals_is_helped_as_its_settings_say(tmp_path: Path) -> None:
    folder, _ = text_folder(tmp_path)
    edited(folder / "tokenizer_config.json", do_lower_case=True)
    assert not preparation_of(folder).lowercase  # the tokenizer does it
    layout = json.loads((folder / "tokenizer.json").read_text())
    layout["normalizer"] = None
    (folder / "tokenizer.json").write_text(json.dumps(layout))
    assert preparation_of(folder).lowercase


@pytest.mark.slow
def test_a_tokenizer_is_made_of_a_vocabulary(tmp_path: Path) -> None:
    need_transformers()
    folder, _ = text_folder(tmp_path)
    before = tl.open_backbone(f"hf/small@{folder}")
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)), encoding="utf-8")
    (folder / "tokenizer.json").unlink()
    backbone = tl.open_backbone(f"hf/small@{folder}")
    assert torch.equal(ids_of(SENTENCES, backbone), ids_of(SENTENCES, before))
    assert "There is no tokenizer.json: transformers made one of vocab.txt." in backbone.notes
    assert of_texts(tl.open_backbone(f"hf/small@{folder}").preparation) == of_texts(backbone.preparation)
    (folder / "vocab.txt").unlink()
    deberta, _ = text_folder(tmp_path / "deberta", "deberta-v2")
    (deberta / "tokenizer.json").unlink()
    (deberta / "spm.model").write_bytes(b"no model")
    with pytest.raises(WeightsError, match=r"tokenizer\.json must be there, or be made of spm\.model; transformers"):
        tl.open_backbone(f"hf/small@{deberta}")


def _modules(folder: Path, *kinds: str, path: str = "1_Pooling") -> None:
    listed = [{"type": f"models.{kind}", "path": path if kind == "Pooling" else ""} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(listed))


BREAKERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no tokenizer": (
        lambda folder: (folder / "tokenizer.json").unlink(),
        r"a text encoder must have tokenizer\.json beside its weights; .* has none, and no vocab\.txt either",
    ),
    "no tokenizer at all": (
        lambda folder: (folder / "tokenizer.json").write_text('{"model": 3}'),
        r"tokenizer\.json must be a tokenizer; .* is not",
    ),
    "other tokenizer": (
        lambda folder: edited(folder / "config.json", vocab_size=20),
        r"tokenizer\.json must belong to the encoder, which has embeddings of 20 tokens; its ids go up to \d+",
    ),
    "unknown module": (
        lambda folder: _modules(folder, "Transformer", "CNN", "Pooling"),
        r"modules\.json must list Transformer, Pooling, Dense layers and Normalize, .*; got Transformer, CNN, Pooling",
    ),
    "no modules": (lambda folder: (folder / "modules.json").write_text("[]"), "in this order; got nothing"),
    "modules no list": (
        lambda folder: (folder / "modules.json").write_text("{}"),
        r"modules\.json must be a JSON list; .* holds a dict",
    ),
    "module elsewhere": (
        lambda folder: _modules(folder, "Transformer", "Pooling", path="../../secrets"),
        r"a module must lie below .*; modules\.json says '\.\./\.\./secrets'",
    ),
    "no pooling": (
        lambda folder: shutil.rmtree(folder / "1_Pooling"),
        r"modules\.json names 1_Pooling, which must hold config\.json; .* is not there",
    ),
    "odd pooling": (
        lambda folder: edited(folder / "1_Pooling" / "config.json", pooling_mode="median"),
        r"pooling_mode must be one of mean, .*; got \['median'\]",
    ),
    "code as activation": (
        lambda folder: edited(folder / "2_Dense" / "config.json", activation_function="os.system"),
        r"activation_function must be one of Tanh, .*; got 'system'",
    ),
    "wide layer": (
        lambda folder: edited(folder / "2_Dense" / "config.json", out_features=10**9),
        r"out_features must be a whole number up to 65,536; got 1000000000",
    ),
    "residual": (
        lambda folder: edited(folder / "2_Dense" / "config.json", use_residual=True),
        r"a dense layer must take and give the features of a text, without a residual",
    ),
    "positions": (
        lambda folder: edited(folder / "config.json", max_position_embeddings=10**12),
        r"max_position_embeddings must be a whole number up to 1,048,576; got 1000000000000",
    ),
    "depth": (
        lambda folder: edited(folder / "config.json", num_hidden_layers=10**6),
        r"num_hidden_layers must be a whole number up to 400; got 1000000",
    ),
    "no such act": (
        lambda folder: edited(folder / "config.json", hidden_act="os.system"),
        r"hidden_act must be one of gelu, .*; got 'os.system'",
    ),
    "other width": (
        lambda folder: edited(folder / "config.json", hidden_size=10**6, num_attention_heads=1),
        r"weights must fit the architecture bert; \d+ tensors differ",
    ),
    "decoder": (
        lambda folder: edited(folder / "config.json", model_type="gpt2"),
        r"model_type in config\.json must be one of vit, .*, bert, .*; got 'gpt2'",
    ),
    "no configuration": (
        lambda folder: (folder / "config.json").unlink(),
        r"config\.json must lie beside the weights; .* has none",
    ),
}


@pytest.mark.parametrize("name", BREAKERS)
def test_what_cannot_be_is_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    folder, _ = sentence_folder(tmp_path, dense=4)
    breaks, said = BREAKERS[name]
    breaks(folder)
    with pytest.raises(ThawlineError, match=said):
        tl.open_backbone(f"hf/small@{folder}").module()


def test_settings_are_refused_with_the_nearest(tmp_path: Path) -> None:
    folder, _ = text_folder(tmp_path)
    with pytest.raises(ModelError, match=r"got 'poolin' .*Did you mean 'pooling'"):
        tl.open_backbone(f"hf/small@{folder}", model_args={"poolin": "cls"})
    with pytest.raises(ModelError, match=r"pooling must be one of mean, cls, .*; got 'median'"):
        tl.open_backbone(f"hf/small@{folder}", model_args={"pooling": "median"})


ODD = (None, "x", -1, 0, 1.5, 10**12, [], {}, [1], True)
"""Values that a stranger may write where another one belongs."""


@pytest.mark.slow
def test_odd_settings_are_refused_or_do_no_harm(tmp_path: Path) -> None:
    folder, _ = sentence_folder(tmp_path, dense=4)
    files = ("config.json", "sentence_bert_config.json", "tokenizer_config.json", "1_Pooling/config.json",
             "2_Dense/config.json")  # fmt: skip
    refused = 0
    for file in files:
        path = folder / file
        before = path.read_text()
        for key in [*json.loads(before), "pooling_mode", "prompts", "default_prompt_name"]:
            for value in ODD:
                path.write_text(json.dumps(json.loads(before) | {key: value}))
                try:
                    features = encoded(SENTENCES[:2], tl.open_backbone(f"hf/small@{folder}"))
                except ThawlineError:
                    refused += 1
                else:
                    assert features.isfinite().all(), (file, key, value)
        path.write_text(before)
    assert refused, "some of these cannot be"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """A hub that answers as the real one does: (repository's folder) -> the files that were fetched from it."""
    from huggingface_hub.errors import EntryNotFoundError

    def opened(folder: Path, cache: Path) -> list[str]:
        fetched: list[str] = []
        snapshot = cache / "models--owner--net" / "snapshots" / ("1" * 40)
        refs = cache / "models--owner--net" / "refs"
        refs.mkdir(parents=True)
        (refs / "main").write_text("1" * 40)

        def download(repository: str, file: str, *, revision: str) -> str:
            assert (repository, revision) == ("owner/net", "1" * 40)
            if not (folder / file).is_file():
                nowhere = cache / "models--owner--net" / ".no_exist" / ("1" * 40) / file
                nowhere.parent.mkdir(parents=True, exist_ok=True)
                nowhere.touch()
                raise EntryNotFoundError(f"404: {file}")
            (snapshot / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / file, snapshot / file)
            fetched.append(file)
            return str(snapshot / file)

        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
        monkeypatch.setattr(
            "huggingface_hub.get_hf_file_metadata", lambda _url, timeout: SimpleNamespace(commit_hash="1" * 40)
        )
        return fetched

    return opened


def test_what_belongs_to_a_text_encoder_is_fetched_once(
    hub: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = sentence_folder(tmp_path / "repository", dense=4)
    (folder / "pytorch_model.bin").write_bytes(b"pickled")
    (folder / "vocab.txt").write_text("not needed")
    fetched = hub(folder, tmp_path / "cache")
    backbone = tl.open_backbone("hf/owner/net")
    assert backbone.notes == ()
    assert set(fetched) == {
        "config.json", "model.safetensors", "modules.json", "sentence_bert_config.json", "tokenizer.json",
        "tokenizer_config.json", "1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors",
    }  # fmt: skip
    assert torch.equal(encoded(SENTENCES, backbone), encoded(SENTENCES, tl.open_backbone(f"hf/net@{folder}")))

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", unreachable)
    assert tl.open_backbone("hf/owner/net").notes == ()  # everything is known
    assert tl.open_backbone("hf/owner/net", architecture_only=True).model_args == backbone.model_args


def test_without_a_connection_an_encoder_opens_with_what_is_there(
    hub: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = text_folder(tmp_path / "repository")
    hub(folder, tmp_path / "cache")
    tl.open_backbone("hf/owner/net")
    shutil.rmtree(tmp_path / "cache" / "models--owner--net" / ".no_exist")

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", unreachable)
    notes = tl.open_backbone("hf/owner/net").notes
    assert notes[0] == (
        "The hub could not be asked for modules.json of owner/net, which may be missed: no route to the hub."
    )
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(HubError, match="hf/owner/net must be fetched from the model hub"):
        tl.open_backbone("hf/owner/net")
