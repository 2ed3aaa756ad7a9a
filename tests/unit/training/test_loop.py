"""The training loop: resumption, bad steps, budget, validation, learning rate."""

import csv
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from random_crystals import random_crystals
from xtalgen.training import checkpoint
from xtalgen.training import loop as fit
from xtalgen.training.batches import DeviceData
from xtalgen.training.checkpoint import CheckpointError
from xtalgen.training.job import Job
from xtalgen.training.loop import FitConfig, Trainable, TrainingError, forget
from xtalgen.training.optimizer import Optimiser, cosine

CONFIG = FitConfig(epochs=4, batch_size=4, learning_rate=0.05, val_every=2, save_seconds=0.0)


class Affine(nn.Linear):
    """A network of our own: PyTorch does not compile its own layers alone."""

    def forward(self, x):
        return nn.functional.linear(x, self.weight, self.bias)


class Toy(Trainable):
    """Learns the mean lengths of the cells, through noise. `bad` steps give NaN; `bad_gradient` ones only there."""

    def __init__(self, bad=(), bad_gradient=()):
        super().__init__()
        self.network = Affine(1, 3)
        nn.init.zeros_(self.network.weight)
        nn.init.zeros_(self.network.bias)
        self.bad, self.bad_gradient, self.calls, self.noises = set(bad), set(bad_gradient), 0, []

    def loss(self, batch, generator):
        noise = torch.randn(len(batch), 1, generator=generator)
        lengths = ((self.network(noise) - batch.lengths) ** 2).mean()
        if self.training:
            if self.calls in self.bad:
                lengths = lengths * float("nan")
            if self.calls in self.bad_gradient:
                lengths = lengths + torch.sqrt(self.network.weight.sum() * 0.0).sum()
            self.calls += 1
        return lengths, {"lengths": lengths}

    def flop(self, n_atoms):
        return 6, 18

    def traffic(self, n_atoms):
        return 1


@pytest.fixture
def data():
    return DeviceData(random_crystals(14, seed=1), "cpu"), DeviceData(random_crystals(5, seed=2), "cpu")


@pytest.fixture
def job(tmp_path):
    return Job("csp", 0, tmp_path / "work", tmp_path / "out")


def weights(module):
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def clocks(cpu=lambda: 0.0, wall=lambda: 0.0):
    """What stands for the module `time`; the CPU's count is of one thread."""
    return SimpleNamespace(monotonic=wall, process_time=lambda: cpu() * torch.get_num_threads())


def rows(job):
    with (job.out / "log.csv").open() as file:
        return list(csv.DictReader(file))


def test_learns_and_logs(data, job):
    module = Toy()
    outcome = fit.fit(module, *data, replace(CONFIG, epochs=60), job)
    log = rows(job)
    assert [int(row["epoch"]) for row in log] == list(range(60))
    assert float(log[-1]["loss"]) < 0.3 * float(log[0]["loss"])
    assert [row["val_loss"] != "" for row in log[:4]] == [False, True, False, True]
    assert list(log[0]) == ["epoch", "step", "seconds", "clock", "loss", "lengths", "val_loss", "lr", "skipped",
                            "samples_per_s", "gflop_per_s"]  # fmt: skip
    assert outcome.progress.best_val_loss == min(float(row["val_loss"]) for row in log if row["val_loss"])
    assert outcome.progress.crystals == 60 * 14


class Killed(BaseException):
    """Stands for a kill."""


@contextmanager
def stopped_while_writing(monkeypatch, nth):
    """The nth saving of the state is interrupted half-way, leaving a torn temporary file."""
    original, count = torch.save, iter(range(1, 1000))

    def torn(state, file):
        original(state, file)
        if next(count) == nth:
            file.truncate(100)
            raise Killed

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(Killed):
        yield


