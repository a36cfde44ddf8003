"""The settings of gradient training, decided, as they stand in ``plan.toml``."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Settings(BaseModel):
    """A frozen record of settings that are checked together, also after a change."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def changed(self, **changes: Any) -> Self:
        """Return a copy with other values, every rule checked again; settings that were left open stay open.

        Raises:
            pydantic.ValidationError: The changed settings cannot be.
        """
        return self.model_validate({name: getattr(self, name) for name in self.model_fields_set} | changes)


class TrainPlan(Settings):
    """Settings of gradient training; with data and weights they decide every bit of the result on one machine."""

    objective: Literal["cross-entropy", "contrastive"] = Field(
        "cross-entropy",
        description="cross-entropy of the head; or contrastive: pairs of samples draw those of one class together and "
        "push others apart, then a head is solved on the new features.",
    )
    pairs: int = Field(
        80_000, ge=1, description="Most pairs of samples that contrastive training compares; its epochs follow from it."
    )
    optimiser: Literal["adamw", "sgd"] = Field("adamw", description="adamw, or sgd (with momentum).")
    lr: float = Field(1e-3, gt=0, le=10, description="Learning rate of the head, after warm-up.")
    lr_decay: float = Field(
        0.85, gt=0, le=1, description="Each layer further from the head learns this much slower than the one above."
    )
    first_step: Literal["tried", "full"] = Field(
        "tried",
        description="tried: the backbone learns more slowly if its first step would raise the loss of the solved head.",
    )
    weight_decay: float = Field(1e-4, ge=0, lt=1, description="Decoupled for adamw; not on biases and normalisation.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Of sgd.")
    nesterov: bool = Field(True, description="Nesterov momentum, of sgd.")
    batch_size: int = Field(32, ge=1, le=65_536, description="Samples in one step of the optimiser.")
    accumulate: int = Field(1, ge=1, description="Pieces that a batch is run in, if it does not fit into memory.")
    warmup_frac: float = Field(
        0.1, ge=0, lt=1, description="Share of the steps in which the rate rises to its full size."
    )
    schedule: Literal["cosine", "constant"] = Field("cosine", description="cosine falls to 0 at the end; or constant.")
    average_power: int = Field(
        0,
        ge=0,
        le=100,
        description="Averages the weights over the steps, the later the more: step t counts t**power (3 = about the "
        "last fifth). It stands in for a rate that falls to 0; 0 = off.",
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="Share of the target that all classes divide equally.")
    mixup: float = Field(0.0, ge=0, le=10, description="Alpha of mixup, at the thaw line; 0 = off.")
    cutmix: float = Field(
        0.0, ge=0, le=10, description="Alpha of cutmix, where one image-shaped tensor crosses; 0 = off."
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced counts rare classes as much as common."
    )
    clip_norm: float = Field(1.0, ge=0, description="Largest norm of the gradient of a step; 0 = any.")
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="Averages the weights over the steps (0.99 = about 100); 0 = off."
    )
    statistics: Literal["frozen", "moving"] = Field(
        "frozen", description="Running statistics of normalisation layers above the line; below it they never move."
    )
    crop_scale: tuple[float, float] = Field(
        (0.6, 1.0), description="Share of the picture's area that a view shows, from and to."
    )
    flip: bool = Field(True, description="Mirror half of the views, left to right.")
    colour: float = Field(
        0.0, ge=0, lt=1, description="Largest change of brightness, contrast and saturation of a view."
    )
    l2_sp: float = Field(0.0, ge=0, description="Pull of the thawed weights towards their start; 0 = off.")
    lora_rank: int = Field(
        0, ge=0, le=1024, description="Train low-rank updates of this rank instead of the thawed weights; 0 = off."
    )
    stages_from: Literal["probe", "incumbent"] = Field(
        "probe", description="Progressive: each stage starts from the solved head, or from the best stage so far."
    )
    evaluations: int = Field(10, ge=1, description="Times that a stage is judged on the validation set.")
    refit: bool = Field(
        True,
        description="When all is chosen, go on training what ships, on the training and validation sets together.",
    )

    @field_validator("crop_scale")
    @classmethod
    def _check_scale(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 < value[0] <= value[1] <= 1:
            raise ValueError("must be two shares of the area, the smaller first, such as 0.6 and 1")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> TrainPlan:
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate must be at most batch_size, {self.batch_size}; got {self.accumulate}")
        if self.average_power and self.ema_decay:
            raise ValueError("average_power and ema_decay both average the weights; set one of them to 0")
        if self.mixup and self.cutmix:
            raise ValueError("mixup and cutmix cannot both be on; set one of them to 0")
        if self.objective == "contrastive":
            self._check_contrastive()
        return self

    def _check_contrastive(self) -> None:
        """Refuse what has no meaning for pairs."""
        unusable = {"mixup": self.mixup, "cutmix": self.cutmix, "accumulate above 1": self.accumulate > 1}
        unusable["class_weights"] = self.class_weights != "none"
        if names := [name for name, is_on in unusable.items() if is_on]:
            raise ValueError(
                f"objective contrastive must do without {' and '.join(names)}: pairs need whole batches of samples as "
                "they are, and show all classes equally often; leave it out"
            )


MOST_EPOCHS, MOST_VIEWS = 100_000, 1_000
"""That a stage may have."""


class TrainAsk(TrainPlan):
    """Settings of training that were asked for; a plan decides those that are not set."""

    epochs: int | None = Field(
        None, ge=1, le=MOST_EPOCHS, description="Epochs of every stage, those on all samples included."
    )
    views: int | None = Field(None, ge=0, le=MOST_VIEWS, description="Views in the boundary cache of every stage.")


class StagePlan(Settings):
    """One stage of training, decided: where the line stands, and exactly what learns."""

    thaw: str = Field(description="Thaw setting of the stage.")
    rung: str = Field(description="Where the line stands: nothing at or below this layer learns.")
    epochs: int = Field(ge=1, le=MOST_EPOCHS, description="Passes over the samples to learn from, others held out.")
    joint_epochs: int = Field(
        0,
        ge=0,
        le=MOST_EPOCHS,
        description="Passes over all samples, those held out included, from the weights that the stage ended with.",
    )
    joint_thaw: Literal["", "all"] = Field(
        "", description="all: everything learns in the passes over all samples; empty: what learns in the stage."
    )
    views: int = Field(
        ge=0, le=MOST_VIEWS, description="Augmented views of a sample in the boundary cache; 0 = fresh ones each epoch."
    )
    adds: tuple[str, ...] = Field(description="Parameters that begin to learn in this stage.")

    @property
    def goal(self) -> str:
        """Thaw setting of all that learns in the end."""
        return self.joint_thaw or self.thaw
