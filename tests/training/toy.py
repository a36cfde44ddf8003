"""A small net, pictures that can be learned, and what crosses a line in memory: no store, no files."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tests.contracts.zoo import TINY, create
from torch import nn

from thawline.backbones.cut import Cut
from thawline.backbones.ladder import build_ladder
from thawline.backbones.signature import Signature
from thawline.backbones.thaw import Thaw, resolve_thaw
from thawline.randomness import generator
from thawline.training.fused.chains import Chain, installed, usable_chains
from thawline.training.loop import StageTrainer
from thawline.training.net import Above, Net
from thawline.training.settings import TrainPlan
from thawline.training.stage import Batches, StageResult, StageSpec, TrainingSetup
from thawline.training_records import Evaluated, InputsReport

N, CLASSES = 48, 3
TRAIN, VAL = np.arange(32), np.arange(32, N)
SEED = 5
LABELS = np.arange(N) % CLASSES
SIDE = {"toy": 16, "mobilenetv2_100": 64, "mobilenetv3_small_100": 64} | TINY


class ToyBackbone(nn.Module):
    """Four convolutions with batch norm, one of them around a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6)
        self.blocks = nn.Sequential(_Block(6), _Block(6))
        self.top, self.top_norm = nn.Conv2d(6, 8, 1), nn.BatchNorm2d(8)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem_norm(self.stem(images)))
        x = torch.relu(self.top_norm(self.top(self.blocks(x))))
        return self.pool(x).flatten(1)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.relu(self.norm(self.conv(x)))


@cache
def _weights(name: str, arguments: tuple[tuple[str, Any], ...]) -> nn.Module:
    if name != "toy":
        return create(name, **dict(arguments))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        model = ToyBackbone().eval()
        for tensor_name, buffer in model.named_buffers():
            if tensor_name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape) * 0.1)
        return model


def make_net(name: str = "toy", *, head: nn.Module | None = None, **arguments: Any) -> Net:
    """A net that is the same every time, in the layout in which nets are trained."""
    import copy

    backbone = copy.deepcopy(_weights(name, tuple(arguments.items())))
    if head is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(2)
            px = SIDE[name]
            head = nn.Linear(backbone(torch.zeros(1, 3, px, px)).shape[1], CLASSES)
    net = Net(backbone, head)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


@cache
def thaw(setting: str, name: str = "toy") -> Thaw:
    """A thaw setting resolved in a toy."""
    model = _weights(name, ())
    side = SIDE[name]
    return resolve_thaw(build_ladder(model, name, Signature("timm", (3, side, side))), setting, model)


