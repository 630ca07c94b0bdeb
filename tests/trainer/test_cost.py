"""Plans against what is counted: operations of real modules, saved tensors, and windows drawn out by hand."""

from dataclasses import replace
from fractions import Fraction
from math import prod

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from jobs.cost import Options, table
from tests.flash_on_cpu import flash_on_cpu
from trainer.cost import REPORTS, cost_of, forward_flops, squares_of, step_flops, training_bytes
from trainer.flow import rows_of_times
from trainer.geometry import Asked, Geometry
from trainer.model.config import PRESETS, Recompute
from trainer.model.layouts import ATTENTIONS, layouts_of
from trainer.model.pack import Sample, make_pack
from trainer.model.text import texts_of
from trainer.model.transformer import DiffusionTransformer
from trainer.sampling import SamplingConfig

SMALL = replace(PRESETS["1m"], depth=4)
PROMPT = "a red ball rolls over the grass"


@pytest.mark.parametrize("grid", [(1, 1, 1), (1, 7, 5), (5, 4, 4), (9, 3, 11), (4, 8, 8), (16, 5, 6)])
@pytest.mark.parametrize("window", [(2, 4, 4), (3, 3, 5), (0, 4, 4), (8, 8, 8), (1, 1, 1)])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_squares_are_those_of_the_layouts(grid, window, attention):
    layouts = layouts_of([grid], attention, window)
    drawn = [sum(n * n for n in layout.segments.lengths) for layout in layouts]
    assert squares_of(grid, attention, window) == sum(drawn) / len(drawn)


def packed(config, geometry):
    latent = torch.randn(config.latent_channels, *geometry.latent_size)
    return make_pack([Sample(latent, geometry)], config)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_operations_are_those_that_torch_counts(attention):
    config = replace(SMALL, attention=attention, window=(2, 4, 4))
    model = DiffusionTransformer(config)
    geometry = Geometry(17, 128, 96, Fraction(24), config.compression)
    pack, texts = packed(config, geometry), texts_of([PROMPT, ""])
    with torch.no_grad():
        text = model.read(texts)
    x_LP = pack.latents_LP.requires_grad_()
    text.z_WD.requires_grad_()
    with (
        FlopCounterMode(display=False) as forward,
        sdpa_kernel(SDPBackend.MATH),
    ):  # its counter knows no fused one of a CPU
        out = model(x_LP, rows_of_times(torch.tensor([0.5])), text, pack)
    with FlopCounterMode(display=False) as backward:
        out.sum().backward()
    words = [texts.segments.lengths[0]]
    planned = forward_flops(config, [geometry.grid], words)
    assert forward.get_total_flops() == pytest.approx(planned, rel=0.02)
    both = forward.get_total_flops() + backward.get_total_flops()
    assert both == pytest.approx(step_flops(config, [geometry.grid], words), rel=0.02)


def saved_bytes(config, geometry, recompute: Recompute = "nothing", backend=None):
    """Of what the backward pass needs, weights left out, each storage once."""
    torch.compiler.reset()
    model = DiffusionTransformer(config).bfloat16()
    model.recompute(recompute)
    for block in model.blocks if backend else ():
        block.compile(backend=backend)
    latent = torch.randn(config.latent_channels, *geometry.latent_size, dtype=torch.bfloat16)
    pack = make_pack([Sample(latent, geometry)], config)
    with torch.no_grad():
        text = model.read(texts_of([PROMPT, ""]))
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _out = model(pack.latents_LP, rows_of_times(torch.tensor([0.5])), text, pack)
    return sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in weights)


def test_activations_are_those_that_are_saved():
    geometry = Geometry(17, 128, 128, Fraction(24), SMALL.compression)
    shallow, deep = (replace(PRESETS["10m"], depth=depth) for depth in (2, 6))
    measured = saved_bytes(deep, geometry) - saved_bytes(shallow, geometry)
    planned = [training_bytes(c, geometry.tokens, recompute="nothing") for c in (deep, shallow)]
    weights = 16 * sum(p.numel() for p in DiffusionTransformer(shallow).blocks.parameters()) * 2
    assert measured == pytest.approx(planned[0] - planned[1] - weights, rel=0.1)


@pytest.mark.parametrize("recompute", ["nothing", "elementwise", "most"])
def test_compiled_blocks_keep_what_is_planned(recompute, monkeypatch):
    """By what torch's compiler decides to keep, which is the same on a GPU."""
    geometry = Geometry(17, 128, 128, Fraction(24), SMALL.compression)
    shallow, deep = (replace(PRESETS["10m"], depth=depth) for depth in (1, 3))
    with flash_on_cpu(monkeypatch):
        found = [saved_bytes(c, geometry, recompute, "aot_eager_decomp_partition") for c in (deep, shallow)]
    planned = [training_bytes(c, geometry.tokens, recompute=recompute, is_compiled=True) for c in (deep, shallow)]
    weights = 16 * sum(p.numel() for p in DiffusionTransformer(shallow).blocks.parameters()) * 2
    assert found[0] - found[1] == pytest.approx(planned[0] - planned[1] - weights, rel=0.15)


def test_a_sample_costs_its_asks():
    asked = Asked(128, 96, 1.0, Fraction(24))
    costs = {
        (solver, guidance): cost_of(asked, SMALL, SamplingConfig(10, solver, guidance)).sampling_flops
        for solver in ("euler", "heun")
        for guidance in (1.0, 4.0)
    }
    one = cost_of(asked, SMALL, SamplingConfig()).forward_flops
    assert costs == {("euler", 1): 10 * one, ("euler", 4): 20 * one, ("heun", 1): 19 * one, ("heun", 4): 38 * one}


def test_costs_of_reports():
    sampling = SamplingConfig()
    for report in REPORTS:
        full, factorised = (cost_of(report.asked, PRESETS["1.3b"], sampling, a) for a in ("full", "factorised"))
        made = full.geometry
        assert (made.width, made.height) >= (report.asked.width, report.asked.height)
        assert made.frames >= report.asked.frames
        assert full.tokens == prod(made.grid)
        assert full.forward_flops > factorised.forward_flops
    assert {r.name: r.asked.covered(SMALL.compression).tokens for r in REPORTS}["Gen-2"] == 25 * 64 * 112


def test_the_command(capsys):
    lines = table(Options(preset="1m", reports=True, attention="full"))
    assert [line.split("  ")[0] for line in lines[3:-1]] == [report.name for report in REPORTS]
    assert "30000/1001" in table(Options(fps="30000/1001"))[3]


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"preset": "2b"}, "preset=2b: must be one of 1m"),
        ({"fps": "fast"}, "fps=fast: must be a number or a fraction"),
        ({"fps": "1/0"}, "fps=1/0"),
        ({"width": 0}, "width=0: must be above 0"),
        ({"seconds": -1.0}, "seconds=-1.0: must be from 0 on"),
        ({"seconds": float("inf")}, "seconds=inf"),
        ({"steps": 0}, "steps=0: must be at least 1"),
        ({"words": 0}, "words=0"),
        ({"ratio_space": 0}, "ratio_space=0: must be at least 1"),
        ({"ratio_time": -8}, "ratio_time=-8: must be at least 1"),
        ({"latent_channels": 0}, "latent_channels=0: must be at least 1"),
    ],
)
def test_refused(options, rule):
    with pytest.raises(ValueError, match=rule):
        Options(**options)
