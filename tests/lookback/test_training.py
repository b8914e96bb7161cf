"""The training loop against one written out, its checkpoints, seeds and schedules."""

from __future__ import annotations

import json
import math
import os
import resource
import statistics
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

import training_processes
from launch import launch
from lookback.training import (
    cosine,
    inverse_square_root,
    load_weights,
    mean_and_deviation,
    one_cycle,
    over_seeds,
    read_checkpoint,
    token_loss,
    train,
    write_checkpoint,
)
from lookback.transformer import Config, DecoderOnly

PADDING = -100


def task(seed=0, n=23, T=5, classes=7):
    """Sequences to copy, a third of the targets hidden as padding is."""
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, classes, (n, T), generator=draw)
    hidden = torch.rand(n, T, generator=draw) < 0.3
    return tokens, tokens.masked_fill(hidden, PADDING)


def network(seed=0, dropout=0.0, classes=7):
    torch.manual_seed(seed)
    first, last = nn.Embedding(classes, 8), nn.Linear(8, classes)
    return nn.Sequential(first, nn.Dropout(dropout), nn.Linear(8, 8), nn.Tanh(), last)


def loss(model, batch):
    tokens, targets = batch
    return token_loss(model(tokens), targets)


def loader(size=4, shuffle=True):
    return DataLoader(TensorDataset(*task()), batch_size=size, shuffle=shuffle)


def adam(model, lr=1e-2):
    return torch.optim.Adam(model.parameters(), lr=lr)


def run(model, batches=None, optimiser=None, *, steps=6, **options):
    optimiser = adam(model) if optimiser is None else optimiser
    batches = loader(shuffle=False) if batches is None else batches
    return train(model, loss, batches, optimiser, steps=steps, device="cpu", **options)


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


def assert_equal_weights(one, other):
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_loop_does_what_the_same_loop_written_out_does():
    model, other = network(), network()
    history = run(model, steps=8, clip=0.4, schedule=cosine(8, warmup=2))

    optimiser = adam(other)
    batches = [*loader(shuffle=False), *loader(shuffle=False)]
    for step in range(8):
        tokens, targets = batches[step]
        for group in optimiser.param_groups:
            group["lr"] = 1e-2 * cosine(8, warmup=2)(step)
        optimiser.zero_grad()
        logits = other(tokens).flatten(0, 1)
        value = F.cross_entropy(logits, targets.flatten(), ignore_index=PADDING)
        value.backward()
        norm = nn.utils.clip_grad_norm_(other.parameters(), 0.4)
        optimiser.step()
        assert history.loss[step] == pytest.approx(value.item(), rel=1e-6)
        assert history.gradient_norm[step] == pytest.approx(norm.item(), rel=1e-5)
        assert history.rate[step] == pytest.approx(optimiser.param_groups[0]["lr"])
        assert history.targets[step] == (targets != PADDING).sum()
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_a_step_in_pieces_is_the_step_with_the_whole_batch_however_the_padding_falls():
    tokens, targets = task(n=12)
    targets[:4, 1:] = PADDING  # the first piece has far fewer targets than the others
    pieces = [(tokens[i : i + 4], targets[i : i + 4]) for i in (0, 4, 8)]
    one, other = network(), network()
    sgd = [torch.optim.SGD(m.parameters(), lr=1.0) for m in (one, other)]
    whole = run(one, [(tokens, targets)], sgd[0], steps=3)
    cut = run(other, pieces, sgd[1], steps=3, accumulate=3)
    assert cut.loss == pytest.approx(whole.loss, rel=1e-5)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_loss_falls_and_the_same_seed_gives_the_same_history(device):
    def once():
        model = network(dropout=0.2)
        torch.manual_seed(3)
        return train(model, loss, loader(), adam(model), steps=60, device=device)

    history = once()
    assert statistics.fmean(history.loss[-6:]) < history.loss[0] / 2
    assert history.loss == pytest.approx(once().loss, rel=1e-4)


class Interrupted(Exception):
    pass


def interrupted_at(step, calls):
    """The loss, until the given step: there the process dies."""

    def failing(model, batch):
        if next(calls) == step:
            raise Interrupted
        return loss(model, batch)

    return failing