@cache
def pictures(view: int | None, px: int, signal: float = 0.5) -> torch.Tensor:
    """(N, 3, px, px), one pattern per class in noise; every view has its own noise."""
    patterns = generator(0, "patterns").standard_normal((CLASSES, 3, 4, 4)).repeat(px // 4, 2).repeat(px // 4, 3)
    own = generator(0, "samples").standard_normal((N, 3, px, px))
    noise = 0.0 if view is None else 0.3 * generator(0, "view", view).standard_normal(own.shape)
    images = torch.from_numpy(signal * patterns[LABELS] + own + noise).float()
    return images.contiguous(memory_format=torch.channels_last)


@dataclass
class Crossing:
    """What crosses a line, computed once for each view of all samples."""

    cut: Cut
    px: int
    signal: float = 0.5
    known: dict[int | None, tuple[torch.Tensor, ...]] = field(default_factory=dict)

    def of(self, rows: NDArray[np.int64], view: int | None) -> tuple[torch.Tensor, ...]:
        if view not in self.known:
            self.known[view] = self.cut.prefix(pictures(view, self.px, self.signal))
        return tuple(tensor[torch.from_numpy(rows)] for tensor in self.known[view])

    def stream(self, batches: Batches) -> Generator[tuple[torch.Tensor, ...]]:
        for rows, view in batches:
            yield self.of(rows, view)


@dataclass
class ToyInputs:
    """Inputs for stages: always from memory, with the record that a cache would leave."""

    px: int = SIDE["toy"]
    signal: float = 0.5
    asked: list[tuple[str, int, int, int]] = field(default_factory=list)

    def __call__(
        self, model: nn.Module, cut: Cut, views: int, train: NDArray[np.int64], judged: NDArray[np.int64]
    ) -> tuple[Crossing, InputsReport]:
        self.asked.append((cut.rung, views, len(train), len(judged)))
        return Crossing(cut, self.px, self.signal), InputsReport(kind="memory", seconds=0.1)


@dataclass
class Watcher:
    """Hears reports and progress; stops the run at the call of that number, as the user or a fault would."""

    stop_at: int | None = None
    how: Any = None
    """Called there; by default it raises Stopped."""
    reports: list[Evaluated] = field(default_factory=list)
    progressed: list[tuple[str, int, int]] = field(default_factory=list)

    def evaluated(self, row: Evaluated) -> None:
        self.reports.append(row)
        self._count()

    def progress(self, phase: str, done: int, total: int) -> None:
        self.progressed.append((phase, done, total))
        self._count()

    def found(self, data: object) -> None:
        raise AssertionError("a loop opens no data")

    def note(self, text: str) -> None:
        raise AssertionError("a loop has nothing to say in words")

    @property
    def calls(self) -> int:
        return len(self.reports) + len(self.progressed)

    def _count(self) -> None:
        if self.stop_at is not None and self.calls == self.stop_at:
            (self.how or _stop)()


class Stopped(Exception):
    """The process ended here."""


def _stop() -> None:
    raise Stopped


def make_setup(
    settings: TrainPlan,
    watcher: Watcher | None = None,
    labels: NDArray[np.int64] = LABELS,
    precision: str = "f32",
) -> TrainingSetup:
    watcher = watcher or Watcher()
    return TrainingSetup(
        labels=labels,
        n_classes=CLASSES,
        settings=settings,
        seed=SEED,
        device="cpu",
        precision=precision,
        listener=watcher,
    )


def make_spec(**changes: Any) -> StageSpec:
    usual: dict[str, Any] = {"name": "spec", "number": 1, "of": 1, "rows": TRAIN, "judged": VAL, "epochs": 4}
    return StageSpec(**usual | {"views": 2} | changes)


@contextlib.contextmanager
def folded(above: Above) -> Iterator[list[Chain]]:
    """Run chains of layers as one, wherever they can be."""
    chains = usable_chains(above)
    with installed(chains):
        yield chains


@dataclass
class Toy:
    """One stage, and what it stands on."""

    net: Net
    above: Above
    stage: StageTrainer

    def run(self) -> StageResult:
        return self.stage.run()


def make_stage(
    settings: TrainPlan,
    checkpoint: Any,
    *,
    setting: str = "all",
    name: str = "toy",
    net: Net | None = None,
    spec: StageSpec | None = None,
    watcher: Watcher | None = None,
    labels: NDArray[np.int64] = LABELS,
    precision: str = "f32",
    **arguments: Any,
) -> Toy:
    """A stage of a fresh net; where there is a checkpoint it goes on from there."""
    net = net or make_net(name, **arguments)
    px = SIDE[name]
    moving = settings.statistics == "moving"
    above = Above(net, thaw(setting, name), Signature("timm", (3, px, px)), moving_statistics=moving)
    setup = make_setup(settings, watcher, labels, precision)
    return Toy(net, above, StageTrainer(spec or make_spec(), above, Crossing(above.cut, px), setup, checkpoint))


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def digest(module: nn.Module) -> str:
    """SHA-256 of the bytes of all tensors."""
    whole = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        whole.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return whole.hexdigest()


def differing(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of tensors that are not bit for bit the same (or are in one only)."""
    return [
        name
        for name in {**one, **other}
        if name not in one or name not in other or not torch.equal(one[name], other[name])
    ]


def timeless(value: Any) -> Any:
    """Plain data without anything that was measured with a clock."""
    if isinstance(value, Mapping):
        clock = ("seconds", "samples_per_s", "seconds_left")
        return {key: timeless(inner) for key, inner in value.items() if key not in clock}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return type(value)(timeless(inner) for inner in value) if isinstance(value, list | tuple) else value
    return value


quick = partial(TrainPlan, batch_size=8, lr=0.02, evaluations=3, clip_norm=0.2)
"""Settings under which a toy learns within a few epochs."""
