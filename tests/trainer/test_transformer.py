"""A pack gives what each of its clips gives alone, to the gradient: in float64, under each kind of attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters
from torch.utils.flop_counter import FlopCounterMode

from tests.flash_on_cpu import flash_on_cpu
from tests.tiny_transformers import geometry_of, predicted, samples_of, tiny, woken
from trainer.flow import rows_of_times
from trainer.model import transformer
from trainer.model.config import Recompute
from trainer.model.layouts import ATTENTIONS, Attention
from trainer.model.pack import Sample, make_pack, unpatched
from trainer.model.rotary import apply_rotary
from trainer.model.text import texts_of
from trainer.model.transformer import DiffusionTransformer, SelfAttention, TextTokens, time_waves

GRIDS = [(3, 2, 4), (1, 3, 2), (3, 2, 4), (2, 2, 2)]
KNOWN = [[1, 0, 0], None, [0, 0, 1], [1, 1]]
TEXTS = ["a red dog runs", "", "a red dog, at night", "x"]
TIMES = [0.3, 1.0, 0.02, 0.7]
TOKENS = 24 + 6 + 24 + 8
PADDING = [0, 1, 13]


def loss_of(found: Sequence[Tensor], numbers: Sequence[int]) -> Tensor:
    """Another weight for every number of every sample."""
    total = torch.zeros((), dtype=torch.float64)
    for x, number in zip(found, numbers, strict=True):
        generator = torch.Generator().manual_seed(number)
        total = total + (x * torch.randn(x.shape, generator=generator, dtype=torch.float64)).sum()
    return total


def run(
    model: DiffusionTransformer, numbers: Sequence[int], samples: Sequence[Sample], **more: Any
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Outputs of samples in one pack, and the gradients of all parameters."""
    model.zero_grad()
    texts, times = [TEXTS[n] for n in numbers], [TIMES[n] for n in numbers]
    out, pack = predicted(model, [samples[n] for n in numbers], texts, times, **more)
    found = pack.split(out)
    loss_of(found, numbers).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert len(gradients) == len(list(model.parameters()))
    return [x.detach() for x in found], gradients


def assert_close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("padding", PADDING)
def test_a_pack_is_each_of_its_clips_alone(attention: Attention, padding: int) -> None:
    config = tiny(attention=attention)
    model, samples = woken(config), samples_of(GRIDS, config, KNOWN)
    found, gradients = run(model, range(4), samples, budget=TOKENS + padding)
    alone = [run(model, [n], samples) for n in range(4)]
    for x, ((y,), _) in zip(found, alone, strict=True):
        assert y.abs().max() > 0.1
        assert_close(x, y)
    for name, gradient in gradients.items():
        assert_close(gradient, sum((each[name] for _, each in alone), torch.zeros_like(gradient)))
        assert gradient.abs().max() > 1e-6, name


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_nor_do_gradients_by_the_input_leave_a_clip(attention: Attention) -> None:
    model = woken(tiny(attention=attention))
    pack = make_pack(samples_of(GRIDS, model.config, KNOWN), model.config, TOKENS + 5)
    x_LP = pack.latents_LP.clone().requires_grad_()
    text = model.read(texts_of([*TEXTS, ""]))
    out = model(x_LP, rows_of_times(torch.tensor(TIMES, dtype=torch.float64)), text, pack)
    begin = 0
    for geometry in pack.geometries:
        part = slice(begin, begin + geometry.tokens)
        (gradient,) = torch.autograd.grad(out[part].square().sum(), x_LP, retain_graph=True)
        assert gradient[part].abs().sum(dim=1).all()
        gradient[part] = 0
        assert not gradient.any()
        begin += geometry.tokens


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_order_in_a_pack_changes_nothing(attention: Attention) -> None:
    model = woken(tiny(attention=attention))
    samples = samples_of(GRIDS, model.config, KNOWN)
    found, gradients = run(model, [0, 1, 2, 3], samples)
    others, others_gradients = run(model, [2, 0, 3, 1], samples)
    for at, number in enumerate([2, 0, 3, 1]):
        assert_close(others[at], found[number])
    for name, gradient in gradients.items():
        assert_close(others_gradients[name], gradient)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_attention_put_in_order_and_back_is_attention_under_a_mask(attention: Attention) -> None:
    """Of one clip, worked out token by token."""
    model = woken(tiny(attention=attention, window=(0, 1, 0)))
    grid = (3, 2, 4)
    pack = make_pack(samples_of([grid], model.config), model.config)
    place_L3 = torch.cartesian_prod(*map(torch.arange, grid))
    same_LL3 = place_L3[:, None] == place_L3[None]
    is_seen = {
        "full": [torch.ones(24, 24, dtype=torch.bool)],
        "factorised": [same_LL3[..., 0], same_LL3[..., 1:].all(dim=-1)],
        "windowed": [same_LL3[..., 1]] * 2,  # each row of tokens for all of the time
    }[attention]
    x_LD = torch.randn(24, model.config.width, dtype=torch.float64)
    (module,) = (m for m in model.blocks[0].modules() if isinstance(m, SelfAttention))
    q, k, v = module.qkv(x_LD).reshape(24, 3, module.heads, -1).unbind(dim=1)
    q, k = (apply_rotary(norm(x), pack.cos_LA, pack.sin_LA) for norm, x in ((module.norm_q, q), (module.norm_k, k)))
    scores_HLL = torch.einsum("lhk,mhk->hlm", q, k) / q.shape[-1] ** 0.5
    for layout, is_seen_LL in zip(pack.layouts, is_seen, strict=True):
        weights_HLL = scores_HLL.masked_fill(~is_seen_LL, -torch.inf).softmax(dim=-1)
        wanted_LD = module.out(torch.einsum("hlm,mhk->lhk", weights_HLL, v).flatten(1))
        assert_close(module(x_LD, layout, pack), wanted_LD)
    assert any(layout.order is not None for layout in pack.layouts) == (attention != "full")


