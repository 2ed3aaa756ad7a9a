"""CDVAE: crystal diffusion variational autoencoder (Xie et al. 2022, arXiv 2110.06197), for both tasks.

Written from the equations; docs/models/cdvae.md lists the defaults and every deviation. The paper has no structure
prediction; that variant follows our reading of the baseline in later papers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import numpy as np
import torch
from torch import Tensor

from xtalgen.crystals import Crystal
from xtalgen.models import AbstractModel
from xtalgen.models.diffusion.annealed_langevin import CDVAESampling, decode
from xtalgen.models.diffusion.vae import Constants, CrystalVAE, Noise, Weights, fit_constants
from xtalgen.models.networks.bonded_graph import pad_bonds
from xtalgen.training.artifacts import initialise, write_results
from xtalgen.training.batches import DeviceData, Extra, load_split, mix_seed, select
from xtalgen.training.checkpoint import load_checkpoint
from xtalgen.training.job import Job
from xtalgen.training.loop import FitConfig, fit


@dataclass(frozen=True)
class CDVAEConfig(FitConfig):
    """Hyper-parameters of CDVAE on MP-20.

    bonds: graph of the encoder, "crystal_nn" (the column of the stage `bonds`) or "radius" (like the decoder's);
    property: column that a head predicts from the latent vector, None for no head; teacher_forcing: last epoch in which
    the decoder gets true cells; hidden: width of encoder and decoder; triplet: width of the decoder's triplets; slots:
    of the decoder's graph, 0 for as many as needed; levels: of noise, geometric from *_begin to *_end (coordinates in
    Å); *_weight: of the parts of the loss.
    """

    # Training: Xie et al. 2022, the configuration of the published code for MP-20.
    epochs: int = 1000
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-4
    schedule: Literal["cosine", "cosine_by_step", "plateau", "constant"] = "plateau"
    ema_decay: float = 0.0
    bonds: Literal["crystal_nn", "radius"] = "crystal_nn"
    property: str | None = None
    teacher_forcing: int = 500
    # Sizes of encoder (DimeNet++) and decoder (GemNet-T); lengths in Å.
    latent: int = 256
    hidden: int = 128
    triplet: int = 64
    encoder_blocks: int = 4
    decoder_blocks: int = 3
    cutoff: float = 7.0
    neighbours: int = 20
    slots: int = 0
    # Noise: σ of coordinates from 10 to 0.01 Å, of types from 5 to 0.01, drawn independently.
    levels: int = 50
    coords_begin: float = 10.0
    coords_end: float = 0.01
    types_begin: float = 5.0
    types_end: float = 0.01
    # Loss = Σ weight · part; the validation loss has only coords and types.
    count_weight: float = 1.0
    lattice_weight: float = 10.0
    coords_weight: float = 10.0
    types_weight: float = 1.0
    kl_weight: float = 0.01
    composition_weight: float = 1.0
    property_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slots < 0 or (self.compile and not self.slots):
            raise ValueError(f"slots must be at least 0, and above 0 with compile (such as 40), not {self.slots}.")


@final
class Model(AbstractModel):
    """CDVAE."""

    Config = CDVAEConfig
    Sampling = CDVAESampling
    shared_checkpoint = False
    # Read by the workflow without importing this file: the run's splits go through the stage `bonds`.
    needs_bonds: ClassVar[bool] = True

    def train(self, train: Sequence[Crystal], val: Sequence[Crystal], config: CDVAEConfig, job: Job) -> None:
        """Trains CDVAE for the task of the job; see `AbstractModel.train`.

        Raises ValueError when crystals lack the bonds or the property that the configuration asks for.
        """

        def refuse(crystal: Crystal) -> str | None:
            return _without_property(crystal, config.property)

        usable, _ = select(train, refuse)
        constants = fit_constants(usable, config.property) if usable else None
        split = load_split(train, val, job.device, refuse, extra_of(config.bonds, config.property, constants))
        assert constants is not None  # `load_split` refuses a set without usable crystals
        module = initialise(lambda: build(job.task, constants, asdict(config)), job)
        generator = torch.Generator(job.device).manual_seed(mix_seed(job.seed, 3))
        # GemNet's scale factors must be known before training; one batch suffices.
        module.fit_scales(next(split.train.batches(config.batch_size)), generator)
        outcome = fit(module, split.train, split.val, config, job)
        write_results(
            "cdvae", module, outcome, split=split, config=config, job=job, facts={"constants": asdict(constants)}
        )

    def sample(
        self, checkpoint: Path, wanted: int | Sequence[np.ndarray], sampling: CDVAESampling, seed: int, device: str
    ) -> Iterator[Crystal]:
        """Yields the crystals asked for; see `AbstractModel.sample`.

        Statuses are those of `annealed_langevin.decode`, and "too_large" or "unknown_element" for a composition of more
        than 100 atoms or with an element beyond 100. Raises ValueError when the checkpoint is of the other task.
        """
        module = load_module(checkpoint, device)
        asked = "dng" if isinstance(wanted, int) else "csp"
        if module.task != asked:
            raise ValueError(f"{checkpoint}: trained for {module.task!r}, cannot sample {asked!r}. Train that task.")
        number = wanted if isinstance(wanted, int) else len(wanted)
        latents = [
            # z ~ N(0, 1), a generator per crystal
            torch.randn(module.latent, generator=torch.Generator().manual_seed(mix_seed(seed, 0, index)))
            for index in range(number)
        ]
        if not latents:
            return
        numbers = None if isinstance(wanted, int) else [np.asarray(each, dtype=np.int64) for each in wanted]
        yield from decode(module, torch.stack(latents).to(device), sampling, seed, numbers=numbers)

    def network_evaluations(self, sampling: CDVAESampling) -> int:
        """Returns the number of decoder evaluations per crystal: one per Langevin step."""
        return sampling.levels * sampling.steps


def reconstruct(
    checkpoint: Path,
    crystals: Sequence[Crystal],
    sampling: CDVAESampling,
    seed: int,
    device: str,
    *,
    true_counts: bool = False,
    true_numbers: bool = False,
) -> list[Crystal]:
    """Encodes and decodes each crystal; those that are not ok are returned unchanged.

    true_counts, true_numbers: use the true number of atoms, or the true elements, instead of predictions (always the
    case for a csp checkpoint). Raises ValueError when crystals lack the bonds that the encoder was trained with.
    """
    module = load_module(checkpoint, device)
    usable = [crystal for crystal in crystals if crystal.ok]
    if not usable:
        return list(crystals)
    latents = encode(module, usable, seed, device)
    given = true_numbers or module.task == "csp"
    decoded = decode(
        module,
        latents,
        sampling,
        seed,
        counts=[crystal.n_atoms for crystal in usable] if true_counts else None,
        numbers=[crystal.atomic_numbers.astype(np.int64) for crystal in usable] if given else None,
    )
    rest = iter(decoded)
    return [replace(next(rest), id=crystal.id) if crystal.ok else crystal for crystal in crystals]


def optimise_property(
    checkpoint: Path,
    crystals: Sequence[Crystal],
    sampling: CDVAESampling,
    seed: int,
    device: str,
    *,
    starts: int = 100,
    steps: int = 5000,
    snapshots: int = 10,
    learning_rate: float = 1e-3,
) -> list[Crystal]:
    """Minimises the predicted property by gradient descent in latent space and decodes crystals on the way.

    This is the property optimisation of Xie et al. (2022). Starts from the first `starts` crystals, or from random
    latent vectors without crystals. Adam takes `steps` steps, and all latent vectors are decoded at `snapshots` of
    them. Ids are START-STEP; `info` holds `step` and `predicted`, in the property's unit. Raises ValueError when the
    model was trained without a property.
    """
    module = load_module(checkpoint, device)
    if module.head_property is None:
        raise ValueError(f"{checkpoint}: trained without a property. Set `property` in the run's train settings.")
    given = [crystal for crystal in crystals if crystal.ok][:starts]
    if given:
        latents = encode(module, given, seed, device)
    else:
        latents = torch.randn(starts, module.latent, generator=torch.Generator().manual_seed(seed)).to(device)
    numbers = [crystal.atomic_numbers.astype(np.int64) for crystal in given] if module.task == "csp" else None
    # Snapshots at equal intervals, the first and the last step included.
    every = max(steps // max(snapshots - 1, 1), 1)
    latents = latents.clone().requires_grad_()
    adam = torch.optim.Adam([latents], lr=learning_rate)
    decoded = []
    for step in range(steps):
        adam.zero_grad()
        # Adam's steps hardly depend on the scale of the gradient, so the mean over starts does not couple them.
        module.property_of(latents).mean().backward(inputs=[latents])
        adam.step()
        if step % every == 0 or step == steps - 1:
            made = decode(module, latents.detach(), sampling, mix_seed(seed, step), numbers=numbers)
            predicted = _unscaled(module, latents)
            decoded += [
                replace(crystal, id=f"{i:04d}-{step:06d}", info={"step": step, "predicted": predicted[i]})
                for i, crystal in enumerate(made)
            ]
    return decoded


@torch.inference_mode()
def encode(module: CrystalVAE, crystals: Sequence[Crystal], seed: int, device: str) -> Tensor:
    """Returns a latent vector (crystals, latent) drawn for each crystal, in order."""
    latents = []
    for index, crystal in enumerate(crystals):
        data = DeviceData([crystal], device, extra_of(module.bonds, None, module.constants))
        mean, log_variance = module.encode(next(data.batches(1)))
        # z = μ + σ ε with a generator per crystal, so that encodings do not depend on their order.
        noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(mix_seed(seed, 0, index)))
        latents.append(mean + torch.exp(0.5 * log_variance) * noise.to(device))
    return torch.cat(latents)


def extra_of(bonds: str, column: str | None, constants: Constants | None) -> Extra:
    """Returns the function for the tensors that CDVAE needs besides the geometry: bonds, standardised property."""

    def make(crystals: Sequence[Crystal], width: int) -> Mapping[str, np.ndarray]:
        extra = pad_bonds(crystals, width) if bonds == "crystal_nn" else {}
        if column is not None and constants is not None:
            values: Any = np.array([crystal.info[column] for crystal in crystals], dtype=np.float32)
            extra["property"] = (values - np.float32(constants.property_mean)) / np.float32(constants.property_std)
        return extra

    return make


def build(task: str, constants: Constants, config: Mapping[str, Any]) -> CrystalVAE:
    """Returns the module of a configuration, with random weights."""
    parts = ("count", "lattice", "coords", "types", "kl", "composition", "property")
    return CrystalVAE(
        task,
        constants,
        latent=config["latent"],
        encoder={"hidden": config["hidden"], "blocks": config["encoder_blocks"], "cutoff": config["cutoff"]},
        decoder={
            "hidden": config["hidden"],
            "blocks": config["decoder_blocks"],
            "trip": config["triplet"],
            "cutoff": config["cutoff"],
            "neighbours": config["neighbours"],
            "slots": config["slots"],
        },
        bonds=config["bonds"],
        weights=Weights(**{name: config[f"{name}_weight"] for name in parts}),
        noise=Noise(**{name: config[name] for name in Noise.__dataclass_fields__}),
        teacher_forcing=config["teacher_forcing"],
        has_property=config["property"] is not None,
        precision=config["precision"],
    )


def load_module(checkpoint: Path, device: str) -> CrystalVAE:
    """Returns the module of a checkpoint in evaluation mode. Raises CheckpointError when the file is no checkpoint."""
    weights, facts = load_checkpoint(checkpoint, device)
    constants: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in facts["constants"].items()}
    module = build(facts["task"], Constants(**constants), facts["config"])
    module.load_state_dict(weights)
    return module.to(device).eval()


def _unscaled(module: CrystalVAE, latents: Tensor) -> list[float]:
    constants = module.constants
    return (module.property_of(latents.detach()) * constants.property_std + constants.property_mean).tolist()


def _without_property(crystal: Crystal, column: str | None) -> str | None:
    if column is None or (crystal.info.get(column) is not None and np.isfinite(crystal.info[column])):
        return None
    return f"no {column}"
