"""Files of Keras: which are read, which tensors are a backbone's, what is said of the others, and what is refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.keras_models import application, keras_features, keras_or_skip, pictures, plain, saved, shaken

import thawline as tl
from thawline.backbones.header import read_header
from thawline.backbones.providers.keras import library_layers
from thawline.backbones.providers.keras.config import graph_of
from thawline.errors import HubError, ModelError, ThawlineError, UnknownModelError, UsageError, WeightsError

INPUT = {"class_name": "InputLayer", "config": {"name": "in", "batch_input_shape": [None, 32, 32, 3]}, "name": "in",
         "inbound_nodes": []}  # fmt: skip


@pytest.fixture
def h5py() -> Any:
    return pytest.importorskip("h5py", reason="h5py is not installed: pip install thawline[keras]")


def own_model() -> Any:
    """A user's model: augmentation, scaling, two branches, a layer used twice, a model within it, and a classifier."""
    keras = keras_or_skip()
    layers = keras.layers
    inner = keras.Sequential(
        [layers.Input((16, 16, 8)), layers.SeparableConv2D(12, 3, strides=2, padding="same", activation="relu6"),
         layers.BatchNormalization(scale=False)], name="inner_block",
    )  # fmt: skip
    pictures_in = keras.Input((32, 32, 3))
    x = layers.RandomFlip(name="flip")(pictures_in)
    x = x / 127.5 - 1.0
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="train")(x)
    shared = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=1)
    y = layers.LeakyReLU(negative_slope=0.2)(shared(x))
    x = layers.Add()([x, shared(y)])
    x = layers.Concatenate()([inner(x), layers.MaxPooling2D(3, 2, padding="same")(x)])
    x = layers.Reshape((4, 16, 20))(x)
    x = layers.Flatten()(x)
    x = layers.Dense(24, activation="tanh", name="hidden")(x)
    x = layers.Dropout(0.3, name="drop")(x)
    return shaken(keras.Model(pictures_in, layers.Dense(5, activation="softmax", name="classes")(x)))


