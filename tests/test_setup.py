"""The environment that `make setup` makes: what is imported starts, and nothing heavy is imported unasked."""

import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

MEND = Path(__file__).resolve().parent.parent / ".ci" / "mend_cpu_builds.py"


def run_python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("module", ["torch", "torchvision", "torchaudio", "torchcodec", "vllm"])
def test_is_not_installed_or_does_import(module: str, tmp_path: Path):
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed in this environment")
    done = run_python("-c", f"import {module}", cwd=tmp_path)
    # torchcodec without an FFmpeg on the system says so in a RuntimeError, for which those who import it are prepared.
    if module == "torchcodec" and "RuntimeError" in done.stderr:
        pytest.skip("torchcodec finds no FFmpeg on this system; nothing here needs it")
    assert done.returncode == 0, done.stderr


def test_interpreter_start_does_not_import_torch(tmp_path: Path):
    """Every Ray worker and vLLM process starts an interpreter: torch would cost each of them seconds."""
    done = run_python("-c", "import sys; assert 'torch' not in sys.modules", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_nothing_is_left_to_mend(tmp_path: Path):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed in this environment")
    done = run_python(str(MEND), "--check", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "CPU builds: nothing to mend\n"), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("compiled_part_loads", "hook", "expected"),
    [
        (False, True, "declared"),
        (True, True, "untouched"),  # a torchvision that works declares its operators itself, and may only once
        (False, False, "untouched"),  # without the hook nobody else declares them: the row above shows the hook's doing
    ],
)
def test_hook_declares_operators_only_where_missed(
    compiled_part_loads: bool, hook: bool, expected: str, tmp_path: Path
):
    if importlib.util.find_spec("torch") is None:
        pytest.skip("torch is not installed in this environment")
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text("from . import extension, _meta_registrations\n")
    (package / "extension.py").write_text(f"def _has_ops():\n    return {compiled_part_loads}\n")
    (package / "_meta_registrations.py").write_text(
        "import torch\n"
        "declared = [hasattr(torch.ops.torchvision, name) for name in ('nms', 'qnms')]\n"
        "print({(True, True): 'declared', (False, False): 'untouched'}[tuple(declared)])\n"
    )
    # -S -I: without this environment's own .pth files, the hook among them; its packages are put back by hand.
    code = f"import sys; sys.path[:0] = {[str(tmp_path), *sys.path]!r}\n"
    code += runpy.run_path(str(MEND))["HOOK"] if hook else ""
    code += "\nassert 'torch' not in sys.modules\nimport torchvision\n"
    done = run_python("-S", "-I", "-c", code, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, expected), done.stderr