@pytest.mark.parametrize("crash", [5, 7, 11])
def test_a_run_that_was_interrupted_goes_on_with_the_losses_of_an_unbroken_one(tmp_path, crash):
    # dropout and shuffling draw from one generator; 6 batches an epoch, crashes in two of them
    options = {"steps": 14, "clip": 0.5, "schedule": one_cycle(14), "device": "cpu"}
    unbroken = network(dropout=0.3)
    wanted = train(unbroken, loss, loader(), adam(unbroken), **options)

    options |= {"checkpoint": tmp_path / "run.pt", "checkpoint_every": 2}
    first = network(dropout=0.3)
    for step in (crash, 3):  # and once more, three steps after it went on
        failing = interrupted_at(step, iter(range(99)))
        with pytest.raises(Interrupted):
            train(first, failing, loader(), adam(first), **options)
        first = network(seed=7, dropout=0.3)
    resumed = network(seed=99, dropout=0.3)  # its weights and the generator are overwritten
    found = train(resumed, loss, loader(), adam(resumed), **options)

    assert found.loss == wanted.loss
    assert found.rate == wanted.rate
    assert_equal_weights(resumed, unbroken)


def test_a_loader_that_is_told_its_epoch_gives_the_same_order_after_resuming(tmp_path):
    class Epochs:
        """Counts its passes by itself unless it is told."""

        epoch = 0

        def set_epoch(self, epoch):
            self.epoch = epoch

        def __iter__(self):
            order = torch.randperm(23, generator=torch.Generator().manual_seed(self.epoch))
            self.epoch += 1
            tokens, targets = task()
            yield from ((tokens[i], targets[i]) for i in order.split(4))

    model, resumed = network(), network()
    wanted = run(model, Epochs(), steps=15)
    path = tmp_path / "run.pt"
    run(resumed, Epochs(), steps=8, checkpoint=path)
    again = network(seed=1)
    found = run(again, Epochs(), steps=15, checkpoint=path)
    assert found.loss == wanted.loss
    assert_equal_weights(again, model)


def with_generator(kind):
    """Loaders that shuffle by a generator of their own; its state is never that of the default."""
    data, own = TensorDataset(*task()), torch.Generator().manual_seed(11)
    if kind == "loader":
        return DataLoader(data, batch_size=4, shuffle=True, generator=own)
    sampler = RandomSampler(data, generator=own)
    if kind == "sampler":
        return DataLoader(data, batch_size=4, sampler=sampler)
    return DataLoader(data, batch_sampler=BatchSampler(sampler, 4, drop_last=False))


class DrawnByNumpy:
    """Examples chosen by numpy's global generator, with every batch."""

    def __iter__(self):
        tokens, targets = task()
        for _ in range(6):
            chosen = np.random.permutation(23)[:4]  # noqa: NPY002 - the one that users seed
            yield tokens[chosen], targets[chosen]


@pytest.mark.parametrize(
    "make",
    [
        lambda: with_generator("loader"),
        lambda: with_generator("sampler"),
        lambda: with_generator("batch sampler"),
        DrawnByNumpy,
    ],
    ids=["loader", "sampler", "batch sampler", "numpy"],
)
@pytest.mark.parametrize("crash", [7, 11])
def test_data_drawn_from_other_generators_goes_on_as_well(tmp_path, make, crash):
    np.random.seed(3)  # noqa: NPY002
    np.random.standard_normal()  # noqa: NPY002 - it draws two and keeps one
    wanted = run(network(), make(), steps=14)

    np.random.seed(3)  # noqa: NPY002
    np.random.standard_normal()  # noqa: NPY002
    options = {"steps": 14, "checkpoint": tmp_path / "run.pt", "checkpoint_every": 2}
    model = network()
    failing = interrupted_at(crash, iter(range(99)))
    with pytest.raises(Interrupted):
        train(model, failing, make(), adam(model), device="cpu", **options)
    np.random.seed(99)  # noqa: NPY002
    assert run(network(seed=1), make(), **options).loss == wanted.loss


