"""Train the language model: ``python -m golden.model.train --minutes 55``.

``--curriculum 4k --from WEIGHTS`` goes on from finished weights, to a longer context.

The budget is wall-clock time, of which curriculum and learning rate are functions, so a run ends
on time on any machine but is repeatable only statistically. Checkpoints go to ``build/model``
every few minutes and ``--resume`` goes on from the last; the weights are written at the end.
On a busy machine set ``OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0``.
"""

import argparse
import dataclasses
import logging
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from tqdm import tqdm

from golden.model.architecture import LanguageModel, ModelConfig
from golden.model.corpus import training_tokens
from golden.model.curriculum import CURRICULA, Batch, Curriculum, Phase, draw_batch
from golden.model.metrics import bits_per_byte, task_accuracy
from golden.model.optimiser import make_optimisers
from golden.model.weights import WEIGHTS, load_model, save_weights, weights_sha256

__all__ = ["Trainer", "learning_rate", "main"]

log = logging.getLogger("train")

DEVELOPMENT_TOKENS = 200_000
"""Taken off the end of the training text, to watch progress without the held-out text."""


def learning_rate(progress: float, *, step: int, warmup: int = 60, flat: float = 0.35) -> float:
    """Share of the peak rate: linear warm-up in steps, flat, then linear decay to 1 %."""
    decay = min(1.0, max(0.0, (1.0 - progress) / (1.0 - flat)))
    return min(1.0, (step + 1) / warmup) * max(0.01, decay)


