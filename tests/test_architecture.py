"""The shape of the code: imports go one way, every outside library has one home, modules stay small."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = REPOSITORY / "src" / "cbmir"

# fmt: off
ORDER = [
    "errors", "files", "tables", "types", "vocabulary", "privacy", "marks", "archives", "sources", "images",
    "windowing", "shrinking", "preprocess", "display", "wire", "images.worker", "metrics", "confidence", "networks",
    "runtime", "encoder", "remote", "interchange", "explain", "extract", "store", "places", "index", "where", "rerank",
    "search", "rerank_fit", "fusion", "calibrate", "atlas", "gallery", "ingest", "upkeep",
    "dataset", "recipes", "packing", "augment", "fitting", "classification", "metric_learning", "closing", "compact",
    "train", "distances", "baselines", "evaluate", "figures", "report",
    "benchmark", "crossval", "jobs", "demo", "web",
    "console", "cli", "__main__",
]
# fmt: on
"""A module imports only from earlier stages (and from its own). A new stage gets its place here."""

HOMES = {
    "click": {"cli", "console"},
    "cryptography": {"privacy"},
    "cv2": {"baselines"},
    "faiss": {"index.ann"},
    "fastapi": {"web"},
    "h11": {"web"},
    "lightning_fabric": {"fitting"},
    "matplotlib": {"figures"},
    "nibabel": {"images.nifti", "images.volume"},
    "idc_index": {"dataset.fetch"},
    "idc_index_data": {"dataset.fetch"},
    "nrrd": {"images.nrrd"},
    "onnx": {"networks.imagenet"},
    "numkong": {"index.twopass"},
    "pandas": {"dataset.fetch"},
    "openvino": {"runtime"},
    "prometheus_client": {"web"},
    "pyarrow": {"tables"},
    "pydantic": {"web"},
    "pytorch_metric_learning": {"metric_learning"},
    "pydicom": {"dataset.fetch", "images.dicom"},
    "ranx": set(),
    "rich": {"console"},
    "scipy": {"baselines"},
    "skimage": {"baselines"},
    "sklearn": {"atlas.layout", "baselines"},
    "sqlite3": {"store"},
    "starlette": {"web"},
    "tensorboard": {"fitting"},
    "tifffile": {"images.tiff"},
    "threadpoolctl": {"baselines"},
    "torch": {
        "augment",
        "baselines",
        "classification",
        "closing",
        "compact",
        "fitting",
        "interchange",
        "metric_learning",
        "networks",
        "runtime",
        "train",
    },
    "transformers": {"baselines.frozen_hub"},
    "uvicorn": {"web"},
    "yaml": {"dataset.fetch"},
}
"""Outside library -> the stages or modules that may import it."""

MAX_LINES = 400
MACHINE_PATH = re.compile(r"""(?<![\w.])/(work\b|root\b|home/\w|Users/\w|mnt/\w)|\b[A-Z]:\\\w""")
UNFINISHED = re.compile(r"\b(" + "TO" + "DO|FIX" + r"ME)\b")


def module_name(path: Path) -> str:
    """index/__init__.py -> index; index/exact.py -> index.exact; the package itself -> ''."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def stage(module: str) -> int:
    """Where in ORDER the module, or else the package around it, stands; -1 when it has no place."""
    found = [name for name in ORDER if module == name or module.startswith(name + ".")]
    return ORDER.index(max(found, key=len)) if found else -1


def imported(module: str) -> Iterator[str]:
    """Absolute names of what a module imports, also inside functions.

    `from cbmir.a import b` gives cbmir.a.b where b is a module, else cbmir.a.
    """
    path = MODULES[module]
    full = f"cbmir.{module}".rstrip(".")
    package = full if path.name == "__init__.py" else full.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield inner if inner.removeprefix("cbmir.") in MODULES else origin


def ours(module: str) -> set[str]:
    """The cbmir modules a module imports; the package itself (its version) is everyone's."""
    names = {name.removeprefix("cbmir.") for name in imported(module) if name.startswith("cbmir.")}
    return names - {module}


INNER = sorted(m for m in MODULES if m)


@pytest.mark.parametrize("module", INNER)
def test_a_module_has_a_stage(module: str) -> None:
    assert stage(module) >= 0, f"{module} has no place in ORDER"


@pytest.mark.parametrize("module", INNER)
def test_imports_go_one_way(module: str) -> None:
    later = {other for other in ours(module) if stage(other) > stage(module)}
    assert not later, f"{module} imports from a later stage: {sorted(later)}"


def test_no_import_goes_round_in_a_circle() -> None:
    left = {module: ours(module) & set(INNER) for module in INNER}
    while free := {module for module, needs in left.items() if not needs & left.keys()}:
        left = {module: needs for module, needs in left.items() if module not in free}
    assert not left, f"these modules import each other: {sorted(left)}"


def test_the_package_imports_its_modules_lazily() -> None:
    top = ast.parse(MODULES[""].read_text(encoding="utf-8")).body
    relative = [node for node in top if isinstance(node, ast.ImportFrom) and node.level]
    assert not relative, "src/cbmir/__init__.py re-exports through __getattr__"


@pytest.mark.parametrize("library", sorted(HOMES))
def test_a_library_has_one_home(library: str) -> None:
    strangers = {
        module
        for module in MODULES
        if any(name.split(".")[0] == library for name in imported(module))
        and not any(module == home or module.startswith(home + ".") for home in HOMES[library])
    }
    assert not strangers, f"{library} is at home in {sorted(HOMES[library])}, not in {sorted(strangers)}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_is_small(module: str) -> None:
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def texts() -> Iterator[Path]:
    for folder in ("src", "tests", "docs", "benchmarks", ".ci"):
        for path in sorted((REPOSITORY / folder).rglob("*")):
            if path.is_file() and path.suffix in {".py", ".md", ".csv", ".toml", ".cff", ""}:
                yield path
    yield from (path for path in sorted(REPOSITORY.glob("*")) if path.suffix in {".md", ".toml", ".cff", ".txt"})
    yield REPOSITORY / "Makefile"


@pytest.mark.parametrize("pattern", [MACHINE_PATH, UNFINISHED], ids=["machine-path", "unfinished"])
def test_no_text_holds(pattern: re.Pattern[str]) -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}: {match.group()}"
        for path in texts()
        if (match := pattern.search(path.read_text(encoding="utf-8")))
    ]
    assert not found


HEAVY = ("torch", "matplotlib", "pydicom", "openvino", "scipy")


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("cbmir", HEAVY),
        ("cbmir.gallery", HEAVY),
        ("cbmir.cli", HEAVY),
        ("cbmir.images.worker", ("torch", "matplotlib", "openvino")),
        ("cbmir.metrics", HEAVY),
    ],
)
def test_heavy_imports_wait_until_needed(module: str, heavy: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