@pytest.mark.parametrize("form", [".keras", ".h5"])
def test_a_model_of_ones_own_brings_its_graph(form: str, tmp_path: Path) -> None:
    keras = keras_or_skip()
    model = own_model()
    path = saved(model, tmp_path / f"mine{form}")
    opened = tl.open_backbone(f"keras/custom@{path}")
    before = keras.Model(model.input, model.get_layer("classes").input)
    images = pictures(2, 32)
    expected = plain(before(images, training=False))
    with torch.no_grad():
        found = opened.module()(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    assert float(np.abs(found - expected).max()) <= 1e-4 * float(np.abs(expected).max())
    assert opened.preparation.std[0] == pytest.approx(1 / 255)  # it scales by itself
    assert opened.preparation_said
    assert opened.notes == (
        f"The last layer of mine{form}, classes (5 outputs), is taken for its classifier and left out.",
    )
    names = [layer.name for layer in library_layers(opened.module())]
    assert names[1:3] == ["flip", "train_"]  # torch's modules have a function train
    assert "inner_block" in names
    assert names[-2:] == ["hidden", "drop"]


def test_a_model_that_does_not_say_how_pictures_are_prepared(tmp_path: Path) -> None:
    keras = keras_or_skip()
    model = keras.Sequential([keras.layers.Input((24, 24, 3)), keras.layers.Conv2D(4, 3), keras.layers.Flatten(),
                              keras.layers.Dense(3)])  # fmt: skip
    path = saved(model, tmp_path / "mine.keras")
    opened = tl.open_backbone(f"keras/custom@{path}")
    assert (opened.preparation.mean, opened.preparation.std) == ((0.0,) * 3, (1.0,) * 3)
    assert not opened.preparation_said
    assert "mine.keras does not say how its pictures were prepared" in opened.notes[0]
    caffe = tl.open_backbone(f"keras/custom@{path}", model_args={"preprocessing": "caffe"})
    assert caffe.preparation_said
    assert len(caffe.notes) == 1
    samples = torch.rand(2, 3, 24, 24)
    with torch.no_grad():
        assert torch.equal(caffe.module()(samples), opened.module()(samples.flip(1)))
    names = [layer.name for layer in library_layers(caffe.module())]
    assert names[0].startswith("input_layer")
    assert "rgb_to_bgr" not in names


def test_what_is_the_backbones_and_what_is_not(tmp_path: Path) -> None:
    model = application("MobileNet", 32, alpha=0.25, include_top=True, pooling=None, classes=7)
    path = saved(model, tmp_path / "whole.weights.h5")
    opened = tl.open_backbone(f"keras/MobileNet@{path}", input_px=32, model_args={"alpha": 0.25})
    said = {key: json.loads(value) for key, value in read_header(opened.tensors.path)[0]["__metadata__"].items()
            if key != "source"}  # fmt: skip
    assert said["sources"]["conv1.weight"] == "layers/conv2d/vars/0"
    assert said["adapted"] == {}
    assert len(said["unused"]) == 2  # kernel and bias of the classifier
    assert set(said["sources"]) == set(opened.tensors.shapes())
    mine = tl.open_backbone(f"keras/MobileNet@{path}", input_px=32, model_args={"alpha": 0.25})
    assert mine.weights_sha256 == opened.weights_sha256


def test_weights_within_a_users_model_are_found(tmp_path: Path) -> None:
    keras = keras_or_skip()
    base = application("MobileNet", 32, alpha=0.25)
    for layer in base.layers[:40]:  # legacy files list what was frozen after what was not
        layer.trainable = False
    whole = keras.Sequential([keras.layers.Input((32, 32, 3)), base, keras.layers.Dense(4)])
    images = pictures(2, 32)
    expected = keras_features(base, "MobileNet", images)
    for form in (".weights.h5", ".keras", ".h5"):
        path = saved(whole, tmp_path / f"whole{form}")
        opened = tl.open_backbone(f"keras/MobileNet@{path}", input_px=32, model_args={"alpha": 0.25})
        with torch.no_grad():
            found = opened.module()(torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1).numpy()
        assert float(np.abs(found - expected).max()) <= 1e-4 * float(np.abs(expected).max()), form


def test_weights_of_another_architecture_are_named(tmp_path: Path) -> None:
    path = saved(application("MobileNet", 32, alpha=0.25), tmp_path / "small.weights.h5")
    says = (
        r"135 of 135 tensors differ .*layers/conv2d/vars/0 is \(8, 3, 3, 3\) instead of \(16, 3, 3, 3\) for "
        r"conv1\.weight; .*and 130 more.* Give the model that the"
    )
    with pytest.raises(WeightsError, match=says):
        tl.open_backbone(f"keras/MobileNet@{path}", input_px=32, model_args={"alpha": 0.5})


def test_efficientnets_of_imagenet_have_a_layer_more(tmp_path: Path) -> None:
    keras_or_skip()
    model = application("EfficientNetB0", 32)
    plain_one = tl.open_backbone(
        f"keras/EfficientNetB0@{saved(model, tmp_path / 'a.weights.h5')}", input_px=32
    ).model_args["graph"]
    norm = model.get_layer(next(layer.name for layer in model.layers if layer.name.startswith("normalization")))
    next(v for v in norm.weights if v.path.endswith("variance")).assign(np.array([0.229, 0.224, 0.225], np.float32))
    graph = tl.open_backbone(f"keras/EfficientNetB0@{saved(model, tmp_path / 'b.weights.h5')}", input_px=32).model_args[
        "graph"
    ]
    names = [layer[0] for layer in graph["layers"]]
    assert names[1:4] == ["rescaling", "normalization", "rescaling_1"]
    assert len(graph["layers"]) == len(plain_one["layers"]) + 1


def test_keras_is_imported_for_nothing_but_applications(h5py: Any, tmp_path: Path) -> None:
    """Neither by a model of one's own, nor by a bundle's graph, nor by other providers; TensorFlow never is."""
    path = tmp_path / "mine.h5"
    conv = {"name": "conv", "filters": 4, "kernel_size": [3, 3]}
    layers = [{"class_name": "InputLayer", "config": {"batch_shape": [None, 16, 16, 3], "name": "in"}},
              {"class_name": "Conv2D", "config": conv}]  # fmt: skip
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Sequential", "config": {"layers": layers}})
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = np.array([b"conv"])
        root.create_group("conv").attrs["weight_names"] = np.array([b"conv/kernel:0", b"conv/bias:0"])
        root["conv/conv/kernel:0"] = np.ones((3, 3, 3, 4), np.float32)
        root["conv/conv/bias:0"] = np.ones(4, np.float32)
    code = (
        "import sys, thawline as tl; tl.open_backbone().module(); "
        f"m = tl.open_backbone({'keras/custom@' + str(path)!r}); "
        "assert m.module().conv.weight.shape == (4, 3, 3, 3), m; "
        "print([n for n in ('keras', 'tensorflow', 'transformers', 'h5py', 'jax') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_names_of_layers_do_not_depend_on_what_was_built_before() -> None:
    keras = keras_or_skip()
    keras.layers.Conv2D(3, 3)
    application("MobileNetV3Small", 32, minimalistic=True, alpha=0.75)
    graph = tl.open_backbone("keras/InceptionV3", input_px=80, architecture_only=True).model_args["graph"]
    names = [layer[0] for layer in graph["layers"]]
    assert {"conv2d", "conv2d_1", "conv2d_93", "batch_normalization"} <= set(names)
    assert "conv2d_94" not in names


def test_weights_that_no_network_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    keras = keras_or_skip()

    def fail(*_: object, **__: object) -> str:
        raise OSError("URL fetch failure: no network")

    monkeypatch.setattr(keras.utils, "get_file", fail)
    with pytest.raises(HubError, match=r"keras/MobileNet must be fetched from Keras's store, .*no network\. Offline: "
                       r".*or put mobilenet_1_0_224_tf_no_top.h5 into"):  # fmt: skip
        tl.open_backbone("keras/MobileNet")


@pytest.mark.parametrize(
    ("name", "settings", "error", "says"),
    [
        ("keras/ResNet5", {}, UnknownModelError, "Did you mean 'ResNet50'"),
        ("keras/custom", {}, UsageError, "keras/custom@my_model.keras"),
        ("keras/VGG16", {"model_args": {"weights": "places"}}, ModelError, "weights must be imagenet or none"),
        ("keras/VGG16", {"model_args": {"classes": 3}}, ModelError, "got 'classes', which does not"),
        ("keras/VGG16", {"model_args": {"graph": {}}}, ModelError, "got graph, which comes from the model"),
        ("keras/VGG16", {"model_args": {"preprocessing": "fastai"}}, ModelError, "preprocessing must be one of caffe"),
        ("keras/VGG16", {"input_px": 9}, ModelError, "Input size must be at least 32x32"),
        ("keras/VGG16", {"input_px": 5000}, ModelError, "input must be 1 to 4096 px"),
        ("keras/VGG16@nowhere.h5", {}, WeightsError, "nowhere.h5 is not there"),
    ],
)  # fmt: skip
def test_impossible_wishes(name: str, settings: dict, error: type[Exception], says: str) -> None:
    keras_or_skip()
    with pytest.raises(error, match=says):
        tl.open_backbone(name, **settings, architecture_only=True)


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ({"class_name": "Lambda", "config": {"name": "x", "function": "AAAA"}}, "'x' is a Lambda, which does"),
        ({"class_name": "MyLayer", "config": {"name": "x"}}, "'x' is a MyLayer"),
        ({"class_name": "Conv2D", "config": {"name": "x", "filters": 4, "kernel_size": [3, 3],
                                             "data_format": "channels_first"}}, "channels_last; layer 'x'"),
        ({"class_name": "TFOpLambda", "config": {"name": "x", "function": "linalg.det"}}, "calls TensorFlow's"),
    ],
)  # fmt: skip
def test_layers_that_cannot_be_followed(layer: dict, says: str) -> None:
    inbound = [[["in", 0, 0, {}]]]
    model = {"layers": [INPUT, layer | {"name": "x", "inbound_nodes": inbound}], "input_layers": [["in", 0, 0]],
             "output_layers": [["x", 0, 0]]}  # fmt: skip
    with pytest.raises(ModelError, match=says):
        graph_of({"class_name": "Functional", "config": model}, keras_2=True)


