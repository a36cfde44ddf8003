"""What can be opened is found without a library and without a network, and the tables say what the libraries say."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from model_table import SHOWN
from torch.utils.flop_counter import FlopCounterMode

import thawline as tl
from thawline.backbones import list_models
from thawline.backbones.outline import without_draws
from thawline.backbones.providers.embedded import EMBEDDED
from thawline.backbones.providers.entry import matches
from thawline.backbones.providers.known import Known, known_models, table_of
from thawline.backbones.providers.licences import is_non_commercial
from thawline.backbones.providers.timm_import import import_timm, import_torchvision_models


def test_without_a_query_what_is_on_this_disk() -> None:
    assert [entry.name for entry in list_models()] == [f"embedded/{name}" for name in EMBEDDED]


def test_one_query_searches_every_library() -> None:
    found = {entry.name: entry for entry in list_models("ResNet50.*")}
    assert {"timm/resnet50.a1_in1k", "torchvision/resnet50.imagenet1k_v2"} <= found.keys()
    assert {entry.parameters for entry in found.values()} == {23_508_032}
    assert all(8.0e9 < (entry.flops or 0) < 8.4e9 for entry in found.values() if entry.input_px == 224)
    assert not any(entry.offline for entry in found.values())
    assert list_models("no such model") == []


def test_a_search_imports_no_library_and_is_quick() -> None:
    code = (
        "import sys\n"
        "from thawline.backbones import list_models\n"
        "assert len(list_models('resnet')) > 50\n"
        "assert not {'torch', 'timm', 'torchvision', 'keras', 'tensorflow', 'transformers'} & set(sys.modules)\n"
    )
    begun = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert time.monotonic() - begun < 30  # half a second, on a machine that does nothing else


@pytest.mark.parametrize(
    ("query", "is_found"),
    [
        ("resnet50", True),
        ("RESNET50", True),
        ("torchvision/resnet5*", True),
        ("resnet5?.imagenet1k_v1", True),
        ("resnet50*v2", False),
        ("timm/", False),
    ],
)
def test_a_query_is_part_of_a_name_or_a_pattern(query: str, is_found: bool) -> None:
    assert matches("torchvision/resnet50.imagenet1k_v1", query) == is_found


def test_weights_in_the_caches_of_libraries_are_on_this_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    checkpoints = tmp_path / "torch" / "hub" / "checkpoints"
    snapshot = tmp_path / "hub" / "models--timm--mobilenetv2_100.ra_in1k" / "snapshots" / ("0" * 40)
    checkpoints.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (checkpoints / "mobilenet_v2-b0353104.pth").write_bytes(b"")
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("0" * 40)
    for file in ("config.json", "model.safetensors"):
        (snapshot / file).write_bytes(b"{}")
    here = ["timm/mobilenetv2_100.ra_in1k", "torchvision/mobilenet_v2.imagenet1k_v1"]
    assert [entry.name for entry in list_models()][len(EMBEDDED) :] == here
    found = list_models("mobilenet*v2*")
    assert [entry.name for entry in found[:2]] == here
    assert not any(entry.offline for entry in found[2:])


@pytest.mark.parametrize(
    ("licence", "forbids"),
    [
        ("cc-by-nc-4.0", True),
        ("fair-noncommercial-research-license", True),
        ("apple-amlr", True),
        ("seer-license", True),
        ("apache-2.0", False),
        ("cc-by-4.0", False),
        ("weights Apache-2.0; trained on ImageNet pictures, which are for research", False),
        ("", False),
    ],
)
def test_licences_that_forbid_commercial_use(licence: str, forbids: bool) -> None:
    assert is_non_commercial(licence) == forbids


def test_non_commercial_weights_are_marked_and_opening_them_says_so() -> None:
    (entry,) = list_models("timm/convnextv2_atto.fcma?")
    assert entry.non_commercial
    assert entry.licence == "cc-by-nc-4.0"
    opened = tl.open_backbone(entry.name, architecture_only=True)
    assert opened.notes == ("The licence of these weights forbids commercial use: cc-by-nc-4.0.",)
    assert tl.open_backbone("timm/resnet18.a1_in1k", architecture_only=True).notes == ()


@pytest.mark.parametrize(("family", "at_least"), [("timm", 1500), ("torchvision", 100), ("keras", 38), ("hf", 20)])
def test_a_table_is_sound(family: str, at_least: int) -> None:
    known = known_models(family)
    assert len({model.name for model in known}) == len(known) >= at_least
    assert "\n".join(model.line() for model in known) + "\n" == table_of(family).read_text(encoding="utf-8")
    of_pictures = [model for model in known if model.input_px]  # FLOPs of a text depend on its length
    assert all((model.parameters > 0) == (model.flops > 0) for model in of_pictures)
    if family != "timm":  # of which the usual ones are counted
        assert all(model.parameters for model in known)


def test_the_models_of_the_guides_are_counted() -> None:
    counted = {known.name.partition(".")[0] for known in known_models("timm") if known.parameters}
    assert set(SHOWN["timm"]) <= counted


def test_the_table_of_timm_lists_what_timm_has() -> None:
    timm = import_timm()
    listed = {}
    for name in timm.list_pretrained():
        config = timm.get_pretrained_cfg(name)
        if config.hf_hub_id and config.input_size[1] == config.input_size[2] and config.crop_mode != "border":
            licence = config.license if config.license and config.license != "unknown" else ""
            listed[name] = (config.input_size[1], licence, config.hf_hub_id)
    table = {known.name: (known.input_px, known.licence, known.file or f"timm/{known.name}")
             for known in known_models("timm")}  # fmt: skip
    assert table == listed


def test_the_table_of_torchvision_says_what_torchvision_says() -> None:
    models = import_torchvision_models()
    weights = {f"{name}.{entry.name.lower()}": entry for name in models.list_models(module=models)
               for entry in models.get_model_weights(name)}  # fmt: skip
    assert {known.name for known in known_models("torchvision")} == weights.keys()
    for known in known_models("torchvision"):
        entry = weights[known.name]
        assert entry.value.url.endswith(f"/{known.file}")
        assert entry.value.transforms().crop_size == [known.input_px]
        assert known.parameters < entry.value.meta["num_params"]
        if not known.name.startswith("squeezenet"):  # its classifier is a convolution, a quarter of the work
            assert known.flops == pytest.approx(2e9 * entry.value.meta["_ops"], rel=0.03)


COUNTED = (
    "timm/resnet18.a1_in1k",
    "timm/mobilenetv3_small_100.lamb_in1k",
    "timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    "timm/test_convnext.r160_in1k",
    "torchvision/mobilenet_v2.imagenet1k_v2",
    "torchvision/squeezenet1_1.imagenet1k_v1",
    "torchvision/googlenet.imagenet1k_v1",
)


@pytest.mark.parametrize("name", COUNTED)
def test_counts_are_those_of_the_model(name: str) -> None:
    family, _, rest = name.partition("/")
    known: Known = next(model for model in known_models(family) if model.name == rest)
    backbone = tl.open_backbone(name, architecture_only=True)
    model = backbone.blueprint()
    with torch.device("meta"), without_draws(), FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, *backbone.preparation.tensor_shape))
    assert known.parameters == sum(parameter.numel() for parameter in model.parameters()) == backbone.ladder.parameters
    assert known.flops == counter.get_total_flops()
    assert known.input_px == backbone.preparation.tensor_shape[-1]


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_counts_of_what_ships(name: str) -> None:
    backbone = tl.open_backbone(f"embedded/{name}")
    module = backbone.blueprint()
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        module(backbone.signature.examples(module, 1))
    (entry,) = (entry for entry in list_models() if entry.name == backbone.name)
    assert (entry.parameters, entry.flops) == (backbone.n_parameters(), counter.get_total_flops())
