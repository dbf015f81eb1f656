"""The picture of the README: what `make demo` shows, from a real run. `python -m tests.picture` makes it anew."""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path

from sample_institution.demo.memory import remembered
from tests.support.killing import passbook

PICTURE = Path(__file__).parents[1] / "docs" / "demo.svg"


def main() -> None:
    """Run the demo in a scratch directory and save what it showed."""
    with tempfile.TemporaryDirectory(prefix="passbook-picture-") as directory:
        environment = {
            "PASSBOOK_DATA_DIR": ".passbook",
            "PASSBOOK_GATEWAY_PORT": "8710",
            "PASSBOOK_AUTH_PORT": "8720",
        }
        raw = Path(directory) / "demo.svg"
        status, _, errors = asyncio.run(
            passbook("demo", "--once", "--svg", str(raw), environment=environment, directory=directory)
        )
        assert status == 0, errors
        text = raw.read_text()
        memory = remembered(Path(directory) / ".passbook")
    # A picture asks nothing of the network, and shows no password, not even of a database that is gone.
    text = re.sub(r"@font-face \{.*?\}\s*", "", text, flags=re.DOTALL)
    text = text.replace("Fira Code", "DejaVu Sans Mono")
    assert memory
    for login in memory.logins:
        assert login.password in text
        text = text.replace(login.password, "•" * len(login.password))
    PICTURE.write_text(text)


if __name__ == "__main__":
    main()
