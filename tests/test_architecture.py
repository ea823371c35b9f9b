"""The building holds its shape: imports point down, one module talks to Dask, and the documents name what exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "biolmm"
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])

LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors", "schema"),
    ("contigs", "places", "cgroups"),
    ("memory", "processors", "parcels", "atomic", "regions"),
    ("chunks", "stages", "hwe"),
    ("linalg", "files", "results", "mirror", "cluster"),
    ("store", "cohort", "plots"),
    ("genotypes", "simulate", "report"),
    ("reml", "qc", "ld", "relatedness", "covariance"),
    ("loco", "components", "heritability", "sumstats"),
    ("association", "prediction", "exact"),
    ("pipeline", "accessor"),
    ("reanalysis",),
    ("cli_text", "terminal"),
    ("cli",),
)
"""From the ground up. A module imports its own package and the layers below, never a neighbour."""

DASK = {"biolmm.chunks", "biolmm.association.lazy"}
"""`chunks` computes; `association.lazy` only lays out a lazy array and leaves computing to whoever asks for its values."""

MAX_LINES = 500


@cache
def modules() -> dict[str, ast.Module]:
    """Parse every module of the package, by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    return found


def imports(tree: ast.Module) -> set[str]:
    """Name everything a module imports, wherever it does, but for type checkers only; absolute names."""
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a module is"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def own_imports(name: str) -> set[str]:
    """Name the modules of the package that a module imports."""
    found = set()
    for imported in imports(modules()[name]):
        while imported and imported not in modules():
            imported = imported.rpartition(".")[0]
        if imported and imported != name:
            found.add(imported)
    return found


def room(name: str) -> str:
    """Name the module or package right below `biolmm` that a module belongs to."""
    return name.split(".")[1] if "." in name else ""


def test_every_room_has_a_layer() -> None:
    rooms = {room(name) for name in modules()} - {""}
    placed = [name for layer in LAYERS for name in layer]
    assert sorted(placed) == sorted(rooms)


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_down(name: str) -> None:
    level = {each: height for height, layer in enumerate(LAYERS) for each in layer}
    here = room(name)
    if not here:
        return  # the front door: names that are imported when they are first used
    wrong = [
        other
        for other in own_imports(name)
        if room(other) != here and (not room(other) or level[room(other)] >= level[here])
    ]
    assert not wrong, f"{name} imports {', '.join(wrong)}, which is not below it"


def test_there_is_no_circle() -> None:
    graph = {name: own_imports(name) for name in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_one_module_talks_to_dask() -> None:
    users = {
        name
        for name, tree in modules().items()
        if {each.split(".")[0] for each in imports(tree)} & {"dask", "distributed"}
    }
    assert {name for name in users if room(name) != "cluster"} == DASK  # which starts schedulers and computes nothing
    source = (PACKAGE / "association" / "lazy.py").read_text(encoding="utf-8")
    assert "compute(" not in source


def test_only_files_and_store_know_formats() -> None:
    """PLINK's bytes are read in `files`, genotypes of ours in `store`, studies in `sumstats`: nothing else opens Zarr."""
    users = {
        room(name)
        for name, tree in modules().items()
        if {i.split(".")[0] for i in imports(tree)} & {"zarr", "numcodecs"}
    }
    assert users == {"store", "sumstats"}


def test_the_documented_layers_are_these() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    block = re.search(r"```layers\n(.*?)```", text, re.DOTALL)
    assert block is not None
    documented = tuple(tuple(re.split(r"\s{2,}", line)[0].split()) for line in block[1].strip().splitlines())
    assert documented == LAYERS


def paths_in(document: Path) -> Iterator[str]:
    """Find the paths of this project that a document names in backticks, and the files that it links to."""
    text = document.read_text(encoding="utf-8")
    for quoted in re.findall(r"`([^`\n]+)`", text):
        for word in quoted.split():
            if re.fullmatch(r"(biolmm|tests|docs|deploy|benchmarks|\.ci)/[\w./-]*", word):
                yield word
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            yield str((document.parent / target).resolve().relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_documents_name_what_exists(document: Path) -> None:
    absent = [path for path in paths_in(document) if not (ROOT / path).exists()]
    assert not absent


def test_no_file_is_too_long() -> None:
    files = [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    counted = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    assert {name: n for name, n in counted.items() if n > MAX_LINES} == {}


def test_what_is_public_is_explained() -> None:
    silent = []
    for name, tree in modules().items():
        if tree.body and not ast.get_docstring(tree):
            silent.append(name)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                members = node.body if isinstance(node, ast.ClassDef) else []
                methods = [m for m in members if isinstance(m, ast.FunctionDef) and not m.name.startswith("_")]
                silent += [f"{name}.{each.name}" for each in [node, *methods] if not ast.get_docstring(each)]
    assert not silent
