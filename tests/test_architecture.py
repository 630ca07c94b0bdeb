"""The rules of the house, checked by reading the code.

Each rule is a name and a function from one parsed file to the lines that break it; `violations` applies all of them.
The tables of small fake files below show that each rule refuses what it is for, and lets pass what it must.
"""

import ast
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Package → what it may import of the others. Imports run one way: jobs → trainer, captioner → curation.
MAY_IMPORT: dict[str, set[str]] = {
    "curation": set(),
    "captioner": {"curation"},
    "trainer": {"curation"},
    "jobs": {"curation", "captioner", "trainer"},
}
FREE = {"tests", "benchmarks"}  # may import any package, and no package imports them
FIRST_PARTY = {*MAY_IMPORT, *FREE}
RAY = {"ray", "lance_ray"}
KNOWS_RAY = {"jobs", *FREE}

# The part of trainer/ that runs where neither Ray nor Lance is installed: modules (or folders) of trainer/, and what
# they may import besides the standard library and each other. A module that one of them needs belongs in this list.
PORTABLE = {
    "__init__",
    "checkpoint",
    "cost",
    "flow",
    "geometry",
    "model",
    "network",
    "packing",
    "sampling",
}
PORTABLE_MAY_IMPORT = {"torch", "numpy", "einops", "safetensors"}

UNPICKLERS = {"pickle", "_pickle", "cloudpickle", "dill", "shelve", "joblib"}
# Argument → the only value it may have where it is given: torch.load(weights_only=…), numpy.load(allow_pickle=…).
SAFE_LOADING = {"weights_only": True, "allow_pickle": False}
CATCH_ALL_NAMES = {"utils", "util"}


@dataclass(frozen=True, slots=True)
class SourceFile:
    path: PurePosixPath  # relative to the root
    tree: ast.Module

    @property
    def package(self) -> str:
        return self.path.parts[0]

    @property
    def is_portable(self) -> bool:
        return self.package == "trainer" and self.path.with_suffix("").parts[1] in PORTABLE


@dataclass(frozen=True, slots=True)
class Import:
    line: int
    name: str  # dotted and absolute; for `from a import b` it is a.b
    readable: bool = True  # False: imported by a name that is only known when run

    @property
    def top(self) -> str:
        return self.name.split(".")[0]


def imports(file: SourceFile) -> Iterator[Import]:
    """Every import of a file, at any depth, also by importlib.import_module and __import__."""
    for node in ast.walk(file.tree):
        match node:
            case ast.Import():
                yield from (Import(node.lineno, alias.name) for alias in node.names)
            case ast.ImportFrom():
                # `from . import b` in a/c.py is a.b: one part of the path is dropped for each dot.
                parents = file.path.parts[: len(file.path.parts) - node.level] if node.level else ()
                module = ".".join([*parents, *([node.module] if node.module else [])])
                yield from (Import(node.lineno, f"{module}.{alias.name}") for alias in node.names)
            case ast.Call(func=ast.Name(id=function) | ast.Attribute(attr=function)) if function in (
                "import_module",
                "__import__",
            ):
                name = node.args[0] if node.args else None
                readable = isinstance(name, ast.Constant) and not str(name.value).startswith(".")
                yield Import(node.lineno, str(name.value) if isinstance(name, ast.Constant) else "?", readable)


def one_way(file: SourceFile) -> Iterator[int]:
    if file.package in MAY_IMPORT:
        allowed = {file.package, *MAY_IMPORT[file.package]}
        yield from (i.line for i in imports(file) if i.top in FIRST_PARTY - allowed)


def ray_only_in_jobs(file: SourceFile) -> Iterator[int]:
    if file.package not in KNOWS_RAY:
        yield from (i.line for i in imports(file) if i.top in RAY)


def portable_trainer(file: SourceFile) -> Iterator[int]:
    if not file.is_portable:
        return
    for i in imports(file):
        if i.top == "trainer":
            allowed = i.name.split(".")[1:2] in [[name] for name in PORTABLE]
        else:
            allowed = i.top in PORTABLE_MAY_IMPORT or i.top in sys.stdlib_module_names
        if not allowed:
            yield i.line


def readable_imports(file: SourceFile) -> Iterator[int]:
    """An import by a computed name would pass by every other rule."""
    if file.package in MAY_IMPORT:
        yield from (i.line for i in imports(file) if not i.readable)


