"""What a stage of training may do and what not: each failure is made on purpose, and the receipt names the tensor."""

from __future__ import annotations

import copy
import doctest
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict

import pytest
import torch
from torch import nn

from thawline.backbones import watch as watch_room
from thawline.backbones.watch import FreezeWatch
from thawline.errors import ReceiptError

THAWED = ["top.weight", "top_norm.weight", "top_norm.bias", "head.weight", "head.bias"]
STATISTICS = ["top_norm.running_mean", "top_norm.running_var", "top_norm.num_batches_tracked"]


class Net(nn.Module):
    """Two blocks and a head; the upper block and the head learn."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.stem = nn.Conv2d(3, 4, 3, bias=False)
            self.norm = nn.BatchNorm2d(4)
            self.top = nn.Conv2d(4, 4, 3, bias=False)
            self.top_norm = nn.BatchNorm2d(4)
            self.head = nn.Linear(4, 2)
        nn.init.zeros_(self.head.bias)
        self.register_buffer("offset", torch.ones(4, 1, 1), persistent=False)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in THAWED)
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.above(self.norm(self.stem(x)) + self.offset)

    def above(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.top_norm(self.top(x)).relu().mean((2, 3)))


class Training:
    """A stage: a net, a watch over it, an optimiser of what learns, and always the same batches."""

    def __init__(self, *, thawed: Iterable[str] = THAWED, buffers: Iterable[str] = (), lr: float = 0.1) -> None:
        self.net = Net()
        self.watch = FreezeWatch("late", self.net, thawed=thawed, buffers=buffers)
        learning = [{"params": [self.net.get_parameter(name)]} for name in THAWED]
        self.optimiser = torch.optim.AdamW(learning, lr=lr, weight_decay=0.01)

    def loss(self, step: int) -> torch.Tensor:
        images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(step))
        return nn.functional.cross_entropy(self.net(images), torch.tensor([0, 1, 0, 1, 1]))

    def step(self, *steps: int) -> None:
        for step in steps:
            self.optimiser.zero_grad(set_to_none=True)
            self.loss(step).backward()
            self.watch.saw_gradients()
            self.optimiser.step()

    def refused(self, sentence: str) -> None:
        with pytest.raises(ReceiptError, match=rf"stage 'late' must {sentence}"):
            self.watch.issue()


def edit(tensor: torch.Tensor, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with torch.no_grad():
        tensor.copy_(change(tensor))


def one_ulp_up(tensor: torch.Tensor) -> torch.Tensor:
    changed = tensor.clone()
    changed.view(-1)[3] = torch.nextafter(changed.view(-1)[3], torch.tensor(torch.inf))
    return changed


# what a clean receipt says


def test_a_receipt_tells_how_each_tensor_learned() -> None:
    """Against a plain loop over the same steps."""
    stage, by_hand = Training(), Training()
    largest = dict.fromkeys(THAWED, 0.0)
    for step in range(3):
        by_hand.optimiser.zero_grad()
        by_hand.loss(step).backward()
        for name in THAWED:
            largest[name] = max(largest[name], float(by_hand.net.get_parameter(name).grad.square().sum().sqrt()))
        by_hand.optimiser.step()
    stage.step(0, 1, 2)
    receipt = stage.watch.issue()
    begin = Net()
    assert receipt.stage == "late"
    assert receipt.ran
    assert receipt.thawed == tuple(record.name for record in receipt.moved) == tuple(THAWED)
    for record in receipt.moved:
        before, after = (net.get_parameter(record.name).detach() for net in (begin, stage.net))
        size = float(before.square().sum().sqrt()) or 1.0
        assert record.gradient == pytest.approx(largest[record.name], rel=1e-5)
        assert record.change == pytest.approx(float((after - before).square().sum().sqrt()) / size, rel=1e-5)
    assert (receipt.frozen_parameters, receipt.frozen_buffers) == (3, 7)
    assert receipt.moved_buffers == ()
    assert json.loads(json.dumps(asdict(receipt)))["moved"][4] == asdict(receipt.moved[4])


def test_the_digest_of_what_is_frozen_depends_on_nothing_else() -> None:
    stage, other = Training(), Training()
    stage.step(0)
    other.step(1, 2)
    digest = stage.watch.issue().frozen_sha256
    assert digest == other.watch.issue().frozen_sha256
    everything = FreezeWatch("none", Net(), thawed=[]).issue()
    assert everything.frozen_sha256 != digest
    assert everything.thawed == everything.moved == ()


def test_one_step_with_gradient_is_enough() -> None:
    stage = Training()
    stage.step(0)
    edit(stage.net.head.weight, torch.zeros_like)  # nothing above the head hears of the layers below it any more
    stage.net.head.weight.requires_grad_(False)
    stage.step(1, 2)
    records = {record.name: record for record in stage.watch.issue().moved}
    assert all(record.gradient > 0 for record in records.values())


def test_statistics_above_the_line_may_move_and_need_not() -> None:
    stage = Training(buffers=STATISTICS)
    stage.step(0)
    assert stage.watch.issue().moved_buffers == ()
    stage.net.top_norm.train()
    stage.step(1)
    assert stage.watch.issue().moved_buffers == tuple(STATISTICS)


def test_names_are_put_into_the_order_of_the_model() -> None:
    assert Training(thawed=reversed(THAWED), buffers=set(STATISTICS)).watch.thawed == tuple(THAWED)
    assert Training(buffers=reversed(STATISTICS)).watch.buffers == tuple(STATISTICS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_precisions_may_be_mixed(dtype: torch.dtype) -> None:
    halves = nn.Sequential(nn.Linear(3, 2).to(dtype), nn.Linear(2, 2))
    watch = FreezeWatch("mixed", halves, thawed=dict(halves.named_parameters()))
    for parameter in halves.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
        edit(parameter, lambda tensor: tensor + 1)
    watch.saw_gradients()
    assert [record.gradient for record in watch.issue().moved] == pytest.approx(
        [2 * 6**0.5, 2 * 2**0.5, 4.0, 2 * 2**0.5], rel=1e-2
    )


def test_the_example_runs() -> None:
    result = doctest.testmod(watch_room)
    assert result.attempted == 7
    assert not result.failed


# something frozen moved


def test_batch_norm_below_the_line_in_training_mode() -> None:
    stage = Training()
    stage.net.norm.train()
    stage.step(0)
    stage.refused(
        "leave frozen tensors bit-identical; 3 moved, first 'norm.running_mean'. A batch-norm layer that is frozen "
        "ran in training mode"
    )


def test_batch_norm_above_the_line_that_was_not_to_move() -> None:
    stage = Training()
    stage.net.train()
    stage.net.norm.eval()
    stage.step(0)
    stage.refused("leave frozen tensors bit-identical; 3 moved, first 'top_norm.running_mean'")


def test_a_count_of_batches_that_moved_alone() -> None:
    stage = Training()
    stage.step(0)
    stage.net.norm.num_batches_tracked += 1
    stage.refused("leave frozen tensors bit-identical; 1 moved, first 'norm.num_batches_tracked'")


def test_one_element_by_one_unit_in_the_last_place() -> None:
    stage = Training()
    stage.step(0)
    edit(stage.net.stem.weight, one_ulp_up)
    stage.refused("leave frozen tensors bit-identical; 1 moved, first 'stem.weight'")


def test_the_sign_of_a_zero() -> None:
    stage = Training()
    stage.step(0)
    edit(stage.net.norm.bias, torch.neg)
    stage.refused("leave frozen tensors bit-identical; 1 moved, first 'norm.bias'")


def test_a_buffer_that_is_not_saved() -> None:
    stage = Training()
    assert "offset" not in stage.net.state_dict()
    stage.step(0)
    edit(stage.net.offset, one_ulp_up)
    stage.refused("leave frozen tensors bit-identical; 1 moved, first 'offset'.* a layer wrote into it")


def test_another_object_of_the_same_values_is_no_violation() -> None:
    stage = Training()
    stage.step(0)
    stage.net.norm.running_var = stage.net.norm.running_var.clone()
    stage.net.stem.weight = nn.Parameter(stage.net.stem.weight.detach().clone(), requires_grad=False)
    assert stage.watch.issue().status == "clean"


def test_another_object_of_other_values_is_one() -> None:
    stage = Training()
    stage.step(0)
    stage.net.norm.running_var = stage.net.norm.running_var + 1
    stage.refused("leave frozen tensors bit-identical; 1 moved, first 'norm.running_var'")


def test_an_optimiser_that_holds_what_is_frozen() -> None:
    """Weight decay moves a tensor whose gradient is 0."""
    stage = Training()
    stage.net.stem.weight.grad = torch.zeros_like(stage.net.stem.weight)
    torch.optim.AdamW([stage.net.stem.weight], weight_decay=0.01).step()
    stage.step(0)
    stage.refused("leave frozen tensors bit-identical; 1 moved, first 'stem.weight'. The optimiser held it")


def test_what_appeared_and_what_vanished() -> None:
    stage = Training(buffers=STATISTICS)
    stage.step(0)
    stage.net.register_buffer("mask", torch.ones(1))
    stage.refused("leave frozen tensors bit-identical; 1 moved, first 'mask'. It was not there when the stage began")
    del stage.net.mask, stage.net.offset
    stage.refused("leave frozen tensors bit-identical; 1 moved, first 'offset'. It is no longer there")
    del stage.net.top.weight  # also what may move must not vanish
    stage.refused("leave frozen tensors bit-identical; 2 moved, first 'top.weight'. It is no longer there")


def test_gradient_below_the_line_is_seen_at_the_first_step() -> None:
    stage = Training()
    stage.net.norm.bias.requires_grad_(True)
    with pytest.raises(ReceiptError, match=r"must send no gradient to frozen tensors; 'norm.bias' received some"):
        stage.step(0)


def test_gradient_left_from_an_earlier_stage_is_no_violation() -> None:
    stage = Training()
    stage.net.norm.bias.grad = torch.ones(4)
    stage.step(0)
    assert stage.watch.issue().status == "clean"


# something thawed did not learn


def test_a_tensor_that_the_output_does_not_depend_on() -> None:
    stage = Training()
    stage.net.above = lambda x: stage.net.head(stage.net.top_norm(stage.net.top(x).detach()).relu().mean((2, 3)))
    stage.step(0, 1)
    stage.refused("send gradient to what it thawed; 1 received none, first 'top.weight'. It does not contribute")


def test_a_tensor_whose_gradient_is_always_zero() -> None:
    """Weight decay moves it, which is not learning."""
    stage = Training()
    stage.net.top.weight.register_hook(torch.zeros_like)
    stage.step(0, 1)
    stage.refused("send gradient to what it thawed; 1 received none, first 'top.weight'. It does not contribute")


def test_a_single_step_is_named_where_a_weight_begins_at_zero() -> None:
    stage = Training()
    stage.net.top.weight.register_hook(torch.zeros_like)
    stage.step(0)
    stage.refused("send gradient to what it thawed; 1 received none, first 'top.weight'. The stage took a single step")


def test_a_thawed_tensor_that_was_set_not_to_learn() -> None:
    stage = Training()
    stage.net.top_norm.bias.requires_grad_(False)
    stage.step(0)
    stage.refused("send gradient to what it thawed; 1 received none, first 'top_norm.bias'. It was set not to learn")


def test_a_stage_without_steps() -> None:
    Training().refused("send gradient to what it thawed; 5 received none, first 'top.weight'. No gradient was seen")


def test_a_tensor_that_is_trained_at_rate_zero() -> None:
    stage = Training()
    stage.optimiser.param_groups[THAWED.index("top_norm.weight")]["lr"] = 0.0
    stage.step(0, 1)
    stage.refused("change what it thawed; 1 did not move, first 'top_norm.weight'. Its learning rate was 0")


def test_a_tensor_that_the_optimiser_does_not_hold() -> None:
    stage = Training()
    del stage.optimiser.param_groups[THAWED.index("head.weight")]
    stage.step(0)
    stage.refused("change what it thawed; 1 did not move, first 'head.weight'.* the optimiser does not hold it")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_thawed_weights_that_are_not_finite(value: float) -> None:
    stage = Training()
    stage.step(0)
    edit(stage.net.top.weight, lambda tensor: torch.where(tensor == tensor.max(), value, tensor))
    stage.refused("keep thawed tensors and their gradients finite; 1 are not, first 'top.weight'")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_gradient_that_once_was_not_finite(value: float) -> None:
    stage = Training()
    stage.loss(0).backward()
    stage.net.head.bias.grad[0] = value
    stage.watch.saw_gradients()
    stage.step(1, 2)
    assert all(tensor.isfinite().all() for tensor in stage.net.parameters())
    stage.refused("keep thawed tensors and their gradients finite; 1 are not, first 'head.bias'")


def test_what_is_frozen_is_judged_first() -> None:
    stage = Training()
    stage.net.norm.num_batches_tracked += 1
    stage.refused("leave frozen tensors bit-identical")


@pytest.mark.parametrize(("thawed", "buffers"), [(["norm.running_mean"], []), ([], ["top.weight"]), (["tip"], [])])
def test_unknown_tensors_are_refused(thawed: list[str], buffers: list[str]) -> None:
    kind = "buffer" if buffers else "parameter"
    with pytest.raises(ReceiptError, match=rf"thawed '{(thawed + buffers)[0]}', which is no {kind} of the model"):
        Training(thawed=thawed, buffers=buffers)


# stages that were stopped


def test_a_resumed_stage_is_proved_as_a_whole() -> None:
    whole, stopped = Training(buffers=STATISTICS), Training(buffers=STATISTICS)
    whole.net.top_norm.train()
    stopped.net.top_norm.train()
    whole.step(0, 1, 2)
    stopped.step(0, 1)
    resumed = Training(buffers=STATISTICS)
    resumed.net.load_state_dict(stopped.net.state_dict())
    resumed.optimiser.load_state_dict(copy.deepcopy(stopped.optimiser.state_dict()))
    resumed.watch.load_state(stopped.watch.state())
    resumed.net.top_norm.train()
    resumed.step(2)
    assert resumed.watch.issue() == whole.watch.issue()


def test_what_a_checkpoint_keeps_is_a_copy() -> None:
    stage, other = Training(), Training()
    stage.step(0)
    kept = stage.watch.state()
    before = kept["largest_gradients"].clone()
    stage.step(1)
    other.watch.load_state(kept)
    other.step(2)
    assert torch.equal(kept["largest_gradients"], before)


def test_gradients_seen_before_the_stop_count() -> None:
    stopped, resumed = Training(), Training()
    stopped.step(0)
    resumed.net.load_state_dict(stopped.net.state_dict())
    resumed.watch.load_state(stopped.watch.state())
    assert resumed.watch.issue() == stopped.watch.issue()


def test_a_checkpoint_of_another_start_is_refused() -> None:
    stage = Training()
    kept = stage.watch.state()
    stage.step(0)
    late = FreezeWatch("late", stage.net, thawed=THAWED)
    less = FreezeWatch("late", Net(), thawed=THAWED[1:])
    for other in (late, less):
        with pytest.raises(ReceiptError, match=r"'late' must be resumed from the weights that it began with"):
            other.load_state(kept)
    FreezeWatch("late", Net(), thawed=THAWED).load_state(kept)
