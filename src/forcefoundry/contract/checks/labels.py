"""Labels that rows lack while others have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from forcefoundry.contract.checks import Check
from forcefoundry.contract.findings import Finding
from forcefoundry.contract.measures import Measures
from forcefoundry.contract.robust import rows_of

_MASKED = "It counts as unlabelled, never as zero."


def missing(measures: Measures, options: Mapping[str, Any]) -> Iterable[Finding]:
    """A label that a row lacks: told for each row where few of its config_type do, and once where most do."""
    most = float(options["most"])
    for label, has in measures.labelled.items():
        for code in np.unique(measures.kind[~has]).tolist():
            members = np.flatnonzero(measures.kind == code)
            lacking = members[~has[members]]
            told = f"{len(lacking)} of {len(members)} lack it among {rows_of(measures, code)}"
            if len(lacking) > most * len(members):
                yield Finding(
                    "missing_labels",
                    None,
                    f"{label} in {rows_of(measures, code)}",
                    f"absent from {len(lacking)} of {len(members)}",
                    f"a label that {int(has.sum())} of {len(measures)} rows have",
                    f"{_MASKED} If it is there under another name, name that in database.keys.{label}.",
                )
                continue
            for row in lacking.tolist():
                yield Finding(
                    "missing_labels",
                    row,
                    label,
                    "absent",
                    f"a label that {int(has.sum())} of {len(measures)} rows have ({told})",
                    f"{_MASKED} Label the row if it should have one.",
                )


CHECKS = (Check("missing_labels", missing, "warn", options={"most": 0.5}),)
