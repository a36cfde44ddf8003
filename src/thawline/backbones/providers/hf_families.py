"""The families of vision encoders that transformers has and Thawline takes apart: names, settings and defaults."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from thawline.errors import ModelError, UnknownModelError, nearest

Layout = Literal["tokens", "windows", "stages"]
DEEPEST = 400
"""Most blocks of an encoder: a hostile configuration may ask for any number."""
_HALF, _IMAGENET = ((0.5,) * 3,) * 2, ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """What a processor of the library does with a picture if ``preprocessor_config.json`` leaves it open."""

    size: int = 224
    """Of the whole picture, or of its shorter side."""
    square: bool = True
    """Whether one number for the size means both sides, and not the shorter one."""
    crop: int | None = None
    """Side of the centre that is cut out; None: no crop."""
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = _HALF[0]
    std: tuple[float, ...] = _HALF[1]
    crop_pct: float | None = None
    """Of sizes below 384: the shorter side becomes size / crop_pct, and the centre is cut out."""


PROCESSORS: Mapping[str, Processor] = {
    "ViT": Processor(interpolation="bilinear"),
    "DeiT": Processor(size=256, crop=224),
    "Beit": Processor(),
    "Bit": Processor(square=False, crop=224, mean=_CLIP[0], std=_CLIP[1]),
    "CLIP": Processor(square=False, crop=224, mean=_CLIP[0], std=_CLIP[1]),
    "ConvNext": Processor(size=384, square=False, crop_pct=224 / 256),
    "Siglip": Processor(),
    "DINOv3ViT": Processor(interpolation="bilinear", mean=_IMAGENET[0], std=_IMAGENET[1]),
}
"""Name of a processor without ``ImageProcessor`` -> its own defaults. A test compares them with the library's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """A tensor that belongs to one input size, and how the library interpolates it for another."""

    name: str
    """End of its name in the backbone: the whole, for one that is there once."""
    n_prefix: int
    """Rows that are no positions, of class and distillation tokens."""
    antialias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One architecture of the library."""

    model_type: str
    """As ``config.json`` names it; this is what Thawline calls the architecture."""
    package: str
    """Module of the library, below ``transformers.models``."""
    model: str
    """Class in it; its configuration is of the class ``config``."""
    config: str
    layout: Layout
    anchor: str
    """Name, in files, of the tensor that the encoder is recognised by; what stands before it is a prefix."""
    keys: frozenset[str]
    """Settings that decide what the encoder computes."""
    processor: str
    """Which of ``PROCESSORS`` prepared the pictures if nothing says."""
    usual: Processor
    """How the published weights of this family were trained: taken if there is no ``preprocessor_config.json``."""
    renamed: tuple[tuple[str, str], ...] = ()
    """(pattern, replacement): from names in files, prefix taken off, to names of the library's modules."""
    unused: tuple[str, ...] = ()
    """Beginnings of names in files, prefix taken off, of what no feature needs: mask tokens, poolers."""
    blocks: str = "layers"
    norm: str = "layernorm"
    pooling: Literal["cls", "beit", "clip", "siglip"] = "cls"
    n_prefix: int = 1
    """Tokens before the patches; register tokens come on top."""
    position: Position | None = None
    inside: str | None = None
    """Key of ``config.json`` that holds the configuration of a vision half."""
    aliases: tuple[str, ...] = field(default=())
    """Other values of ``model_type`` that mean this one."""

    def settings(self, config: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Return what decides the architecture, out of a configuration.

        Raises:
            ModelError: A value cannot be.
        """
        config = config.get(self.inside, {}) if self.inside and self.inside in config else config
        if not isinstance(config, Mapping):
            raise ModelError(f"{self.inside} in config.json must be an object; got {config!r} ({where}).")
        settings = {key: config[key] for key in sorted(self.keys) if config.get(key) is not None}
        self.check(settings, where)
        if config.get("num_channels", 3) != 3:
            raise ModelError(f"num_channels must be 3; got {config['num_channels']!r} ({where}). Pictures have 3.")
        return settings

    def check(self, settings: Mapping[str, Any], where: str) -> None:
        """Refuse settings that this family does not have, and depths that no model has.

        Raises:
            ModelError: Names the setting.
        """
        for key, value in settings.items():
            if key not in self.keys:
                raise ModelError(
                    f"model arguments must be settings of {self.model_type}; got {key!r} ({where})."
                    f"{nearest(key, self.keys)} There are {', '.join(sorted(self.keys))}."
                )
            if key == "patch_size" and (not isinstance(value, int) or not 1 <= value <= 4096):
                raise ModelError(f"patch_size must be a whole number of pixels; got {value!r} ({where}).")
        depths = settings.get("depths") or [
            settings.get("num_hidden_layers", 1),
            settings.get("num_register_tokens", 0),
        ]
        whole = isinstance(depths, list | tuple) and all(isinstance(n, int) and n >= 0 for n in depths)
        if not whole or sum(depths) > DEEPEST:
            raise ModelError(f"an encoder must have at most {DEEPEST} blocks; got {depths!r} ({where}).")


_TRANSFORMER = frozenset(
    ("hidden_size num_hidden_layers num_attention_heads hidden_act layer_norm_eps patch_size").split()
)
_VIT = _TRANSFORMER | {"intermediate_size", "hidden_dropout_prob", "attention_probs_dropout_prob", "qkv_bias"}
_DINOV2 = (_VIT - {"intermediate_size"}) | {"mlp_ratio", "layerscale_value", "drop_path_rate", "use_swiglu_ffn"}
_WINDOWS = frozenset(
    "patch_size embed_dim depths num_heads window_size mlp_ratio qkv_bias hidden_dropout_prob "
    "attention_probs_dropout_prob drop_path_rate hidden_act use_absolute_embeddings layer_norm_eps".split()
)
_STAGES = frozenset("patch_size num_stages hidden_sizes depths hidden_act layer_norm_eps drop_path_rate".split())
_TOWER = _TRANSFORMER | {"intermediate_size", "attention_dropout"}

_ATTENTION = (
    (r"\.attention\.attention\.(q|k|v)(?:uery|ey|alue)\.", r".attention.\1_proj."),
    (r"\.attention\.output\.dense\.", r".attention.o_proj."),
)
_MLP = ((r"\.intermediate\.dense\.", ".mlp.fc1."), (r"\.output\.dense\.", ".mlp.fc2."))
_RENAMED_VIT = ((r"^encoder\.layer\.", "layers."), *_ATTENTION, *_MLP)
_MASK = "embeddings.mask_token"
_PATCHES = "embeddings.patch_embeddings.projection.weight"


def _vit_like(model_type: str, model: str, **different: Any) -> Family:
    described: dict[str, Any] = {
        "model_type": model_type,
        "package": model_type,
        "model": f"{model}Model",
        "config": f"{model}Config",
        "layout": "tokens",
        "anchor": _PATCHES,
        "keys": _VIT,
        "renamed": _RENAMED_VIT,
        "unused": ("pooler.", _MASK),
        "position": Position(name="embeddings.position_embeddings", n_prefix=1),
    }
    return Family(**described | different)


_FAMILIES = (
    _vit_like("vit", "ViT", processor="ViT", usual=Processor(interpolation="bilinear")),
    _vit_like(
        "deit", "DeiT", processor="DeiT", n_prefix=2,
        usual=Processor(size=256, square=False, crop=224, mean=_IMAGENET[0], std=_IMAGENET[1]),
        position=Position(name="embeddings.position_embeddings", n_prefix=2),
    ),
    _vit_like(
        "dinov2", "Dinov2", processor="Bit", keys=_DINOV2, renamed=_ATTENTION, blocks="encoder.layer",
        usual=Processor(size=256, square=False, crop=224, mean=_IMAGENET[0], std=_IMAGENET[1]),
    ),
    _vit_like(
        "dinov2_with_registers", "Dinov2WithRegisters", processor="Bit", keys=_DINOV2 | {"num_register_tokens"},
        renamed=_ATTENTION, blocks="encoder.layer",
        usual=Processor(size=256, square=False, crop=224, mean=_IMAGENET[0], std=_IMAGENET[1]),
        position=Position(name="embeddings.position_embeddings", n_prefix=1, antialias=True),
    ),
    _vit_like(
        "dinov3_vit", "DINOv3ViT", processor="DINOv3ViT", anchor="embeddings.patch_embeddings.weight",
        keys=_TOWER | frozenset(
            "rope_theta query_bias key_bias value_bias proj_bias mlp_bias layerscale_value drop_path_rate "
            "use_gated_mlp num_register_tokens".split()
        ),
        renamed=((r"^layer\.", "model.layer."),), blocks="model.layer", norm="norm", position=None,
        usual=PROCESSORS["DINOv3ViT"],
    ),
    _vit_like(
        "beit", "Beit", processor="Beit", pooling="beit", unused=(_MASK,),
        keys=(_VIT - {"qkv_bias"}) | frozenset(
            "use_absolute_position_embeddings use_relative_position_bias use_shared_relative_position_bias "
            "layer_scale_init_value drop_path_rate use_mean_pooling".split()
        ),
        renamed=(
            (r"^encoder\.relative_position_bias\.", "shared_position_bias."),
            (r"\.attention\.attention\.relative_position_bias\.", ".relative_position_bias."),
            *_RENAMED_VIT,
        ),
        usual=Processor(),
    ),
    Family(
        model_type="swin", package="swin", model="SwinModel", config="SwinConfig", layout="windows", anchor=_PATCHES,
        keys=_WINDOWS, processor="ViT", usual=Processor(mean=_IMAGENET[0], std=_IMAGENET[1]), n_prefix=0,
        renamed=(
            (r"\.attention\.self\.(q|k|v)(?:uery|ey|alue)\.", r".attention.\1_proj."),
            (
                r"\.attention\.self\.relative_position_bias_table$",
                ".attention.relative_position_bias.relative_position_bias_table",
            ),
            (r"\.attention\.output\.dense\.", ".attention.o_proj."),
            *_MLP,
        ),
        unused=(_MASK,),
        position=Position(name="embeddings.position_embeddings", n_prefix=0),
    ),
    Family(
        model_type="swinv2", package="swinv2", model="Swinv2Model", config="Swinv2Config", layout="windows",
        anchor=_PATCHES, keys=_WINDOWS | {"pretrained_window_sizes"}, processor="ViT", n_prefix=0,
        usual=Processor(size=256, mean=_IMAGENET[0], std=_IMAGENET[1]), unused=(_MASK,),
        position=Position(name="embeddings.position_embeddings", n_prefix=0),
    ),
    *(
        Family(
            model_type=name.lower(), package=name.lower(), model=f"{name}Model", config=f"{name}Config",
            layout="stages", anchor="embeddings.patch_embeddings.weight", processor="ConvNext",
            keys=_STAGES | ({"layer_scale_init_value"} if name == "ConvNext" else frozenset()), n_prefix=0,
            usual=Processor(square=False, crop_pct=0.875, mean=_IMAGENET[0], std=_IMAGENET[1]),
        )
        for name in ("ConvNext", "ConvNextV2")
    ),
    Family(
        model_type="resnet", package="resnet", model="ResNetModel", config="ResNetConfig", layout="stages",
        anchor="embedder.embedder.convolution.weight", processor="ConvNext", n_prefix=0, norm="",
        keys=frozenset(
            "embedding_size hidden_sizes depths layer_type hidden_act downsample_in_first_stage "
            "downsample_in_bottleneck".split()
        ),
        usual=Processor(square=False, crop_pct=0.875, mean=_IMAGENET[0], std=_IMAGENET[1]),
    ),
    Family(
        model_type="clip_vision_model", package="clip", model="CLIPVisionModel", config="CLIPVisionConfig",
        layout="tokens", anchor="embeddings.patch_embedding.weight", keys=_TOWER, processor="CLIP",
        usual=PROCESSORS["CLIP"], blocks="encoder.layers", norm="post_layernorm", pooling="clip",
        inside="vision_config", aliases=("clip",),
        position=Position(name="embeddings.position_embedding.weight", n_prefix=1),
    ),
    Family(
        model_type="siglip_vision_model", package="siglip", model="SiglipVisionModel", config="SiglipVisionConfig",
        layout="tokens", anchor="embeddings.patch_embedding.weight", keys=_TOWER | {"vision_use_head"},
        processor="Siglip", usual=PROCESSORS["Siglip"], blocks="encoder.layers", norm="post_layernorm",
        pooling="siglip", n_prefix=0, inside="vision_config", aliases=("siglip",),
        position=Position(name="embeddings.position_embedding.weight", n_prefix=0),
    ),
)  # fmt: skip

FAMILIES: Mapping[str, Family] = {name: family for family in _FAMILIES for name in (family.model_type, *family.aliases)}
"""``model_type`` of ``config.json`` -> the encoder that is taken from such a model."""


def family_of(config: Mapping[str, Any], where: str, others: Collection[str]) -> Family:
    """Return the family of a configuration.

    Args:
        others: Names of families that are no vision encoders, for the message.
    Raises:
        UnknownModelError: It is of another kind, such as a decoder; names what can be opened.
    """
    model_type = config.get("model_type")
    found = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if found is None:
        known = (*FAMILIES, *others)
        raise UnknownModelError(
            f"model_type in config.json must be one of {', '.join(known)}; got {model_type!r} ({where})."
            f"{nearest(str(model_type), known)} These are encoders of pictures and texts; choose one of them, or a "
            "model of timm."
        )
    return found
