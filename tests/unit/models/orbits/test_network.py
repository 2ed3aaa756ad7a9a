"""The network of orbits: what it may look at, its loss, its numbers; that it learns crystals by heart."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from real_crystals import described
from xtalgen.models.orbits.dataset import load_orbits
from xtalgen.models.orbits.network import BINS, Orbits, read_number, soft_labels
from xtalgen.models.orbits.sampling import draw
from xtalgen.models.orbits.steps import GROUP, SITE, X, answers_of, formula_of
from xtalgen.training.job import Job
from xtalgen.training.loop import FitConfig, fit

CRYSTALS = described(40)
SMALL = {"hidden": 16, "layers": 2, "heads": 2, "dropout": 0.0}


@pytest.fixture(scope="module")
def split_and_groups():
    return load_orbits(CRYSTALS, CRYSTALS[:8], "cpu")


@pytest.fixture
def orbits(split_and_groups):
    torch.manual_seed(1)
    return Orbits(split_and_groups[1], **SMALL).eval().requires_grad_(False)


@pytest.fixture
def batch(split_and_groups):
    return max(split_and_groups[0].train.buckets, key=len)


def test_a_step_looks_at_nothing_after_it(orbits, batch):
    known = orbits.network(batch)
    number = batch.kind.shape[1]
    for step in range(number):
        after = torch.arange(number) >= step
        changed = replace(
            batch,
            value=torch.where(after, 0.77, batch.value),
            chosen=torch.where(after & (batch.kind == SITE), 0, batch.chosen),
        )
        assert torch.allclose(orbits.network(changed)[:, : step + 1], known[:, : step + 1], atol=1e-6)
    shifted = replace(batch, value=batch.value + 0.1)
    assert not torch.allclose(orbits.network(shifted)[:, -1], known[:, -1], atol=1e-4)


def test_padding_changes_nothing(orbits, split_and_groups):
    data = split_and_groups[0].train
    generator = torch.Generator()
    alone = [
        float(orbits.loss(bucket.take(torch.tensor([row])), generator)[0])
        for bucket in data.buckets
        for row in range(len(bucket))
    ]
    together = sum(float(orbits.loss(bucket, generator)[0]) * len(bucket) for bucket in data.buckets)
    assert together == pytest.approx(sum(alone), rel=1e-5)
    shorter = next(bucket for bucket in data.buckets if not bucket.mask.all())
    row = int((~shorter.mask).any(dim=1).nonzero()[0])
    one = shorter.take(torch.tensor([row]))
    steps = int(one.mask.sum())
    names = [name for name in one.__dataclass_fields__ if name not in ("elements", "counts")]
    cut = replace(one, **{name: getattr(one, name)[:, :steps] for name in names})
    assert torch.allclose(orbits.network(cut), orbits.network(one)[:, :steps], atol=1e-6)


def test_the_loss_is_the_surprise_of_every_step(orbits, batch):
    one = batch.take(torch.tensor([0]))
    known, total = orbits.network(one)[0], 0.0
    for step in range(int(one.mask.sum())):
        kind, chosen = int(one.kind[0, step]), int(one.chosen[0, step])
        if kind == GROUP:
            total -= float(orbits.network.group_scores(known[step]).log_softmax(-1)[chosen])
        elif kind == SITE:
            scores = orbits.network.site_scores(known[step : step + 1], one.group[0, step : step + 1])[0]
            total -= float(scores[one.open[0, step]].log_softmax(-1)[int(one.open[0, step, :chosen].sum())])
        else:
            scores = orbits.network.number_scores(known[step : step + 1], one.kind[0, step : step + 1])[0]
            wanted = soft_labels(one.value[0, step], torch.tensor(kind >= X))
            total -= float((wanted * scores.log_softmax(-1)).sum())
    loss, parts = orbits.loss(one, torch.Generator())
    assert float(loss) == pytest.approx(total, rel=1e-5)
    assert float(loss) == pytest.approx(float(sum(parts.values())))
    assert set(parts) == {"group", "sites", "cell", "coordinates"}


@given(value=st.floats(0.0, 1.0, width=32), circular=st.booleans())
def test_a_number_comes_back_from_its_labels(value, circular):
    labels = soft_labels(torch.tensor([value]), torch.tensor([circular]))
    assert float(labels.sum()) == pytest.approx(1.0, abs=1e-5)
    found = float(read_number(labels, labels.argmax(dim=-1), torch.tensor([circular]))[0])
    apart = abs(found - value)
    # At the ends of a number that is no circle half the labels are missing: it is read off by up to a bin.
    allowed = 2e-3 if circular or 0.05 < value < 0.95 else 1.0 / BINS
    assert min(apart, 1 - apart if circular else 1.0) < allowed


def test_flop_are_counted(orbits, batch):
    with FlopCounterMode(display=False) as counter:
        orbits.loss(batch, torch.Generator())
    tokens = batch.kind.shape[1] + batch.elements.shape[1]
    assert orbits.flop(tokens)[0] * len(batch) == pytest.approx(counter.get_total_flops(), rel=0.25)
    assert orbits.flop(tokens)[1] == 3 * orbits.flop(tokens)[0]
    assert orbits.traffic(tokens) > 0


def test_learns_crystals_by_heart(tmp_path):
    crystals = CRYSTALS[:12]
    split, groups = load_orbits(crystals, crystals, "cpu")
    torch.manual_seed(0)
    orbits = Orbits(groups, hidden=48, layers=2, heads=2, dropout=0.0)
    config = FitConfig(epochs=120, batch_size=12, learning_rate=5e-3, schedule="cosine_by_step", warmup_steps=20,
                       clip="norm", clip_at=1.0, ema_decay=0.95, val_every=60)  # fmt: skip
    fit(orbits.train(), split.train, split.val, config, Job("csp", 0, tmp_path / "work", tmp_path))
    orbits.eval()
    formulas = [formula_of(crystal.atomic_numbers) for crystal in crystals]
    drawn = draw(orbits, formulas, range(len(crystals)), seed=0, device="cpu", temperature=0.0)
    known = [answers_of(crystal.info["wyckoff"], groups) for crystal in crystals]
    right = [
        [one.group, *(slot for _, slot in one.sites)] == answers[: 1 + len(one.sites)]
        and max(abs((a - b + 0.5) % 1 - 0.5) for a, b in zip(one.free, answers[-len(one.free) :], strict=True)) < 0.02
        if one.free
        else one.group == answers[0]
        for one, answers in zip(drawn, known, strict=True)
    ]
    assert sum(right) >= 10, right