@pytest.mark.parametrize("nth", [1, 2, 5, 7, 17])
def test_a_killed_training_goes_on_bit_equal(data, job, tmp_path, monkeypatch, nth):
    whole = Toy()
    expected = fit.fit(whole, *data, CONFIG, replace(job, work=tmp_path / "other", out=tmp_path / "other_out"))
    with monkeypatch.context() as patch, stopped_while_writing(patch, nth):
        fit.fit(Toy(), *data, CONFIG, job)
    resumed = Toy()
    outcome = fit.fit(resumed, *data, CONFIG, job)
    assert torch.equal(weights(resumed), weights(whole))
    assert outcome.progress.best_val_loss == expected.progress.best_val_loss
    # Timings apart, the log is that of an uninterrupted training.
    timings = ("seconds", "samples_per_s", "gflop_per_s")
    strip = [
        [{k: v for k, v in row.items() if k not in timings} for row in rows]
        for rows in (outcome.progress.rows, expected.progress.rows)
    ]
    assert strip[0] == strip[1]
    assert len(rows(job)) == CONFIG.epochs


def test_another_configuration_does_not_resume_but_starts_afresh(data, job, monkeypatch):
    with monkeypatch.context() as patch, stopped_while_writing(patch, 6):
        fit.fit(Toy(), *data, CONFIG, job)
    other = replace(CONFIG, learning_rate=0.01)
    outcome = fit.fit(Toy(), *data, other, job)
    assert len(list(job.work.iterdir())) == 2
    assert len(outcome.progress.rows) == CONFIG.epochs
    forget(outcome)
    assert list(job.work.iterdir()) == []


def test_forget_leaves_other_folders_alone(data, job):
    (job.work / "mine").mkdir(parents=True)
    (job.work / "0123456789abcdef").mkdir()
    forget(fit.fit(Toy(), *data, CONFIG, job))
    assert {path.name for path in job.work.iterdir()} == {"mine", "0123456789abcdef"}


def test_a_state_of_another_training_is_refused(data, job):
    outcome = fit.fit(Toy(), *data, CONFIG, job)
    path = outcome.folder / fit.STATE
    state = torch.load(path, weights_only=True)
    torch.save({**state, "identity": "another"}, path)
    with pytest.raises(CheckpointError, match=r"state\.pt: belongs to another training .* Delete"):
        fit.fit(Toy(), *data, CONFIG, job)
    path.write_bytes(b"torn")
    with pytest.raises(CheckpointError, match=r"state\.pt: not a readable training state .* Delete it"):
        fit.fit(Toy(), *data, CONFIG, job)


def test_bad_steps_are_skipped_and_counted(data, job, caplog):
    module = Toy(bad=[0, 3, 4], bad_gradient=[5])
    outcome = fit.fit(module, *data, CONFIG, job)
    assert [row["skipped"] for row in outcome.progress.rows] == [2, 2, 0, 0]
    assert torch.isfinite(weights(module)).all()
    assert all(row["loss"] is not None and row["loss"] < 100 for row in outcome.progress.rows)
    assert "skipped" in caplog.text


def test_a_skipped_step_leaves_weights_and_moments():
    module = nn.Linear(2, 1)
    optimiser = Optimiser(module, rate=0.1, weight_decay=0.0, ema_decay=0.9, clip="value", clip_at=0.5)
    assert optimiser.update([module(torch.ones(1, 2)).sum()], 0.1)[1]
    before = weights(module)
    moments = [state["exp_avg"].clone() for state in optimiser.adamw.state.values()]
    assert not optimiser.update([module(torch.full((1, 2), float("nan"))).sum()], 0.1)[1]
    assert torch.equal(weights(module), before)
    assert all(torch.equal(a, b["exp_avg"]) for a, b in zip(moments, optimiser.adamw.state.values(), strict=True))


def test_gives_up_after_many_bad_steps_in_a_row(data, job):
    with pytest.raises(TrainingError, match=r"6 consecutive steps up to step 6 .* Lower learning_rate"):
        fit.fit(Toy(bad=range(1000)), *data, replace(CONFIG, save_seconds=1e9, max_bad_steps=6, batch_size=3), job)


def test_bad_validation_losses_never_become_the_best(data, job):
    class NeverValid(Toy):
        def loss(self, batch, generator):
            total, parts = super().loss(batch, generator)
            return (total if self.training else total * float("inf")), parts

    module = NeverValid()
    outcome = fit.fit(module, *data, CONFIG, job)
    assert outcome.progress.best_val_loss is None
    assert torch.isfinite(weights(module)).all()


