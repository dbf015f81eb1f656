"""Calendar steps of schedules, fees and postings."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from datetime import date, timedelta

WEEKS = 1
MONTHS = 2


def add_months(day: date, months: int) -> date:
    """The same day of the month `months` later, or that month's last day."""
    index = day.year * 12 + day.month - 1 + months
    year, month = divmod(index, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def step(day: date, every: int, frequency: int, times: int = 1) -> date:
    """`day` moved by `times` periods of `every` weeks (1) or months (2)."""
    if frequency == WEEKS:
        return day + timedelta(weeks=every * times)
    return add_months(day, every * times)


def month_ends(start: date, end: date) -> Iterator[date]:
    """The last day of every month from `start` to `end`, both included."""
    day = date(start.year, start.month, monthrange(start.year, start.month)[1])
    while day <= end:
        yield day
        following = day + timedelta(days=1)
        day = date(following.year, following.month, monthrange(following.year, following.month)[1])