def no_unpickling(file: SourceFile) -> Iterator[int]:
    if file.package == "tests":
        return
    yield from (i.line for i in imports(file) if i.top in UNPICKLERS)
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Call):
            for argument in node.keywords:
                safe = SAFE_LOADING.get(argument.arg or "")
                if safe is not None and not (isinstance(argument.value, ast.Constant) and argument.value.value is safe):
                    yield argument.value.lineno


def no_utils(file: SourceFile) -> Iterator[int]:
    if CATCH_ALL_NAMES & set(file.path.with_suffix("").parts):
        yield 1
    for i in imports(file):
        if (i.top in FIRST_PARTY or i.top in CATCH_ALL_NAMES) and CATCH_ALL_NAMES & set(i.name.split(".")):
            yield i.line


RULES: dict[str, Callable[[SourceFile], Iterator[int]]] = {
    "imports run one way, jobs → trainer, captioner → curation": one_way,
    "only jobs/ knows Ray": ray_only_in_jobs,
    "the portable part of trainer/ needs neither Ray nor Lance": portable_trainer,
    "the name of an imported module can be read": readable_imports,
    "nothing is unpickled": no_unpickling,
    "no module is named utils": no_utils,
}
ONE_WAY, NO_RAY, PORTABLE_TRAINER, READABLE, NO_PICKLE, NO_UTILS = RULES


def violations(path: str, source: str) -> list[tuple[str, int]]:
    """(rule, line) of all that is against the rules in one file, given its path relative to the root and its text."""
    file = SourceFile(PurePosixPath(path), ast.parse(source, filename=path))
    return [(rule, line) for rule, check in RULES.items() for line in sorted(set(check(file)))]