def test_result_is_the_average_at_the_best_validation(data, job):
    class WorseAndWorse(Toy):
        """The validation loss grows with every validation: the first one is the best."""

        validations = 0

        def loss(self, batch, generator):
            total, parts = super().loss(batch, generator)
            if not self.training:
                self.validations += 1
            return (total if self.training else total * 0 + self.validations), parts

    module = WorseAndWorse()
    outcome = fit.fit(module, *data, CONFIG, job)
    assert outcome.progress.best_epoch == 1
    early = Toy()
    fit.fit(early, *data, replace(CONFIG, epochs=2, schedule="constant"), replace(job, out=job.out / "early"))
    assert not torch.equal(weights(module), torch.zeros(6))
    assert weights(module).norm() < weights(early).norm() * 1.2


def test_time_budget_ends_the_schedule_at_its_end(data, job, monkeypatch):
    ticks = iter(range(10**6))
    monkeypatch.setattr(fit, "time", clocks(cpu=lambda: float(next(ticks))))
    config = replace(CONFIG, epochs=10**6, save_seconds=1e9)
    outcome = fit.fit(Toy(), *data, config, replace(job, max_seconds=400.0))
    assert outcome.out_of_time
    assert 400 <= outcome.progress.seconds < 440
    rates = [row["lr"] for row in outcome.progress.rows]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.9 * CONFIG.learning_rate
    assert rates[-1] < CONFIG.final_learning_rate + 0.02 * CONFIG.learning_rate
    assert outcome.progress.best_val_loss is not None


def test_time_counts_over_resumptions(data, job, monkeypatch):
    ticks = iter(range(10**6))
    monkeypatch.setattr(fit, "time", clocks(cpu=lambda: float(next(ticks))))
    config = replace(CONFIG, epochs=10**6)
    with monkeypatch.context() as patch, stopped_while_writing(patch, 30):
        fit.fit(Toy(), *data, config, replace(job, max_seconds=400.0))
    used = torch.load(next(job.work.glob("*/state.pt")), weights_only=True)["progress"]["seconds"]
    assert used > 50
    outcome = fit.fit(Toy(), *data, config, replace(job, max_seconds=400.0))
    assert 400 <= outcome.progress.seconds < 440


def test_waiting_for_a_busy_core_costs_no_time(data, job, monkeypatch):
    wall, cpu = iter(range(0, 10**9, 1000)), iter(range(10**6))
    monkeypatch.setattr(fit, "time", clocks(lambda: float(next(cpu)), lambda: float(next(wall))))
    outcome = fit.fit(Toy(), *data, replace(CONFIG, save_seconds=1e9), replace(job, max_seconds=400.0))
    assert not outcome.out_of_time
    assert outcome.progress.epoch == CONFIG.epochs
    assert {row["clock"] for row in rows(job)} == {"CPU time per thread"}


def test_the_seconds_of_a_cpu_are_those_of_each_thread(data, job, tmp_path, monkeypatch):
    def steps(threads):
        ticks = iter(range(10**6))
        counted = SimpleNamespace(monotonic=lambda: 0.0, process_time=lambda: float(next(ticks)))
        monkeypatch.setattr(fit, "time", counted)
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        there = replace(job, work=tmp_path / f"work{threads}", max_seconds=100.0)
        return fit.fit(Toy(), *data, replace(CONFIG, epochs=10**6, save_seconds=1e9), there).progress.steps

    assert steps(4) == pytest.approx(4 * steps(1), rel=0.1)


def test_an_ample_budget_changes_nothing(data, job, tmp_path):
    free, limited = Toy(), Toy()
    fit.fit(free, *data, CONFIG, job)
    outcome = fit.fit(limited, *data, CONFIG, replace(job, work=tmp_path / "w", out=tmp_path / "o", max_seconds=1e4))
    assert torch.equal(weights(free), weights(limited))
    assert not outcome.out_of_time


def test_cosine_is_stepped_once_an_epoch(data, job):
    outcome = fit.fit(Toy(), *data, replace(CONFIG, epochs=10), job)
    expected = [cosine(0.05, 1e-5, epoch / 10) for epoch in range(10)]
    assert [row["lr"] for row in outcome.progress.rows] == expected
    assert cosine(3.0, 1.0, 0.0) == 3.0
    assert cosine(3.0, 1.0, 0.5) == pytest.approx(2.0)
    assert cosine(3.0, 1.0, 1.0) == 1.0


