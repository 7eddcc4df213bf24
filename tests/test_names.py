"""Names: identifiers say what they hold; files, functions and layers keep their limits."""

import ast
import io
import json
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from golden import FOLDER, UPDATE

ROOT = Path(__file__).parents[1]
# Words that say nothing about the thing they name.
VAGUE = {
    *("found", "one", "told", "said", "made", "kept", "way", "shown", "seen"),
    *("whole", "wanted", "named", "known", "drawn", "moved", "tried"),
}
MOST_PER_THOUSAND_LINES = {"controlgen": 3, "flows": 3, "tests": 10}
MOST_PARAMETERS = 10
MOST_BRANCHES = 15  # cyclomatic complexity
MOST_LINES = 400  # of a file
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
BRANCHES = (
    *(ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.With),
    *(ast.Assert, ast.comprehension, ast.match_case),
)


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def vague_names(path: Path) -> Iterator[str]:
    with tokenize.open(path) as opened:
        tokens = list(tokenize.generate_tokens(io.StringIO(opened.read()).readline))
    for token in tokens:
        if token.type == tokenize.NAME and token.string.strip("_").lower() in VAGUE:
            yield f"{path.relative_to(ROOT)}:{token.start[0]}: {token.string}"


@pytest.mark.parametrize("folder", MOST_PER_THOUSAND_LINES)
def test_vague_identifiers_never_become_more(folder: str) -> None:
    """A ratchet: the count in golden/vague_names.json may only fall."""
    paths = sources(folder)
    names = [name for path in paths for name in vague_names(path)]
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)
    path = FOLDER / "vague_names.json"
    counts = json.loads(path.read_text()) if path.exists() else {}
    if UPDATE:
        path.write_text(json.dumps({**counts, folder: len(names)}, indent=1, sort_keys=True) + "\n")
        counts[folder] = len(names)
    assert len(names) <= counts[folder], "\n".join(names)
    assert counts[folder] <= MOST_PER_THOUSAND_LINES[folder] * lines / 1000


def functions(*folders: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in sources(*folders):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}", node


def is_exempt(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Command-line and HTTP functions name every option; estimators store every setting."""
    return node.name == "__init__" or bool(node.decorator_list)


def test_functions_take_few_parameters() -> None:
    long = [
        where
        for where, node in functions("controlgen", "flows")
        if len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) > MOST_PARAMETERS
        and not is_exempt(node)
    ]
    assert long == []


def complexity(node: ast.AST) -> int:
    """McCabe's number: 1 + branches + boolean operators."""
    branches, pending = 1, [*ast.iter_child_nodes(node)]
    while pending:
        part = pending.pop()
        if isinstance(part, FUNCTIONS):
            continue  # counted by itself
        pending += ast.iter_child_nodes(part)
        if isinstance(part, ast.BoolOp):
            branches += len(part.values) - 1
        elif isinstance(part, BRANCHES):
            branches += 1
    return branches


def test_functions_are_simple() -> None:
    complex_functions = [
        f"{where}: {complexity(node)}"
        for where, node in functions("controlgen", "flows")
        if complexity(node) > MOST_BRANCHES
    ]
    assert complex_functions == []


def test_files_are_short() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in sources("controlgen", "flows")
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert long == {}


def test_the_package_root_is_small() -> None:
    root = [path.name for path in (ROOT / "controlgen").glob("*.py")]
    assert len(root) <= 16
    assert [path.name for path in sources("controlgen") if path.name.endswith("_cli.py")] == []
