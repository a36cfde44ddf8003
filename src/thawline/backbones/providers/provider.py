"""What a provider of models promises. Each provider is one module of this folder, with these functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

    from thawline.backbones.providers.entry import CatalogueEntry
    from thawline.backbones.providers.tracing import Tracing
    from thawline.backbones.weights import TensorFile
    from thawline.records import LongText, Preparation


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelAsk:
    """What a user asks of a model beside its name; None leaves the choice to what the weights say of themselves."""

    model_args: Mapping[str, Any] | None = None
    """Keyword arguments of the library's own constructor."""
    input_px: int | None = None
    """Side of the square input."""
    mean: float | tuple[float, float, float] | None = None
    std: float | tuple[float, float, float] | None = None
    interpolation: str | None = None
    crop_pct: float | None = None
    """Share of the resized side that the centre crop keeps."""
    long: LongText | None = None
    """What becomes of texts with more tokens than the model takes."""
    weights_by_name: bool | None = None
    """Fill what has the same name and shape in the file, and leave the rest random."""
    sha256: str | None = None
    """Digest (hex) that the file of the weights must have."""

    PICTURES: ClassVar = ("input_px", "mean", "std", "interpolation", "crop_pct")
    """Settings that only models of pictures have."""

    def given(self) -> dict[str, Any]:
        """Return what was asked for, by name: the keyword arguments that open the same model again."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """A model that was found: enough to build it and to know it by its digest. Nothing is built yet."""

    architecture: str
    """Name in the library."""
    model_args: Mapping[str, Any]
    """Keyword arguments of the library's constructor that the weights need; fit for JSON."""
    preparation: Preparation
    tensors: TensorFile
    notes: tuple[str, ...] = ()
    """Sentences on how the weights were read otherwise than as they lie there, and on what they do not say."""
    preparation_said: bool = True
    """Whether the weights say with which mean and standard deviation they were trained."""
    advice: Callable[[Mapping[str, tuple[int, ...]], Mapping[str, tuple[int, ...]]], str] | None = None
    """Takes name -> shape of the tensors in the file, and of those of the architecture, which differ; returns the next
    step."""
    provider: str | None = None
    """Family of names whose provider builds it, if that is another one: a hub holds models of several libraries."""


@dataclass(frozen=True, slots=True)
class LibraryLayer:
    """One layer as the library itself lists and counts it."""

    name: str
    """In the library; where it is also a module, that has the same name, dots aside."""
    kind: str
    """Class of the layer in the library: ``Conv2D``, ``InputLayer``."""
    tensors: tuple[str, ...]
    """Names of its parameters and buffers in the module; empty for a layer without weights."""
    parameters: int
    """As the library counts them: Keras counts the statistics of batch normalisation, too."""


class Provider(Protocol):
    """One library of pre-trained models."""

    def describe(
        self, name: str, model: str, location: str, asked: ModelAsk, *, architecture_only: bool
    ) -> Description:
        """Find a model and read what its weights say of themselves; the weights themselves are not read.

        Args:
            name: All that the user typed, for messages.
            model: What stands between the family and ``@``.
            location: What stands behind ``@``: a path, or empty.
            asked: Overrides what the weights say.
            architecture_only: Fetch nothing; the tensors need not be there.
        Raises:
            UnknownModelError: The library knows no such model; names the nearest.
            WeightsError: The file is not there, is damaged, or is not the promised one.
            HubError: The hub cannot be reached.
            ModelError: A setting cannot be.
        """
        ...

    def build(self, architecture: str, model_args: Mapping[str, Any], preparation: Preparation) -> nn.Module:
        """Create the module without its classifier, frozen and in inference mode; its weights are random.

        Raises:
            ModelError: The library does not take these arguments, or the model does not take this input.
        """
        ...

    def tracing(self, module: nn.Module) -> Tracing:
        """Say how the forward pass of one of its modules is traced."""
        ...

    def examples(self, module: nn.Module, shape: tuple[int, ...], n: int) -> torch.Tensor:
        """Return random inputs (n, *shape), always the same, in the place and precision of the module's weights."""
        ...

    def input_shape(self, module: nn.Module) -> tuple[int, ...] | None:
        """Return the shape of one input that a module was made for, or None if it does not say."""
        ...

    def channels_last(self, module: nn.Module) -> bool:
        """Say whether picture-shaped activations of a module are (B, H, W, C) rather than (B, C, H, W)."""
        ...

    def pooled(self, activation: torch.Tensor, module: nn.Module) -> torch.Tensor | None:
        """Average what a layer gives over positions, (B, ...) -> (B, C); None if it has no positions."""
        ...

    def catalogue(self, query: str | None) -> list[CatalogueEntry]:
        """List the models whose name holds ``query``, or matches it as a pattern; None asks for those on this disk.

        It needs no network, does not import the library, and takes milliseconds.
        """
        ...

    def count(self, architecture: str) -> int:
        """Count the parameters of a backbone without its head, as the library counts them."""
        ...

    def library_layers(self, module: nn.Module) -> tuple[LibraryLayer, ...] | None:
        """List every layer of a module as the library lists it, with and without weights, from input to output.

        None if the library has no such list, so that layers are counted as the ladder counts them.
        """
        ...