def test_a_model_as_keras_2_wrote_it() -> None:
    """Operations of TensorFlow on the pictures, old names of settings, and nodes as nested lists."""
    conv = {"name": "conv", "filters": 4, "kernel_size": [3, 3], "activation": "hard_sigmoid"}
    layers = [
        INPUT,
        {"class_name": "TFOpLambda", "config": {"name": "tf.math.truediv", "function": "math.truediv"},
         "name": "tf.math.truediv", "inbound_nodes": [["in", 0, 0, {"y": 127.5, "name": None}]]},
        {"class_name": "TFOpLambda", "config": {"name": "tf.math.subtract", "function": "math.subtract"},
         "name": "tf.math.subtract", "inbound_nodes": [["tf.math.truediv", 0, 0, {"y": 1.0, "name": None}]]},
        {"class_name": "Conv2D", "config": conv, "name": "conv", "inbound_nodes": [[["tf.math.subtract", 0, 0, {}]]]},
        {"class_name": "LeakyReLU", "config": {"name": "leaky", "alpha": 0.1}, "name": "leaky",
         "inbound_nodes": [[["conv", 0, 0, {}]]]},
    ]  # fmt: skip
    model = {"layers": layers, "input_layers": [["in", 0, 0]], "output_layers": [["leaky", 0, 0]]}
    graph = graph_of({"class_name": "Model", "config": model}, keras_2=True)
    assert [(node.name, node.kind) for node in graph.nodes[1:]] == [
        ("tf_math_truediv", "Divide"), ("tf_math_subtract", "Subtract"), ("conv", "Conv2D"), ("leaky", "LeakyReLU")
    ]  # fmt: skip
    assert graph.nodes[1].settings == {"args": [None, 127.5]}
    assert graph.nodes[3].settings["activation"] == "hard_sigmoid_2"
    assert graph.nodes[4].settings == {"negative_slope": 0.1}


