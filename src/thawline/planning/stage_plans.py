"""Turn a thaw setting into stages of training: which lines, how long, how fast, and what is cached."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from thawline.backbones.lines import thaw_lines
from thawline.backbones.thaw import resolve_thaw
from thawline.errors import UsageError
from thawline.planning.asking import precision_of
from thawline.planning.kept_rows import ladder_for
from thawline.training.schedule import epochs_within, steps_per_epoch
from thawline.training.settings import StagePlan, TrainAsk, TrainPlan

if TYPE_CHECKING:
    from torch import nn

    from thawline.backbones import Backbone
    from thawline.backbones.ladder import Ladder, Rung
    from thawline.backbones.thaw import Thaw
    from thawline.planning.fit_plan import FitPlan
    from thawline.planning.ground import Ground
    from thawline.records import Precision, Split

PROGRESSIVE, NONE = "progressive", "none"

SAMPLES_SEEN, USUAL_EPOCHS, MOST_SEEN = 5_200, 13, 15_600
"""A fine-tuning shows about so many samples, in at least 13 epochs while that shows no more than the last number: with
400 samples, three fifths of the seconds of an expert's script that knows the line (benchmarks/time_to_accuracy.md)."""
MOST_EPOCHS, FEWEST_EPOCHS, FEWEST_OF_TEXTS = 40, 5, 3
CHOOSING = 0.36
"""Share of the epochs of a fine-tuning before it goes on with all samples: the averaged weights of so short a training
tell a line that helps, and what is learned by then is kept."""
STAGE_SEEN = 9_000
"""Samples that one stage of progressive unfreezing shows, and a third of what random weights are shown."""
JOINT = 0.4
"""Epochs on all samples, as a share of those before, of what is not fine-tuned at one line."""
SMOOTH = {"schedule": "constant", "average_power": 3, "warmup_frac": 0.4, "clip_norm": 0.2, "evaluations": 4}
"""A rate that does not fall, and averaged weights, can stop and go on at any step without loss. The slow rise and the
short steps keep features that are far from what the weights were trained on from being torn at the start."""
PROGRESSIVE_SHARE = 0.6
"""A stage of progressive unfreezing that starts from the one before needs fewer epochs than one alone."""
SCRATCH_TIMES = 3
"""Random weights need so many times the epochs."""
HEAD_STEPS = 1_500
"""Steps of an MLP on features; they cost next to nothing."""
N_GROUPS = 5
"""Groups of layers, balanced by FLOPs, that progressive unfreezing adds one after the other."""
WIDEST_SPREAD = 30
"""The layer furthest from the head learns at most this many times slower than the head."""
MOST_VIEWS, FEWEST_VIEWS, SHOWN = 8, 4, 1.75
"""Views in the boundary cache, so many that each is shown about twice; fewer than four would repeat themselves soon."""
TEXT_LR = 3e-5
"""Learning rate of encoders of texts under AdamW: Devlin et al. 2019, arXiv:1810.04805, choose among 2e-5, 3e-5 and
5e-5, with 3 or 4 epochs."""
PAIRS_LR = 1e-4
"""Learning rate of training by pairs without batch norm: few samples make few steps, and each step has many pairs."""
_OF_PICTURES = {"crop_scale", "flip", "colour", "cutmix"}
CACHE_BYTES = 4 * 2**30
"""Largest boundary of one stage that is planned for."""
WORTH_CACHING = 0.05
"""A boundary is kept if at least this share of the FLOPs lies below the line."""