def test_a_samples_text_time_and_latent_change_that_sample_only() -> None:
    model = woken(tiny())
    samples = samples_of(GRIDS, known=KNOWN)
    out, pack = predicted(model, samples, TEXTS, TIMES)
    before = pack.split(out)
    others = [*samples]
    others[2] = samples_of(GRIDS, known=KNOWN, seed=1)[2]
    changes: list[tuple[Sequence[Sample], list[str], list[float]]] = [
        (samples, [*TEXTS[:2], "a blue cat", TEXTS[3]], TIMES),
        (samples, TEXTS, [*TIMES[:2], 0.9, TIMES[3]]),
        (others, TEXTS, TIMES),
    ]
    for changed in changes:
        out, pack = predicted(model, *changed)
        for number, (x, y) in enumerate(zip(pack.split(out), before, strict=True)):
            if number == 2:
                assert (x - y).abs().max() > 1e-3
            else:
                assert_close(x, y)


def test_what_is_in_padding_changes_nothing() -> None:
    model = woken(tiny())
    samples = samples_of(GRIDS, known=KNOWN)
    found, gradients = run(model, range(4), samples, budget=TOKENS + 9)
    others, others_gradients = run(
        model, range(4), samples, budget=TOKENS + 9, padding=50.0, padding_text="not empty at all"
    )
    for x, y in zip(found, others, strict=True):
        assert_close(x, y)
    for name, gradient in gradients.items():
        assert_close(gradient, others_gradients[name])


def test_known_frames_have_time_0() -> None:
    """A sample that is all known is told the time 0, whatever its own time is."""
    model = woken(tiny())
    (known,) = samples_of([(2, 2, 2)], known=[[1, 1]])
    (unknown,) = samples_of([(2, 2, 2)], known=[[0, 0]])
    first, other = (predicted(model, [known], ["a"], [time])[0] for time in (0.9, 0.1))
    assert_close(first, other)
    assert_close(first, predicted(model, [unknown], ["a"], [0.0])[0])
    assert not torch.allclose(first, predicted(model, [unknown], ["a"], [0.9])[0], atol=1e-3)


