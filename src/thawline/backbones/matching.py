"""Which tensors of a file are a model's: prefixes that wrappers add, and tensors that stand beside the model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from thawline.errors import WeightsError

Shapes = Mapping[str, tuple[int, ...]]

COUNTER = "num_batches_tracked"
"""Ends the name of a tensor that decides no feature; older files lack it."""
WRAPPERS = frozenset(
    (
        "_orig_mod module model models backbone encoder net network state_dict model_state_dict student teacher ema "
        "model_ema ema_model base_model base_encoder encoder_q encoder_k feature_extractor features_extractor trunk "
        "visual vision_model image_encoder body wrapped online_network target_network"
    ).split()
)
"""First parts of names that training frameworks put before a model's own."""
HEADS = frozenset(
    (
        "fc head heads head_dist classifier classifiers last_linear linear logits cls cls_head clf output out_proj "
        "mlp_head proj_head projection_head projector projection predictor aux aux_logits AuxLogits decoder "
        "decoder_embed decoder_pos_embed decoder_blocks decoder_norm decoder_pred mask_token criterion loss loss_fn "
        "metric metrics train_metrics val_metrics test_metrics prototypes queue queue_ptr"
    ).split()
)
"""First parts of names of what stands beside a backbone."""
STATE = frozenset(
    (
        "optimizer optimizers optimizer_states optim optimizer_state_dict scheduler lr_scheduler lr_schedulers scaler "
        "epoch step global_step iteration loops callbacks hyper_parameters rng"
    ).split()
)
"""First parts of names of what a training keeps."""


@dataclass(frozen=True, slots=True)
class Match:
    """Where a model stands in a file."""

    prefix: str
    foreign: tuple[str, ...]
    """Beginnings of names, prefix taken off, that belong to something else."""
    outside: tuple[str, ...]
    """Names of tensors that are left out, as the file has them; classifiers that are replaced anyway do not count."""


def match(given: Shapes, wanted: Shapes, heads: Collection[str] = ()) -> Match | None:
    """Find the tensors of a model in a file; None if they are not all there, or something unknown stands among them.

    Args:
        given: Name -> shape of everything in the file.
        wanted: Name -> shape of the model's tensors, without its classifier.
        heads: Beginnings of the names of its classifier.
    Raises:
        WeightsError: They are there several times; names the prefixes.
    """
    needed = sum(not name.endswith(COUNTER) for name in wanted)
    found = prefixes(given, wanted)
    whole = [prefix for prefix, n in found.items() if n == needed]
    if not whole:
        return None
    if "" not in whole and len(whole) > 1:
        first, second = sorted(whole)[:2]
        raise WeightsError(f"weights must be there once; names begin with {first!r} and with {second!r}")
    prefix = "" if "" in whole else whole[0]
    copies = tuple(other for other, n in found.items() if other != prefix and n == needed)
    own = {name.partition(".")[0] for name in wanted}
    foreign: set[str] = set()
    outside = [name for name in given if not name.startswith(prefix)]
    for name in given:
        short = name.removeprefix(prefix)
        if not name.startswith(prefix) or short in wanted or short.startswith(tuple(heads)):
            continue
        first = short.partition(".")[0]
        known = first not in own and first in HEADS | STATE
        if not known and not name.startswith(copies or ("\0",)):
            return None  # of a larger model, perhaps: it must not pass for this one
        foreign.add(first + "." if "." in short else short)
        outside.append(name)
    return Match(prefix, tuple(sorted(foreign)), tuple(outside))


def prefixes(given: Shapes, wanted: Shapes) -> Counter[str]:
    """Count, for each prefix, the tensors that have a model's name and shape behind it."""
    found: Counter[str] = Counter()
    for name, shape in given.items():
        at = 0
        while True:
            rest = name[at:]
            if wanted.get(rest) == shape and not rest.endswith(COUNTER):
                found[name[:at]] += 1
            dot = name.find(".", at)
            if dot < 0:
                break
            at = dot + 1
    return found


def likely_prefix(given: Shapes, wanted: Shapes) -> str:
    """Return the prefix behind which most of a model's names stand, whatever their shapes; empty if below half."""
    names: Counter[str] = Counter()
    for name in given:
        parts = name.split(".")
        for depth in range(len(parts)):
            if ".".join(parts[depth:]) in wanted:
                names[".".join([*parts[:depth], ""])] += 1
    prefix, n = max(names.items(), key=lambda item: item[1], default=("", 0))
    return prefix if n > len(wanted) / 2 else ""


def misfits(given: Shapes, wanted: Shapes) -> list[str]:
    """List how the tensors of a file differ from a model's: missing, unexpected, of another shape."""
    problems = [f"missing {name}" for name in wanted if name not in given and not name.endswith(COUNTER)]
    problems += [f"unexpected {name}" for name in given if name not in wanted]
    problems += [
        f"{name} is {given[name]} instead of {shape}"
        for name, shape in wanted.items()
        if name in given and given[name] != shape
    ]
    return problems


def looks_wrapped(names: Collection[str], first_conv: str | None) -> bool:
    """Tell from names alone whether they may carry a prefix, or stand beside something else.

    Args:
        names: Of all tensors but the classifier's.
        first_conv: Name of the first convolution, if the file says it.
    """
    firsts = Counter(name.partition(".")[0] for name in names)
    if firsts.keys() & (WRAPPERS | STATE):
        return True
    if first_conv is not None:
        return not any(name.startswith(f"{first_conv}.") for name in names)
    commonest, n = max(firsts.items(), key=lambda item: item[1], default=("", 0))
    seconds = {name.split(".")[1] for name in names if name.startswith(f"{commonest}.")}
    return 2 * n >= len(names) and not all(second.isdigit() for second in seconds)
