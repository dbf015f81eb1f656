"""No SQL is ever built from values: statements are constants, files, or made from the white list."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import passbook

ROOT = Path(passbook.__file__).parent.parent
PACKAGES = ("sync_worker", "passbook", "auth_service", "sync_gateway", "projections")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

#: Calls whose first argument is SQL.
SPEAKING = {"text", "exec_driver_sql", "execute", "executemany", "literal_column", "DDL"}
#: Calls that answer the text of a file of the package.
LOADERS = {"load_sql", "_sql"}

#: Where a statement is not a constant on the spot, and why that is sound.
KNOWN = {
    # The select list, from the constants of `projections.rows`; values are bound.
    ("sync_worker/ledger/statements.py", "clause", "sql"),
    # SET statements with numbers of the settings, formatted as numbers (looked at below).
    ("passbook/read_only.py", "read_only_engine", "statement"),
    # Statements about roles, which cannot be bound: names of tables and columns from the constants of `rights`, the
    # name of a role as a quoted identifier, a password as the verifier that libpq made of it.
    ("passbook/servicedb/roles.py", "_run", "statement"),
    # Statements of SQLAlchemy's expression language, made by its callers: its type admits no text.
    ("sync_gateway/credentials.py", "_executed", "statement"),
}


def functions(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Each function with its name, and what stands outside of any as `<module>`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node


def plain(node: ast.expr, names: dict[str, list[ast.expr]]) -> bool:
    """Whether this is SQL that no value can have got into."""
    if isinstance(node, ast.Constant):
        return True
    if isinstance(node, ast.IfExp):
        return plain(node.body, names) and plain(node.orelse, names)
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in LOADERS:
            return True
        # The rest is SQLAlchemy's expression language, or psycopg's sql.SQL(...).format(...), which quotes.
        return called not in {"format", "join", "replace", "format_map"} or "SQL(" in ast.unparse(node)
    if isinstance(node, ast.Name) and node.id in names:
        return all(plain(value, names) for value in names[node.id])
    return isinstance(node, ast.Attribute | ast.Subscript)


def assigned(function: ast.AST) -> dict[str, list[ast.expr]]:
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and isinstance(node.target, ast.Name) and node.value:
            found.setdefault(node.target.id, []).append(node.value)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            found.setdefault(node.target.id, []).append(ast.BinOp(node.target, node.op, node.value))
    return found


def suspicious(source: str) -> Iterator[tuple[str, str]]:
    """(function, expression) of every statement that is not plainly constant."""
    tree = ast.parse(source)
    own = [*functions(tree), ("<module>", tree)]
    seen: set[ast.AST] = set()
    for name, function in own:
        names = assigned(function)
        for node in ast.walk(function):
            if not isinstance(node, ast.Call) or node in seen or not node.args:
                continue
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in SPEAKING:
                seen.add(node)
                if not plain(node.args[0], names):
                    yield name, ast.unparse(node.args[0])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_statement_is_built_from_values(path: Path) -> None:
    where = str(path.relative_to(ROOT))
    found = {(where, *one) for one in suspicious(path.read_text("utf-8"))}
    assert found <= KNOWN


def test_the_known_exceptions_are_still_there() -> None:
    found = {(str(path.relative_to(ROOT)), *one) for path in SOURCES for one in suspicious(path.read_text("utf-8"))}
    assert found == KNOWN


def test_settings_get_into_set_statements_as_numbers_only() -> None:
    tree = ast.parse((ROOT / "passbook/read_only.py").read_text("utf-8"))
    strings = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    assert strings
    for string in strings:
        for part in string.values:
            if isinstance(part, ast.FormattedValue):
                number = isinstance(part.format_spec, ast.JoinedStr) and ast.unparse(part.format_spec) == "f'g'"
                rounded = isinstance(part.value, ast.Call) and ast.unparse(part.value.func) == "round"
                assert number or rounded, ast.unparse(string)


@pytest.mark.parametrize(
    "code",
    [
        "def f(c, name): c.execute(text(f'SELECT {name}'))",
        "def f(c, name): c.exec_driver_sql('SELECT ' + name)",
        "def f(c, name): c.execute('SELECT %s' % name)",
        "def f(c, name):\n    sql = 'SELECT {}'.format(name)\n    c.execute(text(sql))",
        "def f(c, name):\n    sql = 'SELECT 1'\n    sql += name\n    c.execute(text(sql))",
        "def f(c, names): c.execute(text(','.join(names)))",
        "def f(c, sql): c.execute(text(sql))",
    ],
)
def test_the_check_can_fail(code: str) -> None:
    assert list(suspicious(code))


@pytest.mark.parametrize(
    "code",
    [
        "def f(c): c.execute(text('SELECT 1'), {'a': 1})",
        "def f(c): c.execute(text(load_sql('x')))",
        "def f(c):\n    query = select(t).where(t.c.id == 1)\n    c.execute(query)",
    ],
)
def test_the_check_lets_bound_values_pass(code: str) -> None:
    assert not list(suspicious(code))
