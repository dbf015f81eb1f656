"""`passbook sample-ledger` from outside."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from passbook.errors import PassbookError, Refused, Unavailable
from sample_institution.commands import app
from tests.sample_institution.conftest import MakeEngine

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(new_postgresql: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command on an empty ledger named by the environment; returns what it printed."""
    monkeypatch.setenv("PASSBOOK_LEDGER_URL", new_postgresql().url.render_as_string(hide_password=False))

    def runner(*arguments: str) -> dict[str, Any]:
        result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        printed: dict[str, Any] = json.loads(result.stdout)
        return printed

    return runner


def test_fill_tells_whom_to_look_at(run: Run, tmp_path: Path) -> None:
    printed = run("fill", "--clients", "20", "--seed", "3", "--images", str(tmp_path))
    assert printed["clients"] == 20
    assert printed["customer"] not in printed["agent_clients"]
    assert printed["images"] == len(list(tmp_path.rglob("*.png")))


def test_moves_find_their_account(run: Run) -> None:
    customer = str(run("fill", "--clients", "20")["customer"])
    paid = run("move", "repay", "--client", customer, "--amount", "100", "--on", "2026-06-29")
    assert (paid["amount"], paid["on"], paid["status"]) == ("100.00", "2026-06-29", 300)
    assert run("move", "reverse", "--transaction", str(paid["transaction_id"]))["kind"] == "reverse"
    assert run("move", "reschedule", "--loan", str(paid["loan_id"]))["new_ids"]
    assert run("move", "charge", "--client", customer, "--amount", "5")["loan_id"] is None
    assert run("move", "charge", "--loan", str(paid["loan_id"]), "--amount", "5")["loan_id"] == paid["loan_id"]
    assert run("move", "deposit", "--client", customer, "--amount", "500")["amount"] == "500.00"
    assert run("move", "withdraw", "--client", customer, "--amount", "5")["amount"] == "5.00"
    assert run("move", "close", "--client", customer)["status"] == 600
    assert run("move", "reactivate", "--client", customer)["status"] == 300
    assert run("move", "unmap", "--client", customer)["login_id"]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("fill", "--no-create-schema"), Refused, "lacks tables"),
        (("fill", "--url", "postgresql://nobody@127.0.0.1:1/none"), Unavailable, "does not answer"),
        (("fill", "--url", "sqlite://"), Refused, "cannot be read"),
        (("move", "repay", "--amount", "1"), Refused, "--client"),
        (("move", "repay", "--loan", "1"), Refused, "--amount"),
        (("move", "deposit", "--savings", "1", "--amount", "NaN"), Refused, "--amount"),
        (("move", "unmap", "--client", "1"), Refused, "lacks tables"),
    ],
)
@pytest.mark.usefixtures("run")
def test_mistakes_are_said_in_words(arguments: tuple[str, ...], error: type[PassbookError], says: str) -> None:
    with pytest.raises(error, match=says):
        CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_photos_that_cannot_be_written_are_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "images").write_text("in the way")
    with pytest.raises(Refused, match="cannot be written"):
        run("fill", "--clients", "20", "--images", str(tmp_path))