def python_files() -> list[str]:
    return sorted(
        path.relative_to(ROOT).as_posix()
        for folder in sorted(FIRST_PARTY)
        for path in (ROOT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


@pytest.mark.parametrize("path", python_files())
def test_file_keeps_the_rules(path: str):
    found = violations(path, (ROOT / path).read_text(encoding="utf-8"))
    assert not found, "\n".join(f"{path}:{line}: {rule}" for rule, line in found)


def test_every_package_was_read():
    assert {path.split("/")[0] for path in python_files()} == FIRST_PARTY


REFUSED = [
    ("curation/film.py", "import captioner", ONE_WAY),
    ("curation/film.py", "from jobs.curate import main", ONE_WAY),
    ("curation/film.py", "from jobs import curate", ONE_WAY),
    ("curation/film.py", "def f():\n    import trainer.flow", ONE_WAY),
    ("curation/film.py", "if TYPE_CHECKING:\n    from trainer import flow", ONE_WAY),
    ("curation/film.py", "from tests.films import small_film", ONE_WAY),
    ("captioner/windows.py", "import trainer", ONE_WAY),
    ("captioner/windows.py", "import importlib\nimportlib.import_module('jobs.caption')", ONE_WAY),
    ("trainer/loader.py", "import captioner.blend as blend", ONE_WAY),
    ("trainer/loader.py", "from jobs import progress", ONE_WAY),
    ("jobs/train.py", "from benchmarks.loader import measure", ONE_WAY),
    ("curation/store.py", "import ray", NO_RAY),
    ("curation/store.py", "import ray.data as data", NO_RAY),
    ("curation/store.py", "from ray import data", NO_RAY),
    ("curation/store.py", "import lance_ray", NO_RAY),
    ("captioner/vllm.py", "def f():\n    from ray.data import llm", NO_RAY),
    ("captioner/vllm.py", "try:\n    import ray\nexcept ImportError:\n    ray = None", NO_RAY),
    ("trainer/train.py", "import importlib\nray = importlib.import_module('ray')", NO_RAY),
    ("trainer/train.py", "from importlib import import_module\nimport_module('ray.train')", NO_RAY),
    ("trainer/train.py", "__import__('ray')", NO_RAY),
    ("trainer/model.py", "import lance", PORTABLE_TRAINER),
    ("trainer/model.py", "import torch, pyarrow", PORTABLE_TRAINER),
    ("trainer/model/blocks.py", "import transformers", PORTABLE_TRAINER),
    ("trainer/packing.py", "from curation.records import Span", PORTABLE_TRAINER),
    ("trainer/flow.py", "from trainer.loader import Loader", PORTABLE_TRAINER),
    ("trainer/flow.py", "from trainer import loader", PORTABLE_TRAINER),
    ("trainer/sampling.py", "from . import loader", PORTABLE_TRAINER),
    ("trainer/sampling.py", "from .loader import Loader", PORTABLE_TRAINER),
    ("trainer/sampling.py", "def f():\n    import av", PORTABLE_TRAINER),
    ("trainer/__init__.py", "import lance", PORTABLE_TRAINER),
    ("curation/store.py", "import importlib\nimportlib.import_module(name)", READABLE),
    ("jobs/caption.py", "__import__('r' + 'ay')", READABLE),
    ("trainer/loader.py", "from importlib import import_module\nimport_module('.flow', __package__)", READABLE),
    ("curation/store.py", "import pickle", NO_PICKLE),
    ("jobs/commit.py", "from pickle import loads", NO_PICKLE),
    ("benchmarks/loader.py", "def f():\n    import cloudpickle", NO_PICKLE),
    ("trainer/checkpoint.py", "import torch\ntorch.load(path, weights_only=False)", NO_PICKLE),
    ("trainer/checkpoint.py", "import torch as t\nt.load(path, weights_only=trusted)", NO_PICKLE),
    ("trainer/checkpoint.py", "from torch import load\nload(path, weights_only=0)", NO_PICKLE),
    ("jobs/train.py", "from functools import partial\nload = partial(torch.load, weights_only=False)", NO_PICKLE),
    ("curation/scores.py", "import numpy as np\nnp.load(path, allow_pickle=True)", NO_PICKLE),
    ("curation/store.py", "import utils", NO_UTILS),
    ("curation/store.py", "from curation import utils", NO_UTILS),
    ("curation/store.py", "from .utils import chunks", NO_UTILS),
    ("jobs/curate.py", "from curation.video.utils import probe", NO_UTILS),
    ("tests/curation/test_store.py", "from tests.util import film", NO_UTILS),
    ("curation/utils.py", "", NO_UTILS),
    ("benchmarks/utils/timing.py", "", NO_UTILS),
]  # fmt: skip

PASSES = [
    ("curation/store.py", "import av\nimport lance\nfrom curation.records import Span\nfrom . import records"),
    ("curation/rayleigh.py", "from curation import rayleigh\nimport rayon"),
    ("curation/store.py", "note = 'import ray'  # import ray\nray = None"),
    ("captioner/windows.py", "from curation.records import Clip\nimport importlib\nimportlib.import_module('vllm')"),
    ("trainer/loader.py", "import lance\nfrom curation import store\nfrom trainer.packing import pack"),
    ("trainer/model.py", "import math\nimport torch.nn.functional as F\nfrom einops import rearrange\nimport numpy"),
    ("trainer/model.py", "from torch.nn.utils import clip_grad_norm_\nfrom safetensors.torch import save_file"),
    ("trainer/sampling.py", "from trainer.flow import velocity\nfrom .model import Transformer\nfrom . import packing"),
    ("trainer/models_list.py", "import lance"),
    ("trainer/loader.py", "from torch.utils.data import IterableDataset"),
    ("jobs/train.py", "import ray\nfrom ray import train\nimport captioner, curation, trainer\nimport jobs.wait"),
    ("benchmarks/gpu.py", "import ray\nimport trainer, captioner, curation, jobs\nfrom tests import films"),
    ("tests/jobs/test_train.py", "import pickle\nimport ray\nfrom jobs import train\nload(p, weights_only=False)"),
    ("trainer/checkpoint.py", "import torch\ntorch.load(path)\ntorch.load(path, weights_only=True)"),
    ("curation/scores.py", "import numpy as np\nnp.load(path)\nnp.load(path, allow_pickle=False)"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "source", "rule"), REFUSED)
def test_refused(path: str, source: str, rule: str):
    found = violations(path, source)
    assert {name for name, _ in found} == {rule}


@pytest.mark.parametrize(("path", "source"), PASSES)
def test_passes(path: str, source: str):
    assert violations(path, source) == []


def test_line_is_that_of_the_import():
    assert violations("curation/store.py", "import av\n\ndef f():\n    import ray\n") == [(NO_RAY, 4)]


def test_every_rule_refuses_something():
    assert {rule for _, _, rule in REFUSED} == set(RULES)