def test_a_finished_run_is_loaded_and_not_trained_again(tmp_path):
    model, again = network(), network(seed=5)
    history = run(model, checkpoint=tmp_path / "run.pt")
    assert run(again, checkpoint=tmp_path / "run.pt") == history
    assert_equal_weights(model, again)
    fresh = network(seed=6)
    load_weights(fresh, tmp_path / "run.pt")
    assert_equal_weights(model, fresh)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"width": 8}}, "config.width was 4, here it is 8"),
        ({"config": {}}, "config.width = 4 is unknown to this run"),
        ({"config": {"width": 4, "depth": 2}}, "config.depth = 2 was unknown to it"),
        ({"clip": 2.0}, "clip was None, here it is 2.0"),
        ({"precision": "bfloat16"}, "precision was float32, here it is bfloat16"),
        ({"optimiser": lambda m: adam(m, 0.5)}, "optimiser.lr was 0.01, here it is 0.5"),
        (
            {"optimiser": lambda m: torch.optim.AdamW(m.parameters(), lr=1e-2)},
            "optimiser.kind was Adam, here it is AdamW",
        ),
        ({"classes": 9}, r"model.0.weight was \[7, 8\], here it is \[9, 8\]"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_and_the_difference_named(tmp_path, change, message):
    path = tmp_path / "run.pt"
    run(network(), steps=1, checkpoint=path, config={"width": 4})
    written = path.read_bytes()
    options = {"config": {"width": 4}} | change
    model = network(classes=options.pop("classes", 7))
    before = weights(model)
    optimiser = options.pop("optimiser", adam)(model)
    with pytest.raises(ValueError, match=f"belongs to another run: .*{message}"):
        run(model, optimiser=optimiser, steps=1, checkpoint=path, **options)
    assert path.read_bytes() == written
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))


@pytest.mark.parametrize("kept", [0, 10, 1000, -200])
def test_a_damaged_checkpoint_is_refused(tmp_path, kept):
    path = tmp_path / "run.pt"
    run(network(), steps=1, checkpoint=path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"run\.pt is damaged or no checkpoint"):
        run(network(), steps=2, checkpoint=path)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Harmful:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "was here"),))

    torch.save({"model": Harmful()}, tmp_path / "run.pt")
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        read_checkpoint(tmp_path / "run.pt")
    assert not (tmp_path / "was here").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"x": 1}, "holds no model, only x"),
        ({"model": {"weight": torch.ones(3)}}, "another model: model.0.weight = .* was unknown"),
        ({"model": {"0.weight": 3}}, "another model: model.0.weight was int, here it is"),
        ({"model": 3}, "its model is no dictionary but int"),
        ({"model": {}, "identity": [1]}, "its identity is no dictionary but list"),
    ],
)
def test_a_file_without_the_models_weights_is_refused(tmp_path, content, message):
    write_checkpoint(tmp_path / "run.pt", content)
    with pytest.raises(ValueError, match=message):
        load_weights(network(), tmp_path / "run.pt")
    with pytest.raises(ValueError, match="no checkpoint of a run: history"):
        run(network(), checkpoint=tmp_path / "run.pt")


@pytest.mark.parametrize("name", ["identity", "model"])
def test_a_checkpoint_of_which_a_part_is_no_dictionary_is_refused(tmp_path, name):
    path = tmp_path / "run.pt"
    run(network(), steps=1, checkpoint=path)
    write_checkpoint(path, read_checkpoint(path) | {name: 3})
    with pytest.raises(ValueError, match=f"its {name} is no dictionary but int"):
        run(network(), steps=2, checkpoint=path)


CONFIG = Config(vocabulary=7, D=16, H=4, layers=1)


def transformer(seed=0, **choices):
    torch.manual_seed(seed)
    return DecoderOnly(replace(CONFIG, **choices))


@pytest.mark.parametrize(
    "choices",
    [{"H": 2}, {"positions": "rotary"}, {"activation": "relu"}, {"pre_norm": False}, {"eps": 1e-3}],
)
def test_weights_of_another_architecture_are_refused_though_all_shapes_agree(tmp_path, choices):
    path = tmp_path / "run.pt"
    run(transformer(), steps=1, checkpoint=path)
    other = transformer(1, **choices)
    before = weights(other)
    ((name, value),) = choices.items()
    message = f"architecture.{name} was {getattr(CONFIG, name)}, here it is {value}"
    with pytest.raises(ValueError, match=f"written for another model: {message}"):
        load_weights(other, path)
    with pytest.raises(ValueError, match=f"belongs to another run: {message}"):
        run(other, steps=2, checkpoint=path)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(other), strict=True))


def test_weights_are_loaded_into_another_kernel_and_a_run_goes_on_with_another_dropout(tmp_path):
    path, model = tmp_path / "run.pt", transformer()
    run(model, steps=1, checkpoint=path)
    other = transformer(1, kernel="reference", dropout=0.5)
    load_weights(other, path)
    assert_equal_weights(other, model)
    assert len(run(other, steps=2, checkpoint=path).loss) == 2


