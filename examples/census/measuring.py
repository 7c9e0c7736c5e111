"""Measures one source file. Pure: text in, numbers out."""

from __future__ import annotations

import ast
import io
import threading
import tokenize
from collections.abc import Iterator
from contextlib import suppress

from examples.census.listing import INSTALLED
from examples.census.model import Measure

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case, ast.comprehension)
"""Where the flow may go two ways; conditions of comprehensions and the parts of ``and`` and ``or`` come on top."""

_PARSER = threading.Lock()
"""CPython counts the depth of the tree it builds in a place that all threads share: two parsing at once can end in
``SystemError: AST constructor recursion depth mismatch`` (seen with 3.11). The interpreter's lock lets only one work
at a time anyway."""

PARSER_TRIES = 5
"""The lock holds back no other code that parses, such as the formatting of a traceback in another thread."""


def measure_source(path: str, source: bytes, *, package: str = "") -> Measure:
    """Parse a file and count.

    Args:
        path: Its name below the folder.
        source: What is in it.
        package: The package that the folder itself is, if it is one.

    Raises:
        SyntaxError: It is no Python of this interpreter's version, or its encoding is unknown.
        ValueError: It contains null bytes, or bytes that its encoding has not (`UnicodeDecodeError`).
    """
    functions = classes = branches = 0
    imports: set[str] = set()
    module = module_name(path, package)
    is_package = path.rpartition("/")[2] == "__init__.py"
    encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
    source.decode(encoding)  # the parser lets bad bytes in comments pass
    for node in ast.walk(_parse(source, path)):
        if isinstance(node, FUNCTIONS):
            functions += 1
        elif isinstance(node, ast.ClassDef):
            classes += 1
        elif isinstance(node, BRANCHES):
            branches += 1 + (len(node.ifs) if isinstance(node, ast.comprehension) else 0)
        elif isinstance(node, ast.BoolOp):
            branches += len(node.values) - 1
        elif isinstance(node, ast.Import):
            imports.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            imports.update(_imported(node, module if is_package else module.rpartition(".")[0]))
    return Measure(
        path=path, module=module, lines=count_lines(source), functions=functions, classes=classes, branches=branches,
        imports=tuple(sorted(imports)),
    )  # fmt: skip


def _parse(source: bytes, path: str) -> ast.Module:
    for _ in range(PARSER_TRIES - 1):
        with _PARSER, suppress(SystemError):
            return ast.parse(source, filename=path)
    with _PARSER:
        return ast.parse(source, filename=path)


def count_lines(source: bytes) -> int:
    """Return how many lines there are; a last one without a line end counts."""
    return source.count(b"\n") + (not source.endswith(b"\n") and source != b"")


def module_name(path: str, package: str = "") -> str:
    """Return the dotted name under which a file is imported, for a folder that is that package or none."""
    parts = [*package.split("."), *path.split("/")] if package else path.split("/")
    for installed in INSTALLED:
        if installed in parts:
            parts = parts[parts.index(installed) + 1 :]
    parts[-1] = parts[-1].removesuffix(".py")
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _imported(node: ast.ImportFrom, package: str) -> Iterator[str]:
    """``from a import b`` may import the module ``a.b`` or a name of ``a``: both are named, the report knows which."""
    base = node.module or ""
    if node.level:
        parts = package.split(".")
        parts = parts[: max(0, len(parts) - node.level + 1)]
        base = ".".join([*parts, base] if base else parts)
    if base:
        yield base
    for name in node.names:
        if name.name != "*":
            yield f"{base}.{name.name}" if base else name.name
