"""Text encoders of transformers: opened, compared with the library's own, pooled, read, refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.hf_text_models import (
    LENGTH,
    SENTENCES,
    SMALL,
    by_library,
    encoded,
    ids_of,
    mean_by_library,
    minilm_folder,
    need_transformers,
    sentence_folder,
    small_text_backbone,
    text_folder,
)

import thawline as tl
from thawline.backbones.providers.hf_text_known import TEXT_KNOWN
from thawline.errors import ModelError
from thawline.inputs import kind_of
from thawline.records import of_texts

QUICK = ("bert", "mpnet")
FAMILIES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SMALL]
LONG = "The river rose in March. " * 30


def close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return found.shape == expected.shape and float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("model_type", FAMILIES)
def test_features_are_what_the_library_gives(tmp_path: Path, model_type: str) -> None:
    folder, model = text_folder(tmp_path, model_type)
    backbone = tl.open_backbone(f"hf/{model_type}@{folder}")
    assert close(encoded((*SENTENCES, LONG), backbone), mean_by_library(model, backbone, (*SENTENCES, LONG)))
    receipt = backbone.load_receipt()
    assert not receipt.of("random")
    assert not receipt.of("adapted")
    assert sorted(backbone.module().state_dict()) == sorted(tensor.name for tensor in receipt.of("loaded"))
    in_file = load_file(folder / "model.safetensors")
    assert {name for tensor in receipt.tensors for name in tensor.sources} == set(in_file)
    assert {tensor.sources[0].partition(".")[0] for tensor in receipt.of("unused")} <= {"pooler"}
    unpooled = sum(held.numel() for name, held in model.named_parameters() if not name.startswith("pooler."))
    assert backbone.n_parameters() == unpooled == sum(held.numel() for held in backbone.module().parameters())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "different"),
    [
        ("bert", {"hidden_act": "gelu_new", "type_vocab_size": 1, "layer_norm_eps": 1e-5}),
        ("bert", {"hidden_act": "relu", "num_attention_heads": 4}),
        ("distilbert", {"sinusoidal_pos_embds": True, "activation": "relu"}),
        ("mpnet", {"relative_attention_num_buckets": 40}),
        ("deberta-v2", {"conv_kernel_size": 3, "conv_act": "gelu"}),
        ("deberta-v2", {"share_att_key": False, "norm_rel_ebd": "none", "position_buckets": -1}),
        ("deberta-v2", {"relative_attention": False, "position_biased_input": True, "type_vocab_size": 2}),
        ("modernbert", {"local_attention": 4, "norm_bias": True, "attention_bias": True, "mlp_bias": True}),
    ],
)
def test_features_of_other_settings_too(tmp_path: Path, model_type: str, different: dict[str, Any]) -> None:
    folder, model = text_folder(tmp_path, model_type, **different)
    backbone = tl.open_backbone(f"hf/{model_type}@{folder}")
    assert close(encoded((*SENTENCES, LONG), backbone), mean_by_library(model, backbone, (*SENTENCES, LONG)))
    assert backbone.load_receipt().counts()["random"] == 0
    assert len(backbone.ladder.rungs) >= 6


def test_distances_fall_into_the_buckets_of_the_library() -> None:
    need_transformers()
    from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

    from thawline.backbones.providers.hf_text_blocks import _buckets

    distances = torch.arange(-600, 601)
    for n in (8, 32):
        assert torch.equal(_buckets(distances, n), MPNetEncoder.relative_position_bucket(distances, num_buckets=n))


def pooled_by_hand(mode: str, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    rows = [tokens[: int(there.sum())] for tokens, there in zip(hidden, mask, strict=True)]
    by_mode: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "cls": lambda tokens: tokens[0],
        "mean": lambda tokens: tokens.mean(0),
        "max": lambda tokens: tokens.max(0).values,
        "mean_sqrt_len_tokens": lambda tokens: tokens.sum(0) / len(tokens) ** 0.5,
        "weightedmean": lambda tokens: (
            (tokens * torch.arange(1.0, len(tokens) + 1)[:, None]).sum(0) / (len(tokens) * (len(tokens) + 1) / 2)
        ),
        "lasttoken": lambda tokens: tokens[-1],
    }
    return torch.stack([by_mode[mode](tokens) for tokens in rows])


@pytest.mark.parametrize("mode", ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
def test_tokens_are_pooled_as_modules_json_says(tmp_path: Path, mode: str) -> None:
    folder, model = sentence_folder(tmp_path, pooling=mode, normalize=False)
    backbone = tl.open_backbone(f"hf/small@{folder}")
    hidden, mask = by_library(model, ids_of(SENTENCES, backbone), of_texts(backbone.preparation).pad)
    assert close(encoded(SENTENCES, backbone), pooled_by_hand(mode, hidden, mask))
    assert backbone.notes == ()
    assert of_texts(backbone.preparation).length == 32


def test_a_dense_layer_and_normalisation_follow(tmp_path: Path) -> None:
    folder, model = sentence_folder(tmp_path, dense=6)
    backbone = tl.open_backbone(f"hf/small@{folder}")
    mean = mean_by_library(model, backbone, SENTENCES)
    held = load_file(folder / "2_Dense" / "model.safetensors")
    raised = torch.tanh(mean @ held["linear.weight"].T + held["linear.bias"])
    assert close(encoded(SENTENCES, backbone), torch.nn.functional.normalize(raised))
    receipt = backbone.load_receipt()
    assert receipt.file == "model.safetensors"
    assert {tensor.name: tensor.sources for tensor in receipt.of("loaded") if tensor.name.startswith("dense.")} == {
        "dense.0.linear.bias": ("2_Dense/linear.bias",),
        "dense.0.linear.weight": ("2_Dense/linear.weight",),
    }
    assert [rung.name for rung in backbone.ladder.rungs][-2:] == ["dense.0", "pooled"]
    plain, _ = sentence_folder(tmp_path / "plain", dense=0)
    assert tl.open_backbone(f"hf/small@{plain}").weights_sha256 != backbone.weights_sha256


def test_several_poolings_stand_side_by_side(tmp_path: Path) -> None:
    folder, _ = sentence_folder(tmp_path, normalize=False)
    said = {"word_embedding_dimension": 16, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(said))
    both = encoded(SENTENCES, tl.open_backbone(f"hf/small@{folder}"))
    single = [
        encoded(SENTENCES, tl.open_backbone(f"hf/s@{folder}", model_args={"pooling": m})) for m in ("cls", "mean")
    ]
    assert torch.equal(both, torch.cat(single, dim=1))


@pytest.mark.slow
def test_a_real_sentence_encoder_gives_what_sentence_transformers_does() -> None:
    need_transformers()
    library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    folder = minilm_folder()
    backbone = tl.open_backbone(f"hf/sentence-transformers/all-MiniLM-L6-v2@{folder}")
    texts = (*SENTENCES, LONG * 4, "naïve 你好 🙂", "مرحبا بالعالم")
    expected = library.SentenceTransformer(str(folder), device="cpu").encode(list(texts))
    assert np.abs(encoded(texts, backbone).numpy() - expected).max() <= 1e-5
    assert of_texts(backbone.preparation).length == 256
    described = tl.open_backbone("hf/sentence-transformers/all-MiniLM-L6-v2", architecture_only=True)
    assert described.ladder.parameters == backbone.n_parameters()
    assert described.model_args["pooling"] == backbone.model_args["pooling"]


@pytest.mark.slow
@pytest.mark.parametrize("model_type", SMALL)
def test_the_openvino_engine_gives_the_same_at_any_length(tmp_path: Path, model_type: str) -> None:
    from thawline.engines.converting.conversion import convert
    from thawline.engines.openvino_engine import OpenVINOEngine

    backbone = small_text_backbone(tmp_path, model_type)
    texts = (*SENTENCES, LONG, "Why?")
    prepared = np.stack([kind_of("text").prepare(text, backbone.preparation) for text in texts])
    found = OpenVINOEngine(convert(backbone, ["pooled"], "f32"), "f32").run(prepared)
    assert close(torch.from_numpy(found), encoded(texts, backbone))


@pytest.mark.parametrize("layer", ["embeddings", "encoder.layer.1"])
def test_features_of_a_layer_are_the_mean_over_tokens(tmp_path: Path, layer: str) -> None:
    folder, model = text_folder(tmp_path)
    backbone = tl.open_backbone(f"hf/bert@{folder}")
    ids = ids_of(SENTENCES, backbone)
    mask = (ids != 0)[..., None].float()
    with torch.no_grad():
        (found,) = backbone.reader([layer])(ids)
        given = model(input_ids=ids, attention_mask=(ids != 0).long(), output_hidden_states=True)
    at = 0 if layer == "embeddings" else int(layer.rpartition(".")[2]) + 1
    assert close(found, (given.hidden_states[at] * mask).sum(1) / mask.sum(1))


def test_inside_a_block_nothing_is_read(tmp_path: Path) -> None:
    backbone = small_text_backbone(tmp_path)
    with pytest.raises(
        ModelError, match=r"layer must be 'pooled' or a layer of bert; got 'encoder\.layer\.0\.output'\."
    ):
        backbone.reader(["encoder.layer.0.output"])


def test_prefixes_halves_pickles_and_parts_open(tmp_path: Path) -> None:
    folder, model = text_folder(tmp_path / "plain")
    whole = tl.open_backbone(f"hf/bert@{folder}")
    tensors = load_file(folder / "model.safetensors")

    def other(name: str) -> Path:
        shutil.copytree(folder, tmp_path / name)
        (tmp_path / name / "model.safetensors").unlink()
        return tmp_path / name

    old = {key.replace("LayerNorm.weight", "LayerNorm.gamma"): tensor for key, tensor in tensors.items()}
    beside = {"cls.predictions.bias": torch.zeros(3), "bert.embeddings.position_ids": torch.arange(LENGTH)[None]}
    save_file({f"bert.{key}": tensor for key, tensor in old.items()} | beside, other("prefix") / "model.safetensors")
    prefixed = tl.open_backbone(f"hf/bert@{tmp_path / 'prefix'}")
    assert prefixed.weights_sha256 == whole.weights_sha256
    unused = {tensor.sources[0]: tensor.how for tensor in prefixed.load_receipt().of("unused")}
    assert unused["bert.embeddings.position_ids"] == "the architecture computes it"
    assert unused["cls.predictions.bias"] == "head of another task"
    wrapped = {f"0.auto_model.{key}": tensor for key, tensor in tensors.items()}
    torch.save(wrapped, other("pickle") / "pytorch_model.bin")
    pickled = tl.open_backbone(f"hf/bert@{tmp_path / 'pickle'}")
    assert torch.equal(encoded(SENTENCES, pickled), encoded(SENTENCES, whole))
    assert "begin with '0.auto_model.', which was taken off" in pickled.notes[0]
    save_file({key: tensor.half() for key, tensor in tensors.items()}, other("half") / "model.safetensors")
    receipt = tl.open_backbone(f"hf/bert@{tmp_path / 'half'}").load_receipt()
    assert {tensor.how for tensor in receipt.of("adapted")} == {"cast float16 -> float32"}
    model.save_pretrained(other("parts"), max_shard_size="8KB")
    assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
    assert tl.open_backbone(f"hf/bert@{tmp_path / 'parts'}").weights_sha256 == whole.weights_sha256


def test_a_fine_tuned_classifier_opens_without_its_head(tmp_path: Path) -> None:
    folder, model = text_folder(tmp_path, task="ForSequenceClassification")
    backbone = tl.open_backbone(f"hf/bert@{folder}")
    assert close(encoded(SENTENCES, backbone), mean_by_library(model.bert, backbone, SENTENCES))
    unused = {tensor.sources[0]: tensor.how for tensor in backbone.load_receipt().of("unused")}
    assert unused["classifier.weight"] == "head of another task"
    assert set(unused) == {
        f"{name}.{kind}" for name in ("classifier", "bert.pooler.dense") for kind in ("weight", "bias")
    }


def test_random_weights_are_always_the_same(tmp_path: Path) -> None:
    folder, _ = text_folder(tmp_path)
    one, two = (tl.open_backbone(f"hf/bert@{folder}", model_args={"weights": "none"}) for _ in range(2))
    assert one.weights_sha256 == two.weights_sha256 != tl.open_backbone(f"hf/bert@{folder}").weights_sha256
    spread = one.module().get_parameter("encoder.layer.1.intermediate.dense.weight").std()
    assert float(spread) == pytest.approx(0.02, rel=0.2)


def test_opening_loads_no_framework_and_running_no_pillow(tmp_path: Path) -> None:
    folder, _ = text_folder(tmp_path)
    tl.open_backbone(f"hf/bert@{folder}").load_receipt()
    code = (
        "import sys, thawline as tl\n"
        f"backbone = tl.open_backbone('hf/bert@{folder}')\n"
        "backbone.n_parameters(); backbone.weights_sha256; backbone.load_receipt()\n"
        "assert not {'torch', 'timm', 'torchvision', 'transformers', 'PIL'} & set(sys.modules)\n"
        "backbone.module(); backbone.ladder\n"
        "assert not {'timm', 'torchvision', 'transformers', 'PIL'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXT_KNOWN)
def test_usual_encoders_have_the_sizes_that_the_library_gives(name: str) -> None:
    transformers = need_transformers()
    config = dict(TEXT_KNOWN[name].config)
    kind = SMALL[config.pop("model_type")][0]
    with torch.device("meta"):
        model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**config))
    expected = sum(held.numel() for key, held in model.named_parameters() if not key.startswith("pooler."))
    from thawline.backbones.providers import hf

    assert hf.count(name) == expected


@pytest.mark.parametrize("model_type", ["bert", "roberta", "xlm-roberta", "distilbert", "mpnet"])
def test_what_a_configuration_leaves_out_is_what_the_library_has(model_type: str) -> None:
    transformers = need_transformers()
    from thawline.backbones.providers.hf_text_blocks import NAMES, Sizes
    from thawline.backbones.providers.hf_text_families import TEXT_FAMILIES

    config = getattr(transformers, f"{SMALL[model_type][0]}Config")()
    sizes = Sizes.of(TEXT_FAMILIES[model_type].defaults)
    for name in Sizes.__slots__:
        expected = getattr(config, name, None)
        if name == "relative_attention_num_buckets":
            assert NAMES[model_type].distances == (expected or 0)
        elif name != "type_vocab_size" or NAMES[model_type].types:
            ours = {
                "distilbert": {
                    "hidden_dropout_prob": "dropout",
                    "attention_probs_dropout_prob": "attention_dropout",
                    "intermediate_size": "hidden_dim",
                    "hidden_act": "activation",
                }
            }.get(model_type, {})
            expected = getattr(config, ours.get(name, name), getattr(sizes, name))
            assert getattr(sizes, name) == expected, name


def test_low_rank_updates_are_trained_in_its_blocks(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is not installed: pip install thawline[lora]")
    from thawline.backbones.cut import cut
    from thawline.training.lora import _inject, _merge

    backbone = small_text_backbone(tmp_path)
    module = backbone.module()
    halves = cut(backbone, "encoder.layer.1")
    names = [f"encoder.layer.2.{name}" for name in ("attention.self.query", "output.dense")]
    ids = ids_of(SENTENCES, backbone)
    before = module(ids).detach()
    _inject(module, names, 2, 0)
    adapted = {name: held for name, held in module.named_parameters() if ".lora_" in name}
    assert len(adapted) == 4
    module.train()
    halves.prefix.eval()
    module(ids).sum().backward()
    assert all(held.grad is not None for held in adapted.values())
    _merge(module, names)
    module.eval()
    assert close(module(ids).detach(), before)
