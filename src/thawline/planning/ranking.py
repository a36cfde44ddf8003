"""Rank pre-trained models by how well they suit the data."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from thawline.data import split_data
from thawline.errors import ModelError, UsageError
from thawline.evaluation import wilson
from thawline.inputs import kind_of
from thawline.listening import Watcher
from thawline.notebook import default_listener
from thawline.planning.contenders import names_of, open_contender
from thawline.planning.halving import LEAST_PICTURES, Contender, Probe, halve, probe_order
from thawline.planning.notes import notes_on
from thawline.planning.targets import require_classes
from thawline.records import Dataset, Score

if TYPE_CHECKING:
    from thawline.backbones import Backbone
    from thawline.store.store import FeatureStore

MOST_PICTURES = 2_000
SHARE = 0.06
"""Share of the multiply-adds that running every model on every picture would take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankedModel:
    """One model, and how well simple heads on its frozen features did on the pictures it was shown."""

    name: str
    title: str
    """The name without the folders of its weights."""
    score: Score
    """Accuracy of ridge on pictures left out in turn, with Wilson's interval."""
    log_loss: float
    """Mean of ridge's and kNN's on the same pictures, nats. It decides the ranking: it is steadier than an accuracy."""
    behind: Score | None
    """Log loss above the leader's on the same pictures, paired; None for the leader."""
    tied: bool
    """Whether its gap to the leader may be chance (5 % over all comparisons); True for the leader itself."""
    scores: Mapping[str, float | None]
    """Shown for comparison, on the same pictures, higher is better: knn (accuracy), log_evidence, h_score, leep, nleep;
    None if one cannot be computed."""
    rounds: int
    """Rounds that the model took part in."""
    parameters: int
    seconds: float
    """Opening, features and scores."""

    def to_json(self) -> dict[str, Any]:
        behind = self.behind
        return {
            "name": self.name,
            "score": self.score.value,
            "ci95": list(self.score.ci95),
            "seconds": round(self.seconds, 4),
            "n": self.score.n,
            "log_loss": self.log_loss,
            "behind": None if behind is None else {"value": behind.value, "ci95": list(behind.ci95), "n": behind.n},
            "tied": self.tied,
            "scores": dict(self.scores),
            "rounds": self.rounds,
            "parameters": self.parameters,
        }


@dataclass(frozen=True, slots=True)
class NotRanked:
    """A model that could not be opened or run."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Models, best first."""

    data: str
    kind: str
    """Of input: a name in ``inputs.KINDS``."""
    models: tuple[RankedModel, ...]
    failed: tuple[NotRanked, ...]
    verdict: str
    """One sentence or two."""
    n_train: int
    """Pictures of the training set; those shown were drawn from it, and no other set was looked at."""
    rounds: tuple[tuple[int, int], ...]
    """(models, pictures) of each."""
    work_frac: float
    """Multiply-adds spent, as a share of those of every model on every picture."""
    seconds: float
    warnings: tuple[str, ...] = ()
    """How the weights of models were read otherwise than they lie there, and what was assumed of them."""

    def to_json(self) -> dict[str, Any]:
        """The object that ``thawline rank --json`` prints."""
        return {
            "models": [model.to_json() for model in self.models],
            "failed": [{"name": model.name, "reason": model.reason} for model in self.failed],
            "verdict": self.verdict,
            "n_train": self.n_train,
            "rounds": [{"models": models, "n": n} for models, n in self.rounds],
            "work_frac": self.work_frac,
            "seconds": round(self.seconds, 4),
            "warnings": list(self.warnings),
        }