@pytest.mark.parametrize("known", [["D"], []])
def test_a_choice_that_an_older_checkpoint_does_not_name_is_not_held_against_it(tmp_path, known):
    path, model = tmp_path / "run.pt", transformer()
    run(model, steps=1, checkpoint=path)
    content = read_checkpoint(path)
    written = content["identity"].pop("architecture")
    if known:
        content["identity"]["architecture"] = {name: written[name] for name in known}
    write_checkpoint(path, content)
    other = transformer(1)
    load_weights(other, path)
    assert_equal_weights(other, model)
    assert len(run(other, steps=2, checkpoint=path).loss) == 2


def test_a_config_is_compared_as_far_as_it_is_plain_data(tmp_path):
    @dataclass
    class Choices:
        heads: int
        sides: tuple[int, int] = (1, 2)
        dtype: torch.dtype = torch.float32

    def chosen(heads):
        model = network()
        model.config = Choices(heads)
        return model

    options = {"steps": 1, "checkpoint": tmp_path / "run.pt"}
    run(chosen(4), **options)
    run(chosen(4), **options)
    with pytest.raises(ValueError, match=r"run: architecture.heads was 4, here it is 2$"):
        run(chosen(2), **options)


def test_a_file_that_holds_no_dictionary_is_refused(tmp_path):
    torch.save([1, 2], tmp_path / "run.pt")
    with pytest.raises(ValueError, match="it holds a list"):
        read_checkpoint(tmp_path / "run.pt")