class Trainer:
    """A model, its optimisers and how far it has come.

    Arguments
    ---------
    text : training tokens.
    curriculum : what to train on; gives the model its rope_theta.
    start : weights file to begin from; None begins from random weights.
    seed : of the random weights and of the batches.
    tokens_per_step : tokens in a batch.
    matrix_lr, other_lr : peak rates of Muon and of AdamW.
    """

    def __init__(
        self,
        text: NDArray[np.uint16],
        *,
        curriculum: Curriculum,
        start: Path | None = None,
        seed: int,
        tokens_per_step: int,
        matrix_lr: float,
        other_lr: float,
    ) -> None:
        self.development, self.text = text[-DEVELOPMENT_TOKENS:], text[:-DEVELOPMENT_TOKENS]
        self.seed = seed
        self.tokens_per_step = tokens_per_step
        self.curriculum = curriculum
        begun = None if start is None else load_model(start)
        config = ModelConfig() if begun is None else begun.config
        config = dataclasses.replace(config, rope_theta=curriculum.rope_theta)
        self.model = LanguageModel(config, seed=seed)
        if begun is not None:
            self.model.load_state_dict(begun.state_dict())
        self.optimisers = make_optimisers(self.model, matrix_lr=matrix_lr, other_lr=other_lr)
        self.rng = np.random.default_rng(seed)
        self.step = 0
        self.tokens = 0
        self.elapsed = 0.0

    def save(self, path: Path) -> None:
        """Write everything needed to go on, via a temporary file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        state = {
            "model": self.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "rng": self.rng.bit_generator.state,
            "progress": (self.seed, self.step, self.tokens, self.elapsed),
        }
        torch.save(state, path.with_suffix(".partial"))
        path.with_suffix(".partial").replace(path)

    def load(self, path: Path) -> None:
        """Go on from a file that `save` wrote."""
        state = torch.load(path, weights_only=True)
        self.model.load_state_dict(state["model"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.rng.bit_generator.state = state["rng"]
        self.seed, self.step, self.tokens, self.elapsed = state["progress"]

    def update(self, batch: Batch, rate: float) -> float:
        """One optimiser step at ``rate`` times the peak rates; returns the loss in nats."""
        self.model.train()
        tokens = torch.from_numpy(batch.tokens)
        weights = torch.from_numpy(batch.weights)[:, 1:].reshape(-1)
        logits = self.model(tokens, positions=torch.from_numpy(batch.positions))[:, :-1]
        losses = functional.cross_entropy(
            logits.reshape(-1, logits.shape[-1]), tokens[:, 1:].reshape(-1), reduction="none"
        )
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = rate * group["peak_lr"]
            optimiser.step()
            optimiser.zero_grad()
        self.step += 1
        self.tokens += tokens.numel()
        return float(loss.detach())

    def report(self) -> str:
        """A short evaluation on development text."""
        self.model.eval()
        parts = [f"bpb {bits_per_byte(self.model, self.development[:16_384], length=512):.3f}"]
        for task in ("copy", "recall"):
            for length in (1024, 2048, 4096):
                if length > self.curriculum.longest:
                    continue
                value = task_accuracy(
                    self.model, task, self.development, length=length, prompts=4, seed=1
                )
                parts.append(f"{task}@{length} {value:.2f}")
        return "  ".join(parts)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the small language model.")
    parser.add_argument("--minutes", type=float, default=55.0, help="wall-clock budget")
    parser.add_argument("--curriculum", choices=sorted(CURRICULA), default="2k")
    parser.add_argument(
        "--from", dest="start", type=Path, metavar="WEIGHTS", help="begin from these weights"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tokens-per-step", type=int, default=4096)
    parser.add_argument("--matrix-lr", type=float, default=0.02)
    parser.add_argument("--other-lr", type=float, default=0.004)
    parser.add_argument("--check-minutes", type=float, default=4.0, help="between checkpoints")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint")
    parser.add_argument("--build", type=Path, default=Path("build/model"))
    parser.add_argument("--output", type=Path, default=WEIGHTS)
    return parser.parse_args()


def main() -> None:
    """Train for the budget, then write the weights."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.manual_seed(arguments.seed)
    text, files = training_tokens()
    log.info("corpus: %d tokens in %d files; %s", len(text), files, vars(arguments))
    curriculum = CURRICULA[arguments.curriculum]
    trainer = Trainer(
        text,
        curriculum=curriculum,
        start=arguments.start,
        seed=arguments.seed,
        tokens_per_step=arguments.tokens_per_step,
        matrix_lr=arguments.matrix_lr,
        other_lr=arguments.other_lr,
    )
    checkpoint = arguments.build / "checkpoint.pt"
    if arguments.resume:
        trainer.load(checkpoint)
    budget = 60.0 * arguments.minutes
    begin = last = time.monotonic() - trainer.elapsed
    last += trainer.elapsed
    smooth = 0.0
    phase: Phase | None = None
    with tqdm(total=round(budget), initial=round(trainer.elapsed), unit="s", mininterval=10) as bar:
        while trainer.elapsed < budget:
            progress = trainer.elapsed / budget
            previous, phase = phase, curriculum.phase_at(progress)
            if phase != previous:
                log.info("step %d, %d tokens: %s", trainer.step, trainer.tokens, phase)
            batch = draw_batch(
                trainer.rng,
                trainer.text,
                phase,
                longest=curriculum.longest,
                tokens=trainer.tokens_per_step,
            )
            rate = curriculum.rate * learning_rate(progress, step=trainer.step)
            loss = trainer.update(batch, rate)
            smooth = loss if not smooth else 0.95 * smooth + 0.05 * loss
            now = time.monotonic()
            trainer.elapsed = now - begin
            bar.n = round(trainer.elapsed)
            bar.set_postfix(
                step=trainer.step, loss=f"{smooth:.3f}", Mtok=f"{trainer.tokens / 1e6:.2f}"
            )
            if now - last > 60 * arguments.check_minutes:
                log.info("step %d, %d tokens: %s", trainer.step, trainer.tokens, trainer.report())
                trainer.save(checkpoint)
                last = time.monotonic()
    trainer.save(checkpoint)
    log.info("step %d, %d tokens: %s", trainer.step, trainer.tokens, trainer.report())
    notes = {name: str(getattr(trainer, name)) for name in ("seed", "step", "tokens")}
    notes["curriculum"] = arguments.curriculum
    if arguments.start is not None:
        notes["from_sha256"] = weights_sha256(arguments.start)
    save_weights(trainer.model, arguments.output, notes=notes)
    log.info("wrote %s", arguments.output)


if __name__ == "__main__":
    main()
