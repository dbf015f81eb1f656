"""A made-up microfinance institution in Apache Fineract's tenant schema: for the demo, tests and benchmarks."""

from __future__ import annotations

from sample_institution.images import write_images
from sample_institution.institution import TODAY, Institution, fill
from sample_institution.tables import create_schema

__all__ = ["TODAY", "Institution", "create_schema", "fill", "write_images"]