@pytest.fixture
def disk_of_100_kb():
    """No file may grow beyond 100 kB, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_last_good_checkpoint_and_nothing_half_written(
    tmp_path, disk_of_100_kb
):
    path = tmp_path / "run.pt"
    write_checkpoint(path, {"x": torch.ones(3)})
    disk_of_100_kb()
    with pytest.raises(OSError):
        write_checkpoint(path, {"x": torch.ones(10**6)})
    assert torch.equal(read_checkpoint(path)["x"], torch.ones(3))
    assert os.listdir(tmp_path) == ["run.pt"]


def test_a_missing_checkpoint_to_read_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_weights(network(), tmp_path / "none.pt")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_computes_in_the_narrow_dtype_and_keeps_weights_in_float32(precision):
    seen = set()

    def watched(model, batch):
        logits = model(batch[0])
        seen.add(logits.dtype)
        return token_loss(logits, batch[1])

    model, plain = network(), network()
    options = {"steps": 5, "precision": precision, "device": "cpu"}
    history = train(model, watched, loader(shuffle=False), adam(model), **options)
    assert seen == {getattr(torch, precision)}
    assert all(p.dtype == torch.float32 for p in model.parameters())
    wanted = run(plain, steps=5)
    assert history.loss == pytest.approx(wanted.loss, rel=0.02)
    assert history.loss != wanted.loss
    assert history.gradient_norm == pytest.approx(wanted.gradient_norm, rel=0.05)


def test_a_float16_run_resumes_with_its_loss_scale(tmp_path):
    options = {"precision": "float16", "checkpoint_every": 2}
    wanted = run(network(), steps=6, **options)
    path = tmp_path / "run.pt"
    run(network(), steps=3, checkpoint=path, **options)
    found = run(network(seed=4), steps=6, checkpoint=path, **options)
    assert found.loss == wanted.loss


def test_a_run_stops_when_validation_no_longer_improves(tmp_path):
    values = iter([3.0, 2.0, 2.5, 2.0, 1.0, 0.0])
    modes = []

    def validate(model):
        modes.append((model.training, torch.is_grad_enabled()))
        return next(values)

    options = {"validate_every": 2, "patience": 2, "checkpoint": tmp_path / "run.pt"}
    history = run(network(), steps=20, validate=validate, **options)
    assert history.validation == [(2, 3.0), (4, 2.0), (6, 2.5), (8, 2.0)]
    assert history.stopped_early
    assert len(history.loss) == 8
    assert set(modes) == {(False, False)}
    assert run(network(), steps=20, validate=validate, **options) == history


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ([math.nan, 3.0, 2.0, 1.5], 4),  # no number is worse than any number
        ([3.0, math.nan, 2.0, math.nan, 2.5], 5),
        ([math.nan, math.nan, math.nan, 1.0], 3),
    ],
)
def test_a_validation_that_is_no_number_is_no_best_value(given, used):
    values = iter(given)
    options = {"validate": lambda model: next(values), "validate_every": 1, "patience": 2}
    history = run(network(), steps=len(given), **options)
    assert len(history.validation) == used


def test_an_optimiser_keeps_its_rate_and_a_second_run_takes_the_one_that_was_set():
    model = network()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    first = run(model, optimiser=optimiser, steps=4, schedule=cosine(4))
    assert first.rate == pytest.approx([0.5 * cosine(4)(step) for step in range(4)])
    assert optimiser.param_groups[0]["lr"] == 0.5
    assert run(model, optimiser=optimiser, steps=1).rate == [0.5]
    optimiser.param_groups[0]["lr"] = 0.25
    before = weights(model)
    assert run(model, optimiser=optimiser, steps=1, clip=1e-3).rate == [0.25]
    moved = torch.cat([(a - b).flatten() for a, b in zip(before, weights(model), strict=True)])
    assert float(moved.norm()) == pytest.approx(0.25e-3, rel=1e-3)


def test_a_run_that_was_interrupted_in_its_update_leaves_the_rate_as_it_was(monkeypatch):
    model = network()
    optimiser, seen = adam(model), []

    def failing():
        seen.append(optimiser.param_groups[0]["lr"])
        raise Interrupted

    monkeypatch.setattr(optimiser, "step", failing)
    with pytest.raises(Interrupted):
        run(model, optimiser=optimiser, steps=4, schedule=cosine(4, warmup=1))
    assert seen == [0.5e-2]
    assert optimiser.param_groups[0]["lr"] == 1e-2


def test_the_progress_bar_shows_loss_and_tokens_a_second(capsys):
    run(network(), steps=3, progress=True)
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "loss=" in shown
    assert "tokens/s=" in shown
    run(network(), steps=3)
    assert capsys.readouterr().err == ""


def test_the_model_is_left_in_the_mode_it_came_in():
    for mode in (True, False):
        model = network().train(mode)
        run(model, steps=1, validate=lambda m: 0.0, validate_every=1)
        assert model.training is mode


def test_two_processes_under_torchrun_give_the_losses_of_one(tmp_path):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    script = [training_processes.__file__, "run.pt"]
    printed = launch([*launcher, "--nproc-per-node", "2", *script], cwd=tmp_path, timeout=120)
    losses = json.loads(printed.strip().splitlines()[-1])
    assert losses == pytest.approx(training_processes.run(), rel=1e-6)
    with pytest.raises(ValueError, match="processes was 2, here it is 1"):
        training_processes.run(str(tmp_path / "run.pt"))


def test_every_seed_runs_on_its_own_and_the_generator_is_put_back():
    before = torch.get_rng_state()
    drawn = over_seeds(lambda seed: torch.rand(1 + seed).sum().item(), seeds=(0, 5, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert list(drawn) == [0, 5, 1]
    assert drawn == over_seeds(lambda seed: torch.rand(1 + seed).sum().item(), seeds=(0, 5, 1))
    assert len(set(drawn.values())) == 3
    assert mean_and_deviation([1, 2, 6]) == (3.0, pytest.approx(math.sqrt(7)))


@pytest.mark.parametrize("steps", [10, 57])
def test_one_cycle_is_torchs(steps):
    p = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([p], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=1.0, total_steps=steps)
    for step in range(steps):
        assert one_cycle(steps)(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        if step < steps - 1:
            optimiser.step()
            theirs.step()


def test_the_transformers_rate_rises_for_the_warm_up_and_falls_as_the_root_of_the_step():
    rate = inverse_square_root(512, 4000)
    assert rate(3999) == pytest.approx((512 * 4000) ** -0.5)  # the peak: 7.0e-4
    assert rate(1999) == pytest.approx(rate(3999) / 2)
    assert rate(15_999) == pytest.approx(rate(3999) / 2)
    assert max(range(10_000), key=rate) == 3999


def test_the_cosine_rises_straight_falls_to_its_floor_and_stays_there():
    factor = cosine(11, warmup=4, floor=0.1)
    assert [factor(s) for s in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert factor(4) == pytest.approx(1.0)
    assert factor(7) == pytest.approx(0.55)
    assert factor(10) == factor(99) == pytest.approx(0.1)


def test_the_token_loss_sums_over_real_targets_only():
    logits = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 5, (3, 4))
    targets[1, 2:] = PADDING
    summed, count = token_loss(logits, targets)
    picked = logits.log_softmax(-1)[targets != PADDING]
    wanted = -picked[torch.arange(10), targets[targets != PADDING]].sum()
    torch.testing.assert_close(summed, wanted)
    assert count == 10
    (grad,) = torch.autograd.grad(summed, logits)
    assert (grad[1, 2:] == 0).all()
    none, count = token_loss(logits, torch.full_like(targets, PADDING))
    assert (none, count) == (0, 0)
    narrow, _ = token_loss(logits.detach().bfloat16(), targets)
    assert narrow.dtype == torch.float32


@pytest.mark.parametrize("smoothing", [0.1, 1.0])
def test_a_smoothed_token_loss_is_the_cross_entropy_with_a_smoothed_target(smoothing):
    logits = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 5, (3, 4))
    targets[1, 2:] = PADDING
    real = targets != PADDING
    asked = torch.full((10, 5), smoothing / 5, dtype=torch.float64)
    asked[torch.arange(10), targets[real]] += 1 - smoothing
    wanted = -(asked * logits[real].log_softmax(-1)).sum()
    summed, count = token_loss(logits, targets, smoothing=smoothing)
    torch.testing.assert_close(summed, wanted)
    assert count == 10
    found, expected = (torch.autograd.grad(x, logits)[0] for x in (summed, wanted))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("smoothing", [-0.1, 1.1])
def test_a_share_of_smoothing_outside_0_to_1_is_refused(smoothing):
    with pytest.raises(ValueError, match=f"0 to 1, got {smoothing}"):
        token_loss(torch.zeros(2, 3), torch.tensor([0, 1]), smoothing=smoothing)


class Empty:
    def __iter__(self):
        return iter(())


@pytest.mark.usefixtures("no_shape_checks")
@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: run(network(), steps=0), "steps must be at least 1, got 0"),
        (lambda: run(network(), accumulate=0), "accumulate must be at least 1, got 0"),
        (lambda: run(network(), patience=0), "patience must be at least 1, got 0"),
        (lambda: run(network(), clip=0.0), "must be positive, got clip = 0.0"),
        (
            lambda: run(network(), precision="int8"),
            "unknown precision 'int8'",
        ),
        (lambda: run(network(), Empty()), "epoch 0 of the data holds no batch"),
        (lambda: run(network(), iter(loader()), steps=9), "epoch 1 of the data holds no batch"),
        (
            lambda: run(network(), [(torch.zeros(2, 3).long(), torch.full((2, 3), PADDING))]),
            "step 0 has no target",
        ),
        (
            lambda: run(network(), checkpoint="x.pt", config={"f": print}),
            "config must be plain data",
        ),
        (lambda: token_loss(torch.randn(3, 5), torch.zeros(4).long()), r"\(3, 5\) and .* \(4,\)"),
        (lambda: token_loss(torch.randn(3, 5), torch.zeros(3)), "targets must be integers"),
        (lambda: token_loss(torch.randn(3, 5), torch.zeros(3).bool()), "got torch.bool"),
        (lambda: token_loss(torch.ones(3, 5).long(), torch.zeros(3).long()), "got torch.int64"),
        (
            lambda: token_loss(torch.randn(3, 5), torch.tensor([0, 5, -100])),
            "targets run from 0 to 5, but there are 5 classes",
        ),
        (
            lambda: token_loss(torch.randn(3, 5), torch.tensor([0, -1, 7]), ignore=7),
            "targets run from -1 to 0, but there are 5 classes",
        ),
        (lambda: over_seeds(print, ()), "no seed"),
        (lambda: over_seeds(print, (1, 1)), r"the seeds repeat: \[1, 1\]"),
        (lambda: mean_and_deviation([1.0]), "needs at least 2 values, got 1"),
        (lambda: inverse_square_root(0, 5), "got 0 and 5"),
        (lambda: cosine(5, warmup=5), "5 steps of warm-up do not fit into 5 steps"),
        (lambda: cosine(5, floor=2.0), "must lie in 0 to 1, got 2.0"),
        (lambda: one_cycle(1), "got 1 and 0.3"),
    ],
)
def test_training_names_what_does_not_fit(act, message):
    with pytest.raises(ValueError, match=message):
        act()


def test_data_that_shrank_since_the_checkpoint_is_named(tmp_path):
    path = tmp_path / "run.pt"
    run(network(), steps=5, checkpoint=path)
    shorter = DataLoader(TensorDataset(*(x[:8] for x in task())), batch_size=4)
    with pytest.raises(ValueError, match="after 5 batches of epoch 0, but the data here has 2"):
        run(network(), shorter, steps=9, checkpoint=path)
