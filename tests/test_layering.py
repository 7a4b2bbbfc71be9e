"""Who may import whom, and how long a file may grow. A new module needs a line here."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = "tinygrad_lite"
MAY_IMPORT = {  # part of the library -> parts it may use besides itself
    "errors": "",
    "_types": "",
    "_memory": "",
    "_check": "errors _types",
    "_files": "",
    "_elsewhere": "",
    "_blas": "_types",
    "_threads": "_types _blas",
    "ops": "errors _types _check _blas _threads",
    "tape": "errors _types",
    "tensor": "_elsewhere errors _types _check ops tape",
    "functional": "_elsewhere errors _types _check ops tensor",
    "nn": "_elsewhere errors _types _check _threads tape tensor functional",
    "optim": "_elsewhere errors _types _check _threads tensor",
    "data": "_elsewhere errors _types _check",
    "serialize": "errors _types _check _files",
    "hessian": "errors _types tensor",
    "gradcheck": "errors _check tensor",
    "fuzz": "errors _check ops tape tensor functional nn gradcheck",
    "__init__": "_elsewhere errors _memory tape tensor functional nn optim data serialize",
}
# Packages beside the standard library, NumPy and the library itself.
OTHER_PACKAGES = {
    "serialize": {"safetensors"},
    "experiments/contenders.py": {"torch", "jax", "tinygrad", "mygrad", "autograd", "models", "experiments"},
    "experiments/fuzz_strength.py": {"torch", "hypothesis", "experiments", "matplotlib"},
    "tinygrad_lite/gradcheck/adapters.py": {"torch", "jax", "autograd"},  # imported only when used
    "fuzz": {"hypothesis"},
    "models/lenet_mat.py": {"scipy", "models"},
    "models": {"models"},
    "experiments": {"models", "experiments", "matplotlib", "PIL", "cv2", "scipy", "tqdm", "hypothesis"},
    "tests": {
        "models",
        "experiments",
        "tests",
        "pytest",
        "hypothesis",
        "matplotlib",
        "PIL",
        "cv2",
        "scipy",
        "safetensors",
    },
}
MAX_LINES = 300  # a screenful times five
REASON = "This file is long because"


def imported(path: Path) -> set[str]:
    """Full names of the modules, or of the names in modules, that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are written with their full names"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def part_of(path: Path) -> str:
    """Name in the tables: part of the library, or the folder."""
    place = path.relative_to(ROOT).parts
    return place[1].removesuffix(".py") if place[0] == LIBRARY else place[0]


def parts_used(path: Path) -> set[str]:
    """Parts of the library that a file of the library imports; "the public names" for `from tinygrad_lite import Tensor`."""
    inside = {
        name.split(".")[1] if "." in name else "the public names" for name in imported(path) if name.split(".")[0] == LIBRARY
    }
    return {part if part in MAY_IMPORT else "the public names" for part in inside}


FILES = sorted(p for folder in (LIBRARY, "models", "experiments", "tests") for p in (ROOT / folder).rglob("*.py"))
LIBRARY_FILES = [p for p in FILES if part_of(p) in MAY_IMPORT]
IDS = {p: str(p.relative_to(ROOT)) for p in FILES}


def test_every_part_of_the_library_has_its_place():
    assert {part_of(p) for p in (ROOT / LIBRARY).rglob("*.py")} - set(MAY_IMPORT) == set()


@pytest.mark.parametrize("path", LIBRARY_FILES, ids=IDS.get)
def test_library_imports_downwards_only(path):
    part = part_of(path)
    assert parts_used(path) - {part} - set(MAY_IMPORT[part].split()) == set()


@pytest.mark.parametrize("path", FILES, ids=IDS.get)
def test_other_packages_stay_where_they_belong(path):
    packages = {name.split(".")[0] for name in imported(path)} - sys.stdlib_module_names - {"numpy", LIBRARY}
    allowed = OTHER_PACKAGES.get(IDS[path]) or OTHER_PACKAGES.get(part_of(path), set())
    assert packages - allowed == set()


def test_the_table_has_no_cycle():
    done: set[str] = set()
    left = {part: set(uses.split()) for part, uses in MAY_IMPORT.items()}
    while ready := [part for part, uses in left.items() if uses <= done]:
        done |= set(ready)
        left = {part: uses for part, uses in left.items() if part not in done}
    assert left == {}


def test_import_loads_nothing_but_numpy():
    code = """
import sys
before = set(sys.modules)
import numpy
with_numpy = {name.split(".")[0] for name in set(sys.modules) - before}
class Block:
    def find_spec(self, name, path=None, target=None):
        package = name.split(".")[0]
        if package not in sys.stdlib_module_names | with_numpy | {"numpy", "tinygrad_lite"}:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Block())
import tinygrad_lite
x = tinygrad_lite.Tensor([3.0], requires_grad=True)
(x * x).backward()
print(x.grad, "hypothesis" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("[6.] False\n", "")


@pytest.mark.parametrize("path", FILES, ids=IDS.get)
def test_long_files_say_why(path):
    source = path.read_text(encoding="utf-8")
    if len(source.splitlines()) > MAX_LINES:
        assert REASON in (ast.get_docstring(ast.parse(source)) or "")
