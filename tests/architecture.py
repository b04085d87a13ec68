"""How the code is built: layers, privacy, circles and sizes, read from the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = {"dfplan": "dfplan", "envs": "dfplan.envs", "policies": "dfplan.policies"}

LAYERS = (  # from the bottom up; what stands in one row does not know each other
    "tools",
    "spec noise schedules costs show.base cluster outcome",
    "data",
    "nets",
    "denoiser known",
    "sampling guidance train",
    "decide imitate",
    "plan",
    "planner",
    "models",
    "act rollout hub",
    "show runtime",
    "deploy.robot",
    "deploy.motion",
    "deploy.ros deploy.loop",
    "deploy.remote deploy.recording",
    "deploy",
    "envs policies",
    "dfplan",
    "cli",
    "__main__",
)
"""A module imports its own entry and the rows below it. An entry holds what begins with its name and has no entry of its own."""

TORCH_IN_DEPLOY = {"deploy.loop.monitor"}
PUBLIC_ALL_THE_SAME = {
    "_asdict",
    "_fields",
    "_make",
    "_replace",
    "_foreach_lerp_",
    "_check_success",
}  # of named tuples, in torch's manual, and what robomimic calls of robosuite
MOST_LINES, MOST_LINES_OF_A_FUNCTION, MOST_MODULES = 300, 45, 12


@cache
def modules() -> dict[str, Path]:
    """Name -> file of every module, as it is imported."""
    found = {}
    for folder, package in PACKAGES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [package, *path.relative_to(ROOT / folder).with_suffix("").parts]
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text())


def origin(name: str, node: ast.ImportFrom) -> str:
    """The module that `from ... import` of a module names, dots resolved."""
    package = name if modules()[name].name == "__init__.py" else name.rpartition(".")[0]
    above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


@cache
def imports() -> dict[str, set[str]]:
    """Module -> modules of ours that it imports anywhere in it, in annotations too."""

    def known(path: str) -> str:
        while path and path not in modules():
            path = path.rpartition(".")[0]
        return path

    found = {}
    for name in modules():
        paths = set()
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.Import):
                paths |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                paths |= {f"{origin(name, node)}.{alias.name}" for alias in node.names}
        found[name] = {known(path) for path in paths} - {"", name}
    return found


def entry(name: str) -> str:
    """The entry of `LAYERS` that a module belongs to."""
    entries = {e for row in LAYERS for e in row.split()}
    path = name.removeprefix("dfplan.")
    while path and path not in entries:
        path = path.rpartition(".")[0]
    assert path, f"{name} has no layer; give it one in LAYERS"
    return path


def layer(of: str) -> int:
    return next(i for i, row in enumerate(LAYERS) if of in row.split())


def arrows() -> set[tuple[str, str]]:
    """(entry, entry that it imports) for all modules."""
    pairs = {(entry(name), entry(other)) for name, others in imports().items() for other in others}
    return {(a, b) for a, b in pairs if a != b}


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules that reach each other (Tarjan 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
            if other in stack:
                low[name] = min(low[name], low[other])
        if low[name] == index[name]:
            at = stack.index(name)
            if len(stack) - at > 1:
                found.append(set(stack[at:]))
            del stack[at:]

    for name in graph:
        if name not in index:
            visit(name)
    return found


def defined(name: str) -> set[str]:
    """Names that a module gives to functions, classes, variables and attributes."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return found


def reaches(name: str) -> Iterator[str]:
    """Where a module takes what another one keeps to itself."""
    own = defined(name) | PUBLIC_ALL_THE_SAME
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.ImportFrom):
            taken = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute):
            by_itself = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            taken = [] if by_itself or node.attr in own else [node.attr]
        else:
            continue
        for private in taken:
            if private.startswith("_") and not private.startswith("__"):
                yield f"{name}:{node.lineno} {ast.unparse(node)}"


def test_a_module_imports_only_what_is_below_it() -> None:
    upward = [
        f"{name} imports {other}"
        for name, others in imports().items()
        for other in others
        if entry(name) != entry(other) and layer(entry(other)) >= layer(entry(name))
    ]
    assert not upward


def test_there_are_no_circles() -> None:
    assert not circles(imports())
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == [{"b", "c"}]


def test_nothing_reaches_into_the_privates_of_another_module() -> None:
    assert not [reach for name in modules() for reach in reaches(name)]


def test_our_modules_are_imported_by_statements() -> None:
    """A name in a string is seen by no type checker, and by none of these tests."""
    hidden = []
    for name in modules():
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in (
                "import_module", "__import__", "optional_import", "find_spec",
            ):  # fmt: skip
                texts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant)]
                if any(isinstance(t, str) and t.split(".")[0] in PACKAGES for t in texts):
                    hidden.append(f"{name}:{node.lineno} {ast.unparse(node)}")
    assert not hidden


def test_torch_is_imported_where_a_policy_runs() -> None:
    users = {
        name.removeprefix("dfplan.")
        for name in modules()
        if name.startswith("dfplan.deploy")
        for node in ast.walk(tree(name))
        if (isinstance(node, ast.Import) and any(a.name.split(".")[0] == "torch" for a in node.names))
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch")
    }
    assert users <= TORCH_IN_DEPLOY


def test_files_functions_and_folders_are_small() -> None:
    """A function is as long as it is without its docstring, a folder as large as it is without `__init__` and `__main__`."""
    large = [
        f"{n}: {c} lines" for n, p in modules().items() if (c := len(p.read_text().splitlines())) > MOST_LINES
    ]
    for name in modules():
        for node in ast.walk(tree(name)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                lines = (
                    (node.end_lineno or 0)
                    - node.lineno
                    + 1
                    - len((ast.get_docstring(node) or "").splitlines())
                )
                if lines > MOST_LINES_OF_A_FUNCTION:
                    large.append(f"{name}.{node.name}: {lines} lines")
    folders = [path.parent for path in modules().values() if path.name not in ("__init__.py", "__main__.py")]
    large += [
        f"{f.relative_to(ROOT)}: {folders.count(f)} modules"
        for f in sorted(set(folders))
        if folders.count(f) > MOST_MODULES
    ]
    assert not large


def test_every_entry_of_the_layers_is_there() -> None:
    assert {e for row in LAYERS for e in row.split()} == {entry(name) for name in modules()}


def test_the_page_shows_the_layers() -> None:
    page = (ROOT / "docs/design.md").read_text()
    assert "\n".join(reversed(LAYERS)) in page