def test_cosine_by_step_with_warm_up(data, job):
    from transformers import get_cosine_schedule_with_warmup

    config = replace(CONFIG, epochs=3, schedule="cosine_by_step", warmup_steps=4, final_learning_rate=0.0)
    rates = []

    class Watched(Optimiser):
        def update(self, total, rate):
            rates.append(rate)
            return super().update(total, rate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "Optimiser", Watched)
        fit.fit(Toy(), *data, config, job)
    steps = len(rates)
    assert steps == 3 * len(data[0].plan(4))
    plain = [cosine(0.05, 0.0, max(step - 4, 0) / (steps - 4)) for step in range(steps)]
    assert rates == [rate * min(1.0, (step + 1) / 4) for step, rate in enumerate(plain)]
    # transformers' own, whose warm-up begins at 0: ours is one step ahead there, and equal after it.
    adam = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=0.05)
    theirs = get_cosine_schedule_with_warmup(adam, 4, steps).lr_lambdas[0]
    assert rates[:4] == pytest.approx([0.05 * theirs(step + 1) for step in range(4)])
    assert rates[4:] == pytest.approx([0.05 * theirs(step) for step in range(4, steps)])


def test_plateau_lowers_the_rate_down_to_its_floor(data, job):
    class Stuck(Toy):
        def loss(self, batch, generator):
            total, parts = super().loss(batch, generator)
            return (total if self.training else total * 0 + 1), parts

    config = replace(
        CONFIG,
        epochs=8,
        schedule="plateau",
        val_every=1,
        plateau_patience=1,
        plateau_factor=0.5,
        final_learning_rate=0.02,
    )
    rates = [row["lr"] for row in fit.fit(Stuck(), *data, config, job).progress.rows]
    assert rates == [0.05, 0.05, 0.05, 0.025, 0.025, 0.02, 0.02, 0.02]


def test_the_plateau_is_pytorchs(data, job):
    losses = [1.0, 0.99995, 0.99992, 0.99985, 0.5, 0.6, 0.49999, 0.499975, 0.3]

    class Given(Toy):
        given = iter(losses)

        def loss(self, batch, generator):
            total, parts = super().loss(batch, generator)
            return (total if self.training else total * 0 + next(self.given)), parts

    config = replace(
        CONFIG,
        epochs=len(losses),
        schedule="plateau",
        val_every=1,
        plateau_patience=1,
        plateau_factor=0.5,
        final_learning_rate=0.001,
    )
    outcome = fit.fit(Given(), data[0], DeviceData(random_crystals(1, seed=2), "cpu"), config, job)
    adam = torch.optim.Adam([torch.zeros(1, requires_grad=True)], lr=0.05)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(adam, factor=0.5, patience=1)
    expected = []
    for loss in losses:
        expected.append(adam.param_groups[0]["lr"])
        theirs.step(loss)
    assert [row["lr"] for row in outcome.progress.rows] == expected
    assert outcome.progress.best_val_loss == pytest.approx(0.3)


def test_precision_bfloat16_trains(data, job):
    module = Toy()
    outcome = fit.fit(module, *data, replace(CONFIG, precision="bfloat16"), job)
    assert outcome.progress.rows[-1]["loss"] < outcome.progress.rows[0]["loss"]


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="epochs must be above 0, not 0"):
        FitConfig(epochs=0)


def test_states_are_never_executed(tmp_path):
    path = tmp_path / "state.pt"
    torch.save({"evil": SimpleNamespace()}, path)
    with pytest.raises(CheckpointError, match="not a readable training state"):
        checkpoint.load_state(path, torch.device("cpu"))


@pytest.mark.slow
def test_a_compiled_network_trains_the_same(data, job, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    plain, compiled = Toy(), Toy()
    fit.fit(plain, *data, CONFIG, job)
    outcome = fit.fit(compiled, *data, replace(CONFIG, compile=True), replace(job, work=tmp_path / "w"))
    torch.testing.assert_close(weights(compiled), weights(plain), rtol=1e-4, atol=1e-5)
    # Torn files of a killed compilation must not outlive the attempt.
    assert list(outcome.folder.glob("compiled-*"))
    forget(outcome)
    assert not outcome.folder.exists()
