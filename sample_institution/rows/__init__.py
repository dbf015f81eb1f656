"""The rows that the sample institution writes, one dataclass per table, fields named like the columns.

Only columns that something here sets are listed; the others keep their default in the database.
"""

from __future__ import annotations

from sample_institution.rows.base import Audited, Ids, Row, column_names

__all__ = ["Audited", "Ids", "Row", "column_names"]
