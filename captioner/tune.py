"""Tuning a captioner: test, learn short captions, test, learn descriptive ones, test, write what vLLM serves.

Runs in one process or in several that hold the same weights and share the captions of each step between them; how they
speak to each other is given to `tune` as a `Crew`. Nothing is drawn from a state that a kill would lose: the captions
of a step, its learning rate and its random numbers follow from the seed and the step.

Letters of shapes: B captions, A tokens of the longest answer, V words of the model's vocabulary.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captioner.tune_config import STAGES, Moment, Stage, TuneConfig, learning_rate_at
from captioner.tune_data import Example, Examples, positions_at, share_of
from captioner.tune_encode import NOT_LEARNT, Batch, Encoded, Loader, batch_of, prompts_of
from captioner.tune_files import TuneFiles
from captioner.tune_model import Tunable, save_served, trained_parameters
from captioner.tune_quality import rouge_l, token_f1

__all__ = ["ALONE", "Crew", "Tuning", "caption_loss", "train_step", "tune"]

BETAS = 0.9, 0.98  # of AdamW: a shorter memory than its own 0.999 suits runs of a few hundred steps
SHORT_FOLDER = "short"  # in the result directory: the model as it was after the first stage


@dataclass(frozen=True, slots=True)
class Crew:
    """The processes that tune together. `add` gives all of them the sums of what each of them gives; `wrap` makes a
    model whose gradients are the mean over all."""

    rank: int = 0
    size: int = 1
    device: str = "cpu"
    add: Callable[[Sequence[float]], list[float]] = list
    wrap: Callable[[nn.Module], nn.Module] = lambda model: model


ALONE = Crew()


@dataclass(frozen=True, slots=True)
class Tuning:
    """One tuning: what is done to which model with which captions, and where it is written."""

    config: TuneConfig
    files: TuneFiles
    checkpoint_steps: int = 100
    keep_stages: bool = False
    stop_after: int | None = None
    """Steps after which to stop as if killed: for tests."""


@dataclass(slots=True)
class _Hands:
    """What a process works with while it tunes."""

    tuning: Tuning
    tunable: Tunable
    loader: Loader
    examples: Examples
    crew: Crew
    wrapped: nn.Module
    weights: dict[str, nn.Parameter] = field(default_factory=dict)
    taken: int = 0


# -- the equations


def caption_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Sum over the answers' tokens of -log p(token | pictures, question, tokens before it). The question's own tokens
    are not learnt."""
    longest = batch.labels.shape[1]
    # All answers end at the last place: only there are the logits needed, and a vocabulary is wide.
    kept = {"logits_to_keep": longest + 1} if _keeps_logits(model) else {}
    logits_BAV = model(**batch.inputs, **kept).logits[:, -longest - 1 : -1].float()
    return F.cross_entropy(logits_BAV.flatten(0, 1), batch.labels.flatten(), ignore_index=NOT_LEARNT, reduction="sum")


def _keeps_logits(model: nn.Module) -> bool:
    while hasattr(model, "module"):  # as DistributedDataParallel wraps it
        model = model.module  # type: ignore[assignment]
    inner: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    return "logits_to_keep" in inspect.signature(inner.forward).parameters


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Batch],
    *,
    step_tokens: float,
    learning_rate: float,
    max_grad_norm: float,
    crew: Crew = ALONE,
) -> float:
    """One step on the mean loss of a token. `batches` are this process's, `step_tokens` those of all processes.

    Gives this process's part of that mean.
    """
    total = 0.0
    for number, batch in enumerate(batches, 1):
        alone: Any = getattr(model, "no_sync", nullcontext)
        with alone() if number < len(batches) else nullcontext(), _narrow(crew.device):
            loss = caption_loss(model, batch.to(crew.device)) / step_tokens
        # The gradients' mean over all processes is to be their sum.
        (loss * crew.size).backward()
        total += loss.item()
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], max_grad_norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def _narrow(device: str) -> Any:
    return torch.autocast(device.split(":")[0], torch.bfloat16) if device != "cpu" else nullcontext()


# -- the loop


def tune(tuning: Tuning, tunable: Tunable, examples: Examples, loader: Loader, crew: Crew = ALONE) -> None:
    """Go on from the newest checkpoint to the end. Raises BadTuning, StoreUnavailable, OSError."""
    files, config = tuning.files, tuning.config
    hands = _Hands(tuning, tunable, loader, examples, crew, crew.wrap(tunable.model))
    hands.weights = trained_parameters(tunable.model)
    moment = files.newest()
    files.load(moment, hands.weights)
    if crew.rank == 0:
        files.forget_steps_after(moment)
    _test_once(hands, "before", moment == Moment())
    for number, stage in enumerate(STAGES):
        if moment.stage > number:
            continue
        if config.steps(stage):
            _learn(hands, stage, Moment(number, moment.step if moment.stage == number else 0))
        if hands.taken == tuning.stop_after:
            return
        if stage == "short" and config.short_steps and config.descriptive_steps:
            _test_once(hands, "between", True)
            if tuning.keep_stages and crew.rank == 0:
                save_served(tunable, files.directory / SHORT_FOLDER, is_last=False)
                TuneFiles(files.directory / SHORT_FOLDER).finish({"stage": stage})
        if crew.rank == 0:
            files.save(Moment(number + 1), hands.weights, None)
    _test_once(hands, "after", True)
    if crew.rank == 0:
        save_served(tunable, files.directory, is_last=True)