def test_known_frames_are_seen_by_the_others() -> None:
    model = woken(tiny())
    first, other = (samples_of([(2, 2, 2)], known=[[1, 0]])[0] for _ in range(2))
    other.latent_CTHW[:, 0] += 1
    out = [unpatched(predicted(model, [x], ["a"], [0.5])[0], x.geometry) for x in (first, other)]
    assert (out[0][:, 1] - out[1][:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize(("attention", "is_reached"), [("full", True), ("factorised", True), ("windowed", False)])
def test_blocks_take_turns_in_how_far_they_see(attention: Attention, is_reached: bool) -> None:
    """Two blocks reach all of a clip, one after another, where each sees all of an axis, and two windows otherwise."""
    model = woken(tiny(attention=attention, window=(2, 2, 2)))
    pack = make_pack(samples_of([(6, 1, 6)], model.config), model.config)
    x_LP = pack.latents_LP.clone().requires_grad_()
    out = model(x_LP, torch.tensor([0.5, 0.0, 0.0]), model.read(texts_of(["a", ""])), pack)
    (gradient,) = torch.autograd.grad(out[0].sum(), x_LP)
    by_place = gradient.abs().sum(dim=1).reshape(6, 6)
    assert bool(by_place[5, 5]) == is_reached
    assert by_place[1, 1]
    assert bool(by_place.all()) == is_reached


def test_a_text_read_by_a_pretrained_encoder() -> None:
    model = woken(tiny(text_depth=0, text_width=9))
    texts = [torch.randn(n, 9, dtype=torch.float64) for n in (3, 1, 5)]
    samples = samples_of(GRIDS[:3], known=KNOWN[:3])
    text = TextTokens.of(texts)
    assert (text.segments.lengths, text.z_WD.shape) == ((3, 1, 5, 1), (10, 9))
    assert not text.z_WD[-1].any()
    pack = make_pack(samples, model.config)
    times_R = rows_of_times(torch.tensor(TIMES[:3]))
    whole = pack.split(model(pack.latents_LP, times_R, text, pack))
    for number in range(3):
        pack = make_pack([samples[number]], model.config)
        times_R = rows_of_times(torch.tensor(TIMES[number : number + 1]))
        alone = model(pack.latents_LP, times_R, TextTokens.of([texts[number]]), pack)
        assert_close(pack.split(alone)[0], whole[number])
    with pytest.raises(AssertionError, match="text_depth=0"):
        model.read(texts_of(["a", ""]))


def test_each_sample_needs_a_text() -> None:
    model = woken(tiny())
    for texts in (TEXTS, [*TEXTS, "", ""]):  # one is the padding's
        with pytest.raises(AssertionError, match="5 segments of queries"):
            predicted(model, samples_of(GRIDS), texts[:-1], TIMES)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_new_model_says_0_and_its_blocks_leave_tokens_as_they_are(attention: Attention) -> None:
    config = tiny(attention=attention)
    torch.manual_seed(0)
    model = DiffusionTransformer(config).double()
    out, pack = predicted(model, samples_of(GRIDS, config, KNOWN), TEXTS, TIMES)
    assert not out.any()
    x_LD = model.enter(pack.latents_LP)
    shared_6RD = torch.zeros(6, 9, config.width, dtype=torch.float64)
    text = model.read(texts_of([*TEXTS, ""]))
    for number, block in enumerate(model.blocks):
        layout = pack.layouts[number % len(pack.layouts)]
        assert torch.equal(block(x_LD, shared_6RD, model.text(text.z_WD), text.segments, layout, pack), x_LD)
    out.sum().backward()
    gradient = model.leave.weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0.1


def test_a_new_model_learns_in_all_of_its_parts() -> None:
    torch.manual_seed(0)
    model = DiffusionTransformer(tiny(attention="factorised"))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    samples = [Sample(s.latent_CTHW.float(), s.geometry, s.is_known_T) for s in samples_of(GRIDS, known=KNOWN)]
    pack = make_pack(samples, model.config)
    times_R = rows_of_times(torch.tensor(TIMES))
    losses = []
    for _ in range(8):
        out = model(pack.latents_LP, times_R, model.read(texts_of([*TEXTS, ""])), pack)
        loss = (out - pack.latents_LP).square().mean()
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    still = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert not still


def products(samples: Sequence[Sample], model: DiffusionTransformer) -> tuple[dict[str, Tensor], float]:
    """Gradients of a training step, and the operations of its matrix products."""
    with FlopCounterMode(display=False) as counter:
        _found, gradients = run(model, range(4), samples)
    return gradients, counter.get_total_flops()


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_what_is_made_again_has_the_same_gradients(attention: Attention, monkeypatch: pytest.MonkeyPatch) -> None:
    """And products are made again where most is, attention never."""
    model = woken(tiny(attention=attention))
    samples = samples_of(GRIDS, model.config, KNOWN)
    with flash_on_cpu(monkeypatch) as calls:
        kept, flops = products(samples, model)
        attentions = calls.forward
        for what in ("elementwise", "most"):
            model.recompute(what)
            calls.forward = 0
            again, flops_again = products(samples, model)
            assert calls.forward == attentions
            assert flops_again == flops if what == "elementwise" else flops * 1.1 < flops_again < flops * 4 / 3
            for name, gradient in kept.items():
                assert torch.equal(gradient, again[name]), name


def test_nothing_is_kept_to_be_made_again_where_nothing_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_args: object, **_options: object) -> None:
        raise AssertionError("checkpoint is called")

    monkeypatch.setattr(transformer, "checkpoint", never)
    model = woken(tiny())
    model.recompute("most")
    samples = samples_of(GRIDS, model.config, KNOWN)
    with pytest.raises(AssertionError, match="checkpoint is called"):
        predicted(model, samples, TEXTS, TIMES)
    model.eval()
    predicted(model, samples, TEXTS, TIMES)


@pytest.mark.parametrize(
    ("attention", "what"),
    [
        ("full", "nothing"),
        ("full", "elementwise"),
        ("full", "most"),
        ("factorised", "nothing"),
        ("windowed", "nothing"),
    ],
)
def test_a_block_is_compiled_in_one_piece_and_seldom(
    attention: Attention, what: Recompute, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: no call that the compiler cannot follow, and no code of its own for packs of other lengths."""
    torch.compiler.reset()
    counters.clear()
    model = woken(tiny(attention=attention, depth=4))
    model.recompute(what)
    packs = [GRIDS, GRIDS[:2], [(4, 2, 4), (2, 3, 3), (5, 2, 2)], [(2, 5, 4)] * 3]
    with flash_on_cpu(monkeypatch) as calls:
        for block in model.blocks:
            block.compile(backend="aot_eager")
        for grids in packs:
            samples = samples_of(grids, model.config, [None] * len(grids))
            calls.forward = 0
            texts = TEXTS[: len(grids)]
            out, _ = predicted(model, samples, texts, TIMES[: len(grids)], budget=130)
            out.square().sum().backward()
            assert calls.forward == calls.backward == 2 * 4 + 1  # and the text encoder's
            calls.backward = 0
    assert not counters["graph_break"]
    turns = 1 if attention == "full" else 2
    assert counters["stats"]["unique_graphs"] <= 3 * turns, "for a first pack, all others, and tokens in order"


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("is_autocast", [True, False])
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # of norms, under autocast on a CPU
def test_half_precision(attention: Attention, is_autocast: bool) -> None:
    config = tiny(attention=attention)
    model = woken(config, dtype=torch.float32)
    pack = make_pack(samples_of(GRIDS, config, KNOWN), config, TOKENS + 3)
    times_R = rows_of_times(torch.tensor(TIMES))
    x_LP = pack.latents_LP.float()
    with torch.no_grad():
        wanted = model(x_LP, times_R, model.read(texts_of([*TEXTS, ""])), pack)
    if not is_autocast:
        model = model.bfloat16()
    with torch.autocast("cpu", torch.bfloat16, enabled=is_autocast):
        found = model(x_LP.bfloat16(), times_R, model.read(texts_of([*TEXTS, ""])), pack)
    found.float().square().mean().backward()
    assert found.dtype == torch.bfloat16
    assert (found - wanted).norm() < 0.05 * wanted.norm()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.dtype == parameter.dtype


def test_odd_sizes_and_texts_give_numbers() -> None:
    model = woken(tiny())
    geometry = geometry_of((1, 1, 1))
    sample = Sample(torch.randn(2, *geometry.latent_size, dtype=torch.float64), geometry)
    for time in (0.0, 1e-8, 1.0):
        for text in ("", "word " * 300, "\ud800", "犬" * 400):
            out, _ = predicted(model, [sample], [text], [time], budget=4)
            assert out.isfinite().all()


def test_times_are_told_apart() -> None:
    times = torch.linspace(0, 1, 101)
    waves = time_waves(times)
    assert waves.shape == (101, 256)
    assert waves.dtype == torch.float32
    torch.testing.assert_close(waves.square().sum(1), torch.full((101,), 128.0))
    apart = torch.cdist(waves, waves) + 10 * torch.eye(101)
    assert apart.min() > 1