def mobilenet_file(h5py: Any, tmp_path: Path) -> Path:
    """A small legacy file, written by hand."""
    path = tmp_path / "hostile.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"conv1"])
        group = file.create_group("conv1")
        group.attrs["weight_names"] = np.array([b"conv1/kernel:0"])
        group.create_dataset("conv1/kernel:0", data=np.ones((3, 3, 3, 8), np.float32))
    return path


@pytest.mark.parametrize(
    ("hostile", "says"),
    [
        ("external link", "links elsewhere"), ("soft link", "links elsewhere"), ("external storage", "in another file"),
        ("virtual", "in another file"), ("bomb", "claims"), ("loop", "hold each other"), ("text", "tensors differ"),
        ("cut", "must be a sound file"), ("noise", "neither HDF5 nor a Keras archive"),
    ],
)  # fmt: skip
def test_hostile_files_are_refused(hostile: str, says: str, h5py: Any, tmp_path: Path) -> None:
    keras_or_skip()
    path = mobilenet_file(h5py, tmp_path)
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.ones((3, 3, 3, 8), np.float32)
    with h5py.File(path, "a") as file:
        group = file["conv1/conv1"]
        if hostile not in ("cut", "noise"):
            del group["kernel:0"]
        if hostile == "external link":
            group["kernel:0"] = h5py.ExternalLink(str(secret), "x")
        elif hostile == "soft link":
            group["kernel:0"] = h5py.SoftLink("/elsewhere")
        elif hostile == "external storage":
            group.create_dataset("kernel:0", (3, 3, 3, 8), "f4", external=[(str(secret), 0, 864)])
        elif hostile == "virtual":
            layout = h5py.VirtualLayout((3, 3, 3, 8), "f4")
            layout[:] = h5py.VirtualSource(str(secret), "x", (3, 3, 3, 8))
            group.create_virtual_dataset("kernel:0", layout)
        elif hostile == "bomb":
            group.create_dataset("kernel:0", (2**20, 2**20), "f4", chunks=(2**10, 2**10), compression="gzip")
        elif hostile == "loop":
            group["kernel:0"] = file["conv1"]
        elif hostile == "text":
            group.create_dataset("kernel:0", data=np.ones((3, 3, 3, 9), np.float32))
    if hostile == "cut":
        path.write_bytes(path.read_bytes()[:1500])
    elif hostile == "noise":
        path.write_bytes(bytes(range(256)) * 20)
    with pytest.raises(WeightsError, match=says):
        tl.open_backbone(f"keras/MobileNet@{path}", input_px=32, model_args={"alpha": 0.25})


def test_an_archive_that_expands_beyond_reason(h5py: Any, tmp_path: Path) -> None:
    path = tmp_path / "bomb.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": []}}))
        archive.writestr("model.weights.h5", bytes(2**26))
    with pytest.raises(WeightsError, match=r"must not expand beyond reason; model\.weights\.h5"):
        tl.open_backbone(f"keras/custom@{path}")


@pytest.mark.slow
def test_mutated_files_end_in_one_sentence(h5py: Any, tmp_path: Path) -> None:
    """Files with bytes turned around, cut out or cut off: none runs or crashes anything."""
    keras = keras_or_skip()
    model = keras.Sequential([keras.layers.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.Flatten(),
                              keras.layers.Dense(3)])  # fmt: skip
    draw = np.random.default_rng(0)
    for form in (".keras", ".h5"):
        whole = saved(model, tmp_path / f"whole{form}").read_bytes()
        for n in range(40):
            content = bytearray(whole)
            for at in draw.integers(0, len(content), draw.integers(1, 40)):
                content[at] = draw.integers(256)
            path = tmp_path / f"mutated{n}{form}"
            path.write_bytes(content[: len(content) if n % 4 else draw.integers(len(content))])
            try:
                tl.open_backbone(f"keras/custom@{path}").module()
            except ThawlineError as error:
                assert len(str(error)) < 1500 and "\n" not in str(error)


def test_an_archive_needs_weights_and_a_configuration(tmp_path: Path, h5py: Any) -> None:
    empty = io.BytesIO()
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("config.json", "{}")
    (tmp_path / "empty.keras").write_bytes(empty.getvalue())
    with pytest.raises(WeightsError, match=r"must hold model\.weights\.h5"):
        tl.open_backbone(f"keras/custom@{tmp_path / 'empty.keras'}")
    path = mobilenet_file(h5py, tmp_path)
    with pytest.raises(WeightsError, match=r"must be saved whole; .* holds weights alone"):
        tl.open_backbone(f"keras/custom@{path}")
