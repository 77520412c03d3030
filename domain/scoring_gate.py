"""The scoring gate (R74): forecasts must be complete, finite, not negative and not all zero before they are staged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from domain.completeness import Completeness

# A week whose total is this many times the recent weekly mean, or its inverse, is a fault and not a forecast.
PLAUSIBLE_FACTOR = 5.0


def scoring_gate(
    completeness: Completeness, units_by_segment: Mapping[str, float], recent_units_by_segment: Mapping[str, float],
    bad_rows: Iterable[str] = (),
) -> dict[str, Any]:
    """Return {open, reasons, overridable}: closed with a sentence for each thing that is wrong.

    Only implausible totals may be overridden by a person; an incomplete or broken week may not.
    """
    reasons = [f"row {row}" for row in bad_rows]
    if completeness.gap:
        named = ", ".join(completeness.gap_pairs[:5])
        reasons.append(f"{completeness.gap} expected forecasts are neither scored nor explained: {named}")
    if completeness.unexpected:
        reasons.append(f"{completeness.unexpected} forecasts were not expected")
    if not completeness.scored:
        reasons.append("nothing was scored")
    firm = len(reasons)
    for segment, units in sorted(units_by_segment.items()):
        recent = recent_units_by_segment.get(segment, 0.0)
        if not math.isfinite(units):
            reasons.append(f"{segment}: the forecasts are not finite")
            firm += 1
        elif recent > 0 and not recent / PLAUSIBLE_FACTOR <= units <= recent * PLAUSIBLE_FACTOR:
            reasons.append(f"{segment}: {units:.0f} units forecast, {recent:.0f} a week lately")
    return {"open": not reasons, "reasons": reasons, "overridable": bool(reasons) and not firm}
