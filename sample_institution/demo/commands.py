"""`passbook demo`."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from passbook.settings import Settings
from sample_institution.demo.story import Story

app = typer.Typer(help="Everything embedded, with a sample institution.", invoke_without_command=True)


@app.callback()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Tell the story and end.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Also save what was shown as a picture.")] = None,
) -> None:
    """Start everything, watch a phone synchronise, change the ledger and see it arrive."""
    console = Console(record=svg is not None, width=118 if svg else None)
    story = Story(Settings.load(), console)

    async def tell() -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - we are in it
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, task.cancel)
        await story.tell(once=once)

    try:
        asyncio.run(tell())
    except asyncio.CancelledError:
        console.print("\nStopped; nothing of it runs any more. The data stays for the next start.")
    if svg:
        console.save_svg(str(svg), title="make demo")
