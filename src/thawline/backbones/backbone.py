"""A pre-trained model without its head, built only when something has to be run."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from thawline.backbones.inventory import Inventory, Kept, inventory_of, inventory_of_shapes
from thawline.backbones.load_receipt import LoadReceipt, receipt_of_file, receipt_of_random
from thawline.backbones.matching import misfits
from thawline.backbones.names import COUNTED, POOLED, STATISTICS, default_model
from thawline.backbones.providers import provider_of
from thawline.backbones.reading import Reading, find_last_map, reader
from thawline.backbones.weights import FLOATS, TensorFile
from thawline.errors import ModelError, WeightsError
from thawline.records import Preparation, TextPreparation, ValueScale

if TYPE_CHECKING:
    import torch
    from torch import nn

    from thawline.backbones.ladder import Ladder
    from thawline.backbones.receipt import Receipt
    from thawline.backbones.signature import Signature

_MANY = {"image": "pictures", "text": "texts"}
"""What people call several samples of a kind of input."""


class Backbone:
    """An architecture with weights, known by digest; its torch module is built on first use.

    A run whose features are all in the store never builds it and so never imports torch.
    """

    def __init__(
        self,
        *,
        name: str,
        architecture: str,
        model_args: Mapping[str, Any],
        preparation: Preparation,
        tensors: TensorFile,
        provider: str = "timm",
        settings: Mapping[str, Any] | None = None,
        notes: Sequence[str] = (),
        preparation_said: bool = True,
        advice: Callable[[Mapping[str, tuple[int, ...]], Mapping[str, tuple[int, ...]]], str] | None = None,
    ) -> None:
        """Describe a backbone without building it.

        Args:
            name: What the user calls it, such as ``timm/mobilenetv2_100``.
            architecture: Name in the library that the backbone comes from.
            model_args: Keyword arguments of the library's constructor that the weights need.
            preparation: What the weights were trained to see.
            tensors: Where the weights lie; read when the module is built.
            provider: Family of names that the backbone comes from.
            settings: What was asked of ``open_backbone`` beside the name, so that a plan can ask for it again.
            notes, preparation_said, advice: As in ``providers.provider.Description``.
        """
        self.name = name
        self.architecture = architecture
        self.model_args = dict(model_args)
        self.preparation = preparation
        self.tensors = tensors
        self.provider = provider
        self.settings = dict(settings or {})
        self.notes = tuple(notes)
        self.preparation_said = preparation_said
        self._advice = advice
        self._module: nn.Module | None = None
        self._digests: dict[str, str] = {}
        self._building = threading.Lock()
        self._readout: Reading | None = None
        self._prepared: dict[tuple[ValueScale, ...], Backbone] = {}

    def __repr__(self) -> str:
        return f"Backbone({self.name!r}, weights {self.weights_sha256[:12]})"

    def prepared_for(self, samples: object) -> Backbone:
        """Return this backbone as it reads samples deeper than 8 bits by the scales of their data set.

        One whose scales are settled, as that of a bundle, keeps them: its head was fitted by them.

        Args:
            samples: A ``Dataset``, or anything else, with ``scales`` and ``kind`` or without.
        Raises:
            ModelError: The samples are of another kind of input than the backbone takes.
        """
        kind = getattr(samples, "kind", self.preparation.kind)
        if kind != self.preparation.kind:
            said, taken = (_MANY[name] for name in (kind, self.preparation.kind))
            raise ModelError(
                f"the model must take what the data are; the data are {said}, and {self.title} takes {taken}. "
                f"Leave --model out, which takes {default_model(kind)}, or name a model of {said}."
            )
        scales = getattr(samples, "scales", ())
        if not scales or self.preparation.scales:
            return self
        if scales not in self._prepared:
            scaled = copy.copy(self)
            scaled.preparation = replace(self.preparation, scales=scales)
            self._prepared[scales] = scaled
        return self._prepared[scales]

    @property
    def title(self) -> str:
        """The name without the folders of its weights: a shared report must not tell them."""
        model, at, location = self.name.partition("@")
        return f"{model}{at}{PurePath(location).name}"

    @property
    def frozen_only(self) -> bool:
        """Whether nothing in it can learn: it is a graph in a file, and no layers."""
        return COUNTED in self.model_args

    @property
    def reads_windows(self) -> bool:
        """Whether the features of one sample may be the mean over several: it must then be frozen."""
        return isinstance(self.preparation, TextPreparation) and self.preparation.long == "windows"

    @cached_property
    def weights_sha256(self) -> str:
        """Digest of tensors, architecture and arguments: backbones with equal digests compute equal features.

        It is always taken from the content of the weights, never from what somebody says about them: the feature store
        would otherwise mix up two models.
        """
        described = json.dumps([self._tensors_sha256, self.architecture, self.model_args], sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()

    @cached_property
    def _tensors_sha256(self) -> str:
        return self.tensors.digest(checked=True)

    @property
    def is_built(self) -> bool:
        return self._module is not None

    def module(self) -> nn.Module:
        """Return the frozen torch module in inference mode: (B, *tensor_shape) -> pooled features (B, D).

        Raises:
            WeightsError: The weights are of another architecture; names the tensors that differ.
            ModelError: The architecture does not take these arguments.
        """
        with self._building:
            if self._module is None:
                from thawline.backbones.receipt import tensor_digests

                self._check_fit(self.tensors.shapes(), str(self.tensors.shown))
                module = self.build()
                self._check_kinds(module)
                module.load_state_dict(self.tensors.load())  # without a counter of batches, it is 0
                self._digests = tensor_digests(module)
                self._module = module
            return self._module

    def n_parameters(self) -> int:
        """Count the parameters of the backbone without its head, from the header of its weights; nothing is built."""
        if self.frozen_only:
            return int(self.model_args[COUNTED])
        shapes = self.tensors.shapes()
        return sum(math.prod(shape) for name, shape in shapes.items() if not name.endswith(STATISTICS))

    @cached_property
    def ladder(self) -> Ladder:
        """Every position where the thaw line can stand; tracing the architecture takes a second or two, once.

        Raises:
            ModelError: The architecture cannot be cut; says why.
        """
        from thawline.backbones.ladder import build_ladder

        return build_ladder(self.blueprint(), self.name, self.signature)

    @property
    def signature(self) -> Signature:
        """What the module takes, and who knows how it is traced."""
        from thawline.backbones.signature import Signature

        return Signature(self.provider, self.preparation.tensor_shape, self._readout)

    def build(self) -> nn.Module:
        """Create a new module of this architecture, frozen and in inference mode; its weights are random.

        Raises:
            ModelError: The library does not take these arguments, or the model does not take this input.
        """
        return provider_of(self.provider).build(self.architecture, self.model_args, self.preparation)

    def blueprint(self) -> nn.Module:
        """Build the architecture on torch's meta device: shapes without memory."""
        import torch

        from thawline.backbones.outline import without_draws

        with torch.device("meta"), without_draws():
            return self.build()

    def _check_fit(self, given: Mapping[str, tuple[int, ...]], where: str) -> None:
        """Compare shapes before anything is allocated: arguments in a hostile file may ask for any amount of memory."""
        wanted = self.shapes()
        problems = misfits(given, wanted)
        if problems:
            shown = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
            step = "" if self._advice is None else self._advice(given, wanted)
            raise WeightsError(
                f"weights must fit the architecture {self.architecture}; {len(problems)} tensors differ "
                f"({where}): {shown}. "
                + (step or "Give the architecture that the weights were made with, and its --model-arg settings.")
            )

    def _check_kinds(self, module: nn.Module) -> None:
        """Refuse whole numbers in the place of weights: a quantised file would load, and compute nonsense."""
        entries = self.tensors.entries()
        for name, tensor in module.state_dict().items():
            kind = entries[name]["dtype"] if name in entries else "F32"
            if tensor.is_floating_point() and kind not in FLOATS:
                raise WeightsError(
                    f"weights must be floating-point numbers; {name} holds {kind} ({self.tensors.shown}). "
                    "If the model was quantised, give the weights from before."
                )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of every tensor of the architecture without its classifier; nothing is allocated."""
        return {name: spec.shape for name, spec in self._inventory.items()}

    @cached_property
    def _inventory(self) -> Inventory:
        """The tensors of the architecture, from a blueprint of it."""
        found = inventory_of(self.blueprint())
        self._kept.write(found)
        return found

    @property
    def _kept(self) -> Kept:
        return Kept.of(self.provider, self.architecture, self.model_args, self.preparation.tensor_shape)

    def fits(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Hear what the tensors of the architecture are, so that the load receipt needs no torch."""
        self.__dict__.setdefault("_inventory", inventory_of_shapes(shapes))

    def load_receipt(self) -> LoadReceipt:
        """Account for every tensor of the architecture and of the file of weights; the weights themselves are not read.

        Raises:
            WeightsError: The weights do not fit the architecture.
        """
        inventory = self.__dict__.get("_inventory") or self._kept.read() or self._inventory
        if not self.tensors.is_there:
            return receipt_of_random(self.title, self.architecture, inventory)
        given = self.tensors.shapes()
        if misfits(given, {name: spec.shape for name, spec in inventory.items()}):
            # compare with what the architecture is now: the record in the cache may be mistaken
            self._check_fit(given, str(self.tensors.shown))
            inventory = self._inventory
        return receipt_of_file(self.title, self.architecture, self.tensors, inventory)

    def tuned(self, module: nn.Module, path: Path) -> Backbone:
        """Write what training made of this backbone's module to a file, and return the backbone that has those weights.

        Args:
            module: Of this architecture without its classifier, in any mode, on any device, with the names timm gives
                its tensors; a copy is taken.
            path: Safetensors file, there whole or not at all; every float is stored as float32. It must stay where it
                is, as it is, while the new backbone is in use.
        Raises:
            WeightsError: The module is of another architecture, or wrapped by something that renames its tensors.
            StorageError: The disk is full, or the place cannot be written.
        """
        from safetensors.torch import save

        from thawline.scale.disk import written_whole

        state = module.state_dict()
        self._check_fit({name: tuple(tensor.shape) for name, tensor in state.items()}, "the trained module")
        with written_whole(path, "wb") as file:
            file.write(save({name: _as_stored(tensor) for name, tensor in state.items()}, {"format": "pt"}))
        return Backbone(
            name=self.name,
            architecture=self.architecture,
            model_args=self.model_args,
            preparation=self.preparation,
            tensors=TensorFile(path),
            provider=self.provider,
            settings=self.settings,
        )

    def reader(
        self, rungs: Sequence[str], module: nn.Module | None = None
    ) -> Callable[[torch.Tensor], tuple[torch.Tensor, ...]]:
        """Return a function from samples (B, *tensor_shape) to features (B, D) at each rung, in one pass.

        Args:
            rungs: ``pooled``, or names of layers (``blocks.4``), whose output is averaged over positions; or either
                with a pooling, as ``reading.Reading`` reads it. ``pooled`` with a pooling is the last map.
            module: Run this copy of the backbone's module instead.
        Raises:
            ModelError: No such layer (names the nearest), or none that can be read so.
            UsageError: No such pooling.
        """
        module = self.module() if module is None else module
        readings = [self.reading(rung) for rung in rungs]
        return reader(readings, module, provider_of(self.provider), self.architecture)

    def reading(self, rung: str) -> Reading:
        """Return where and how features are read at a rung, by the name of the layer also for the last map.

        Raises:
            UsageError: No such pooling.
            ModelError: There is no map.
        """
        reading = Reading.of(rung)
        return replace(reading, layer=self.last_map) if reading.layer == POOLED and reading.pooling else reading

    def up_to(self, rung: str) -> Backbone:
        """Return this backbone with what is read at a rung as its output: its ladder ends there.

        Args:
            rung: As for ``reader``; one alone.
        Raises:
            UsageError, ModelError: As ``reading``.
        """
        if rung == POOLED:
            return self
        shorter = copy.copy(self)
        shorter._readout, shorter._prepared = self.reading(rung), {}
        shorter.__dict__.pop("ladder", None)
        return shorter

    @cached_property
    def last_map(self) -> str:
        """Name of the layer that gives the last map, before it is pooled; the architecture alone is run.

        Raises:
            ModelError: There is none.
        """
        module = self.blueprint()
        last = self.signature.channels_last(module)
        return find_last_map(module, self.signature.examples(module), self.architecture, channels_last=last)

    def width(self, rung: str) -> int:
        """Count the features of one sample at a rung, read as it says; the architecture alone is run.

        Raises:
            ModelError, UsageError: As ``reader``.
        """
        import torch

        module = self.blueprint()
        with torch.no_grad():
            (features,) = self.reader((rung,), module)(self.signature.examples(module))
        return int(features.shape[1])

    def receipt(self, stage: str, *, ran: bool = False) -> Receipt:
        """Prove that nothing in the backbone moved since it was opened.

        Args:
            ran: Whether it ran without being built, as a graph filled from the file of its weights.
        Raises:
            ReceiptError: Names the tensor that moved.
        """
        from thawline.backbones.receipt import Receipt, issue_receipt, issue_receipt_of_file

        if self._module is None and ran:
            return issue_receipt_of_file(stage, self.tensors, self._tensors_sha256)
        if self._module is None:
            return Receipt(stage=stage, ran=False, frozen_parameters=0, frozen_buffers=0, frozen_sha256="")
        return issue_receipt(stage, self._module, self._digests)


def _as_stored(tensor: torch.Tensor) -> torch.Tensor:
    """Copy a tensor to the CPU, row by row, as safetensors stores it."""
    import torch

    dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
    return tensor.detach().to("cpu", dtype, copy=True, memory_format=torch.contiguous_format)