def rank(
    data: Dataset,
    models: str | Sequence[str | Backbone],
    *,
    seed: int = 0,
    n_probe: int = MOST_PICTURES,
    share: float = SHARE,
    depths: bool = False,
    fractions: tuple[float, float, float] = (0.70, 0.15, 0.15),
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    store: FeatureStore | None = None,
    listener: Watcher | None = None,
) -> Ranking:
    """Rank pre-trained models by two simple heads on frozen features, on training pictures left out in turn.

    The heads are ridge and kNN; the measure is the mean of their log losses. In each round, every model still in is
    shown the same pictures, those of the round before among them. The better third, at least two models, goes on with
    the pre-trained model that computes most. Every round may cost the same, so models in front are judged on more
    pictures. Random weights lead only if they are clearly better than every pre-trained model.

    Args:
        data: As ``open_data`` gives it. Pictures are drawn from its training set, classes in proportion.
        models: What ``planning.contenders.names_of`` takes: names with commas or as a sequence, ``all``, files.
        seed: Decides the split, the draw, random weights and the mixture of NLEEP. A fit with the same seed has the
            same test set.
        n_probe: Most pictures of the last round.
        share: Share that may be spent of the multiply-adds of every model on every picture. Small data cost more,
            because every model sees at least 20 pictures and 3 for each class.
        depths: Let ridge see several depths side by side instead of the pooled features. That ranks less well on few
            pictures, and costs more.
        fractions: As in ``split_data``.
        engine, precision, device, store: As in ``extract_features``.
        listener: Hears progress, and of models that are left out.
    Raises:
        UsageError: Fewer than two models, one twice, or an option that cannot be.
        ModelError: None of the models can be opened and run; says why for each.
        DataError: A picture cannot be read any more, or the training set does not have two groups to tell apart.
    Source:
        Hybrid of measured and static: Renggli et al. 2022, arXiv:2010.06402. Halving: Jamieson and Talwalkar 2016,
        arXiv:1502.07943.
    """
    started = time.perf_counter()
    require_classes(data, "rank")
    _check(n_probe, share)
    names = names_of(models, data.kind)
    run = {"engine": engine, "precision": precision, "device": device, "store": store}
    watcher = listener or default_listener()
    split = split_data(data, fractions=fractions, seed=seed)  # no training follows that would need a validation set
    order = probe_order(data.labels[split.train], seed)
    probe = Probe(data, split.train[order], depths, run, watcher, seed)
    failed: list[NotRanked] = []

    def leave_out(name: str, error: Exception) -> None:
        failed.append(NotRanked(name, str(error)))

    contenders = _open(names, seed, leave_out)
    n_all = len(split.train) + len(split.val) + len(split.test)
    rounds, spent = halve(contenders, probe, n_probe, share * n_all, leave_out)
    measured = [contender for contender in contenders if contender.rounds]
    if not measured:
        reasons = " ".join(f"{model.name}: {model.reason}" for model in failed)
        raise ModelError(f"models must include one that can be opened and run; none could. {reasons}")
    measured.sort(key=lambda contender: (-len(contender.rounds), contender.loss))
    measured = _pretrained_first(measured, probe)
    ranked = tuple(_ranked(contender, measured[0], probe, len(measured) - 1) for contender in measured)
    return Ranking(
        data=data.name,
        kind=data.kind,
        models=ranked,
        failed=tuple(failed),
        verdict=_verdict(data.name, f"{kind_of(data.kind).NOUN}s", ranked, probe.labels[: ranked[0].score.n]),
        n_train=len(split.train),
        rounds=tuple(rounds),
        work_frac=spent / (n_all * sum(contender.multiply_adds for contender in contenders)),
        seconds=time.perf_counter() - started,
        warnings=tuple(f"{one.backbone.title}: {note}" for one in measured for note in notes_on(data, one.backbone)),
    )


def _check(n_probe: int, share: float) -> None:
    if n_probe < LEAST_PICTURES:
        raise UsageError(f"n_probe (--probe) must be at least {LEAST_PICTURES} samples; got {n_probe}.")
    if not 0 < share <= 1:
        raise UsageError(f"share must be above 0 and at most 1; got {share:g}. Write 0.1 for 10 %.")