def settle(plan: FitPlan, ground: Ground | None, backbone: Backbone, training: TrainAsk | None = None) -> FitPlan:
    """Complete a plan: resolve its thaw setting into stages, and its settings of training into numbers.

    A plan that has its stages is checked against its thaw setting instead.

    Args:
        plan: What was asked.
        ground: What it will be fitted to; sizes decide epochs and views. None is enough for a plan that trains nothing.
        backbone: What the line stands in.
        training: Settings of training that were asked for.
    Raises:
        UsageError: The model has no such line, or what was asked would train nothing.
    """
    asked: dict[str, Any] = {} if training is None else training.model_dump(exclude_unset=True)
    if not plan.trains:
        if asked:
            raise UsageError(
                f"settings of training ({', '.join(asked)}) must have something to train; with thaw none, a "
                f"{plan.head} head is solved without steps. Add --thaw last:2 or --head mlp."
            )
        if plan.training or plan.stages:
            raise UsageError(
                "plan must have no [training] and no [[stages]] if nothing is trained; with thaw none, a "
                f"{plan.head} head is solved without steps. Delete them, or thaw something."
            )
        return plan
    if "," in plan.layer and plan.thaw != NONE:
        raise UsageError(
            f"layer must be one layer if something is thawed; got {plan.layer!r} and thaw {plan.thaw}. Choose one, or "
            "thaw none."
        )
    if plan.thaw != NONE:
        backbone = backbone.up_to(plan.layer)
    assert ground is not None
    if plan.thaw == PROGRESSIVE and not len(ground.split.val):
        raise UsageError(
            "thaw progressive must have a validation set to stop by; this split has none. Change --split, or choose "
            "a fixed line such as last:2."
        )
    of_texts = backbone.preparation.kind == "text"
    if of_texts:
        _check_texts(asked)
    ladder, module = ladder_for(backbone, ground.data), backbone.blueprint()
    epochs, views = asked.pop("epochs", None), asked.pop("views", None)
    plan = plan.changed(training=_training(plan, ladder, module, asked, of_texts))
    _check_objective(plan, ground)
    if plan.stages:
        _check_stages(plan, ladder, module)
        return plan
    split = ground.held_out(plan)
    stages = [
        _stage(thaw, before, ladder, split, plan, epochs, views)
        for before, thaw in _with_previous(stage_thaws(plan, ladder, module))
    ]
    # cutmix needs the pictures themselves, and at a line in the middle there may be tokens
    assert plan.training is not None
    if plan.thaw == "all" and plan.fine_tunes_once and stages[0].joint_epochs and not plan.training.cutmix:
        stages = [_begun_higher(stages[0], ladder, module, split, plan, views)]
    return plan.changed(stages=tuple(stages))


def _check_objective(plan: FitPlan, ground: Ground) -> None:
    """Refuse pairs where no backbone learns from them, or no classes make them."""
    assert plan.training is not None
    if plan.training.objective != "contrastive":
        return
    refused = {"random weights": plan.from_scratch, "an MLP head": plan.head == "mlp"}
    refused["samples that have no single class"] = ground.data.target != "class"
    if what := " and ".join(name for name, is_so in refused.items() if is_so):
        raise UsageError(
            "objective contrastive must have layers of a pre-trained backbone to train, a linear head, and one class "
            f"for each sample; got {what}. Leave out --set objective=contrastive."
        )


def stage_thaws(plan: FitPlan, ladder: Ladder, module: nn.Module) -> list[Thaw]:
    """Return the resolved thaw setting of each stage of a plan."""
    settings = [NONE] if plan.head == "mlp" and not plan.from_scratch else []
    if plan.thaw == PROGRESSIVE:
        settings += [f"from:{rung.name}" for rung in progressive_rungs(ladder)]
    elif plan.thaw != NONE:
        settings.append(plan.thaw)
    return [resolve_thaw(ladder, setting, module) for setting in settings]


def progressive_rungs(ladder: Ladder) -> list[Rung]:
    """Return the lowest layer of each stage of progressive unfreezing, from the end of the backbone to its first layer.

    The groups hold whole layers and about equal shares of the FLOPs.
    """
    layers = [rung for rung in ladder.rungs if rung.parameters]
    starts = [0.0, *(rung.flops_below_frac for rung in layers[:-1])]  # FLOPs below each layer
    chosen: list[int] = []
    for group in range(1, N_GROUPS):
        wanted = 1 - group / N_GROUPS
        chosen.append(min(range(len(layers)), key=lambda i: (abs(starts[i] - wanted), -i)))
    chosen = list(dict.fromkeys([*chosen, 0]))  # the last group reaches the first layer, whatever its FLOPs
    return [layers[i] for i in chosen]