def _learn(hands: _Hands, stage: Stage, begin: Moment) -> None:
    """The steps of a stage from one of them on."""
    config, files, crew = hands.tuning.config, hands.tuning.files, hands.crew
    steps, pad_id = config.steps(stage), hands.tunable.processor.tokenizer.pad_token_id
    optimizer = torch.optim.AdamW(hands.weights.values(), betas=BETAS, weight_decay=config.weight_decay)
    files.load_optimizer(begin, hands.weights, optimizer)
    learnt = hands.examples.learnt
    shares = _shares(config, stage, begin, {kind: len(learnt[kind]) for kind in STAGES}, crew)
    again = learnt["short"] if config.replayed(stage) else []
    hands.wrapped.train()
    for step, encoded in enumerate(hands.loader.readable([*learnt[stage], *again], shares)):
        step += begin.step
        began_s = time.monotonic()
        torch.manual_seed(hash((config.seed, begin.stage, step, crew.rank)) % 2**63)
        batches = [batch_of(part, pad_id) for part in _parts(encoded, config.micro_batch_size)]
        (step_tokens,) = crew.add([sum(batch.tokens for batch in batches)])
        rate = learning_rate_at(step, steps, config.learning_rate(stage), config.warmup_share)
        mine = train_step(
            hands.wrapped,
            optimizer,
            batches,
            step_tokens=step_tokens,
            learning_rate=rate,
            max_grad_norm=config.max_grad_norm,
            crew=crew,
        )
        (loss,) = crew.add([mine])
        done = Moment(begin.stage, step + 1)
        if crew.rank == 0:
            seconds = round(time.monotonic() - began_s, 3)
            line = {
                "stage": done.stage,
                "step": done.step,
                "loss": loss,
                "tokens": int(step_tokens),
                "seconds": seconds,
            }
            files.add_step(line | {"learning_rate": rate})
            if done.step % hands.tuning.checkpoint_steps == 0 and done.step < steps:
                files.save(done, hands.weights, optimizer)
        hands.taken += 1
        if hands.taken == hands.tuning.stop_after:
            return


def _shares(
    config: TuneConfig, stage: Stage, begin: Moment, counts: dict[Stage, int], crew: Crew
) -> Iterator[list[int]]:
    """What this process takes of each step; places after those of the stage's own captions are short ones again."""
    replayed = config.replayed(stage)
    for step in range(begin.step, config.steps(stage)):
        own = positions_at(config.seed, begin.stage, step, config.batch_size - replayed, counts[stage])
        again = positions_at(config.seed, len(STAGES), step, replayed, counts["short"]) if replayed else []
        yield share_of([*own, *(counts[stage] + at for at in again)], crew.rank, crew.size)


def _parts(encoded: Sequence[Encoded], size: int) -> list[Sequence[Encoded]]:
    return [encoded[first : first + size] for first in range(0, len(encoded), size)]


# -- tests


def _test_once(hands: _Hands, when: str, is_due: bool) -> None:
    """Test with the held-out captions of both kinds, unless that was done before a kill, and keep what came of it."""
    files, crew = hands.tuning.files, hands.crew
    said = files.read("tests.json")
    if not is_due or when in said:
        return
    hands.wrapped.eval()
    result = {kind: tested(hands, hands.examples.held_out[kind]) for kind in STAGES if hands.examples.held_out[kind]}
    if crew.rank == 0:
        files.write("tests.json", said | {when: result})


@torch.no_grad()
def tested(hands: _Hands, held_out: Sequence[Example]) -> dict[str, float]:
    """Loss a token, and how near generated captions come to the written ones; means over the readable ones."""
    config, crew = hands.tuning.config, hands.crew
    mine = held_out[crew.rank :: crew.size]
    model, tokenizer = hands.tunable.model, hands.tunable.processor.tokenizer
    sums = [0.0] * 5
    for group in hands.loader.all(mine, config.micro_batch_size):
        if not group:
            continue
        encoded = [one for _, one in group]
        batch = batch_of(encoded, tokenizer.pad_token_id).to(crew.device)
        with _narrow(crew.device):
            sums[0] += caption_loss(model, batch).item()
        sums[1] += batch.tokens
        texts = generated(hands, encoded)
        sums[2] += sum(token_f1(said, example.text) for said, (example, _) in zip(texts, group, strict=True))
        sums[3] += sum(rouge_l(said, example.text) for said, (example, _) in zip(texts, group, strict=True))
        sums[4] += len(group)
    loss, tokens, f1, order, captions = crew.add(sums)
    return {
        "loss": loss / max(1, tokens),
        "token_f1": f1 / max(1, captions),
        "rouge_l": order / max(1, captions),
        "captions": captions,
    }


def generated(hands: _Hands, encoded: Sequence[Encoded]) -> list[str]:
    """The likeliest answers, a word at a time."""
    tokenizer, device = hands.tunable.processor.tokenizer, hands.crew.device
    prompts = {name: value.to(device) for name, value in prompts_of(encoded, tokenizer.pad_token_id).items()}
    with _narrow(device):
        tokens_BL: Tensor = hands.tunable.model.generate(  # type: ignore[operator]
            **prompts, max_new_tokens=hands.tuning.config.answer_tokens, do_sample=False
        )
    length = prompts["input_ids"].shape[1]
    return tokenizer.batch_decode(tokens_BL[:, length:], skip_special_tokens=True)