def _open(names: Sequence[str | Backbone], seed: int, leave_out: Callable[[str, Exception], None]) -> list[Contender]:
    from thawline.engines.building import count_multiply_adds

    contenders = []
    for model in names:
        started = time.perf_counter()
        try:
            backbone = open_contender(model, seed)
            multiply_adds = count_multiply_adds(backbone)
        except (ModelError, UsageError) as error:
            leave_out(model if isinstance(model, str) else model.name, error)
            continue
        name = model if isinstance(model, str) else model.name
        contenders.append(Contender(name, backbone, multiply_adds, time.perf_counter() - started))
    return contenders


def _pretrained_first(measured: list[Contender], probe: Probe) -> list[Contender]:
    """Put the best pre-trained model before random weights that lead, unless these are clearly better."""
    trained = next((contender for contender in measured if contender.is_pretrained), None)
    if trained is None or trained is measured[0] or not _behind(trained, measured[0], probe, 1)[1]:
        return measured
    return [trained, *(contender for contender in measured if contender is not trained)]


def _behind(contender: Contender, leader: Contender, probe: Probe, n_comparisons: int) -> tuple[Score, bool]:
    """Return how much higher a model's log loss is than the leader's, and whether that may be chance.

    Student's interval of the mean difference, over groups, on the pictures that both were shown.

    Args:
        n_comparisons: Comparisons of this kind; all together mistake chance for a difference in 5 % of cases.
    """
    from scipy.special import stdtrit

    both = min(len(contender.rounds), len(leader.rounds)) - 1
    terms = contender.rounds[both].losses - leader.rounds[both].losses
    n = len(terms)
    _, groups = np.unique(probe.data.groups[probe.rows[:n]], return_inverse=True)
    units = np.bincount(groups)
    value, n_units = float(terms.mean()), len(units)
    deviations = np.bincount(groups, weights=terms) - value * units
    error = float(np.sqrt(np.square(deviations).sum() * n_units / (n_units - 1)) / n)
    half, lucky = (float(stdtrit(n_units - 1, level)) * error for level in (0.975, 1 - 0.05 / n_comparisons))
    return Score("log_loss_difference", value, (value - half, value + half), n), value - lucky <= 0


def _ranked(contender: Contender, leader: Contender, probe: Probe, n_others: int) -> RankedModel:
    is_leader = contender is leader
    behind, tied = (None, True) if is_leader else _behind(contender, leader, probe, n_others)
    ridge = contender.rounds[-1].ridge
    n = len(ridge.labels)
    return RankedModel(
        name=contender.name,
        title=contender.backbone.title,
        score=Score("accuracy", ridge.accuracy, wilson(int(ridge.correct.sum()), n), n),
        log_loss=contender.loss,
        behind=behind,
        tied=tied,
        scores=probe.beside(contender),
        rounds=len(contender.rounds),
        parameters=contender.backbone.n_parameters(),
        seconds=contender.seconds,
    )


def _verdict(data: str, samples: str, ranked: Sequence[RankedModel], labels: NDArray[np.int64]) -> str:
    """Say which model suits best, how sure that is, and whether it is any good."""
    leader, *others = ranked
    score = leader.score
    low, high = score.ci95
    found = (
        f"{leader.title} suits {data} best: accuracy {score.value:.3f} on {samples} left out (95 % {low:.3f} to "
        f"{high:.3f}, n={score.n})"
    )
    tied = [model for model in others if model.tied]
    if tied:
        shown = ", ".join(model.title for model in tied[:3]) + (f" and {len(tied) - 3} more" if len(tied) > 3 else "")
        found += f", not distinguishable on these {samples} from {shown}."
        smallest = min(ranked, key=lambda model: (not model.tied, model.parameters))
        if smallest.parameters < leader.parameters:
            found += f" Of these, {smallest.title} is the smallest."
    elif others:
        found += (
            f", clearly ahead of {others[0].title} and of all others."
            if others[1:]
            else (f", clearly ahead of {others[0].title}.")
        )
    else:
        found += ", the only one that could be run."
    commonest = np.bincount(labels).max() / len(labels)
    if low <= commonest:
        found += f" But always naming the commonest class reaches {commonest:.3f}, so the model may tell nothing."
    return found