def _check_texts(asked: dict[str, Any]) -> None:
    """Refuse settings of training that mean something for pictures only.

    Raises:
        UsageError: Names them, and what to do instead.
    """
    if found := sorted(_OF_PICTURES & asked.keys()):
        raise UsageError(
            f"settings of training must be such as texts have; got {', '.join(found)}, which augment pictures. Leave "
            f"{'it' if len(found) == 1 else 'them'} out: texts are not augmented."
        )
    if (asked.get("views") or 0) > 1:
        raise UsageError(
            f"views must be 0 or 1 for texts, which are not augmented; got {asked['views']}. 1 keeps each text in the "
            "boundary cache, 0 computes it anew in each epoch."
        )


def _training(plan: FitPlan, ladder: Ladder, module: nn.Module, asked: dict[str, Any], of_texts: bool) -> TrainPlan:
    """Return settings of training: those asked for or in the plan, and for the rest what suits the architecture."""
    from torch.nn.modules.batchnorm import _NormBase

    has_batch_norm = any(isinstance(layer, _NormBase) for layer in module.modules())
    slowest = WIDEST_SPREAD ** (-1 / max(ladder.layers - 1, 1))
    usual: dict[str, Any] = {
        "lr": _usual_rate(ladder, of_texts, has_batch_norm or plan.thaw == NONE),
        "lr_decay": round(max(0.85, slowest), 4),
    }
    if plan.fine_tunes_once and not {"schedule", "ema_decay", "lora_rank"} & asked.keys():
        usual |= SMOOTH if asked.get("statistics", "frozen") == "frozen" else {}
    if asked.get("objective") == "contrastive" or (plan.training and plan.training.objective == "contrastive"):
        usual |= {"lr": 1e-3 if has_batch_norm else PAIRS_LR, "evaluations": 1}  # each of those takes a new head
    if plan.from_scratch:
        usual = {"lr": 2e-3 if has_batch_norm else 5e-4, "lr_decay": 1.0, "weight_decay": 0.02, "statistics": "moving"}
    written = plan.training.model_dump(exclude_unset=True) if plan.training else {}
    return TrainPlan.model_validate(usual | written | asked)


def _usual_rate(ladder: Ladder, of_texts: bool, is_robust: bool) -> float:
    """Return the learning rate that suits an architecture under AdamW.

    Args:
        is_robust: Whether batch normalisation bears a high rate, or there is nothing but a head.
    """
    if is_robust or (of_texts and ladder.layers < 2):  # vectors of words alone, without blocks on them
        return 1e-3
    return TEXT_LR if of_texts else 1e-4


def _with_previous(thaws: list[Thaw]) -> list[tuple[Thaw | None, Thaw]]:
    return list(zip([None, *thaws[:-1]], thaws, strict=True))


def _stage(
    thaw: Thaw, before: Thaw | None, ladder: Ladder, split: Split, plan: FitPlan, asked: int | None, views: int | None
) -> StagePlan:
    known = set(before.thawed) if before else set()
    assert plan.training is not None
    goes_on = plan.training.refit and len(split.val) > 0
    epochs, joint = _epochs(thaw, ladder, split, plan, asked)
    if not goes_on:
        epochs, joint = asked or epochs + joint, 0
    stage = StagePlan.model_validate(
        {
            "thaw": thaw.setting,
            "rung": thaw.rung,
            "epochs": epochs,
            "joint_epochs": joint,
            "views": views or 0,
            "adds": [name for name in thaw.thawed if name not in known],
        }
    )
    if views is not None and thaw.thawed:
        return stage
    n = len(split.train) + len(split.val)
    return stage.changed(views=_views(thaw, ladder, n, epochs + joint, precision_of(plan)))


def _begun_higher(
    stage: StagePlan, ladder: Ladder, module: nn.Module, split: Split, plan: FitPlan, views: int | None
) -> StagePlan:
    """Return a stage that thaws everything only when it goes on with all samples, and the upper half before."""
    lines = thaw_lines(ladder)
    if len(lines) < 2:
        return stage
    thaw = resolve_thaw(ladder, lines[-2], module)
    if views is None:
        n = len(split.train) + len(split.val)
        views = _views(thaw, ladder, n, stage.epochs, precision_of(plan))
    return stage.changed(thaw=thaw.setting, rung=thaw.rung, views=views, joint_thaw=stage.thaw)


def _epochs(thaw: Thaw, ladder: Ladder, split: Split, plan: FitPlan, asked: int | None) -> tuple[int, int]:
    """Return epochs with some samples held out, and epochs on all that follow.

    Args:
        asked: How many the two are together, if that was asked for; one is one with samples held out.
    """
    first = CHOOSING if plan.fine_tunes_once else 1 / (1 + JOINT)
    assert plan.training is not None
    if asked is None and (plan.fine_tunes_once or plan.training.objective == "contrastive"):
        asked = whole_epochs(max(len(split.train) + len(split.val), 1), plan.training, of_texts=_reads_ids(ladder))
    if asked is not None:
        epochs = max(round(first * asked), 1)
        return (epochs, asked - epochs) if _teach(epochs, asked - epochs, split, plan) else (asked, 0)
    epochs = _epochs_of_stage(thaw, max(len(split.train), 1), plan)
    return epochs, max(round(JOINT * epochs), 1)


def whole_epochs(n: int, training: TrainPlan, *, of_texts: bool) -> int:
    """Return the epochs of a fine-tuning at one line on ``n`` samples, both parts together."""
    if training.objective == "contrastive":
        return max(epochs_within(training.pairs, n, training.batch_size), 2)
    epochs = round(max(SAMPLES_SEEN / n, min(USUAL_EPOCHS, MOST_SEEN / n)))
    return min(max(epochs, FEWEST_OF_TEXTS if of_texts else FEWEST_EPOCHS), MOST_EPOCHS)


def _teach(epochs: int, joint_epochs: int, split: Split, plan: FitPlan) -> bool:
    """Whether both parts of a training are long enough: half of a low-rank update learns from the second step on."""
    assert plan.training is not None
    if not plan.training.lora_rank:
        return True
    per_epoch = steps_per_epoch(len(split.train), plan.training.batch_size)
    return min(epochs, joint_epochs) * per_epoch > 1


def _epochs_of_stage(thaw: Thaw, n: int, plan: FitPlan) -> int:
    if not thaw.thawed:
        return min(max(round(HEAD_STEPS * 32 / n), 10), 200)
    epochs = min(max(round(STAGE_SEEN / n), FEWEST_EPOCHS), MOST_EPOCHS)
    if plan.from_scratch:
        return SCRATCH_TIMES * epochs
    goes_on = plan.thaw == PROGRESSIVE and plan.training is not None and plan.training.stages_from == "incumbent"
    return max(3, math.ceil(PROGRESSIVE_SHARE * epochs)) if goes_on else epochs


def _views(thaw: Thaw, ladder: Ladder, n: int, epochs: int, precision: Precision) -> int:
    """Return how many views to keep at this line: as many as fit and are of use; 0 if fresh ones are better."""
    rung = next(rung for rung in ladder.rungs if rung.name == thaw.rung)
    if not thaw.thawed or rung.flops_below_frac < WORTH_CACHING:
        return 0
    room = CACHE_BYTES // max(n * rung.row_bytes(precision), 1)
    if _reads_ids(ladder):
        return min(1, room)  # every view of a text is the text
    useful = min(max(math.ceil(epochs / SHOWN), FEWEST_VIEWS), MOST_VIEWS)
    views = min(useful, epochs, room)
    return views if views >= min(FEWEST_VIEWS, epochs) else 0


def _check_stages(plan: FitPlan, ladder: Ladder, module: nn.Module) -> None:
    """Refuse stages that are not those of the plan's thaw setting in this model."""
    thaws = stage_thaws(plan, ladder, module)
    expected = [(thaw.setting, _adds(before, thaw)) for before, thaw in _with_previous(thaws)]
    given = [(stage.goal, set(stage.adds)) for stage in plan.stages]
    rungs = [resolve_thaw(ladder, stage.thaw, module).rung for stage in plan.stages]
    if given != expected or [stage.rung for stage in plan.stages] != rungs:
        names = ", ".join(thaw for thaw, _ in expected)
        raise UsageError(
            f"stages of the plan must be those of its thaw setting {plan.thaw} in {ladder.model}, which are: {names}, "
            "each with its own parameters; the plan lists others. Delete [[stages]] from the plan to have them made."
        )


def _reads_ids(ladder: Ladder) -> bool:
    """Whether samples are texts: ids of tokens, and not pictures."""
    return len(ladder.rungs[0].shape) == 1


def _adds(before: Thaw | None, thaw: Thaw) -> set[str]:
    return set(thaw.thawed) - (set(before.thawed) if before else set())
