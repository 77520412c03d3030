"""Units that providers use and how they become ours; exact decimal factors."""

from __future__ import annotations

from decimal import Decimal

from domain.errors import BadRequest

# provider's unit, our unit -> (factor, offset): ours = (theirs + offset) * factor
_CONVERSIONS: dict[tuple[str, str], tuple[str, str]] = {
    ("fahrenheit", "celsius"): ("0.555555555555555555555555555556", "-32"),
    ("tenths_celsius", "celsius"): ("0.1", "0"),
    ("tenths_mm", "mm"): ("0.1", "0"),
    ("tenths_m_s", "m_s"): ("0.1", "0"),
    ("cm", "mm"): ("10", "0"),
    ("m", "mm"): ("1000", "0"),
    ("inch", "mm"): ("25.4", "0"),
    ("km_h", "m_s"): ("0.277777777777777777777777777778", "0"),
    ("mph", "m_s"): ("0.44704", "0"),
    ("knots", "m_s"): ("0.514444444444444444444444444444", "0"),
    ("percent", "share"): ("0.01", "0"),
    ("cents", "dollars"): ("0.01", "0"),
    ("dozens", "each"): ("12", "0"),
}
# How services spell the units of _CONVERSIONS.
_SPELLINGS = {
    "°c": "celsius",
    "c": "celsius",
    "degc": "celsius",
    "wmounit:degc": "celsius",
    "°f": "fahrenheit",
    "f": "fahrenheit",
    "degf": "fahrenheit",
    "wmounit:degf": "fahrenheit",
    "wmounit:mm": "mm",
    "millimetre": "mm",
    "in": "inch",
    "wmounit:m": "m",
    "wmounit:cm": "cm",
    "km/h": "km_h",
    "kmh": "km_h",
    "wmounit:km_h-1": "km_h",
    "mp/h": "mph",
    "mi/h": "mph",
    "m/s": "m_s",
    "ms": "m_s",
    "wmounit:m_s-1": "m_s",
    "kn": "knots",
    "kt": "knots",
    "%": "percent",
}


def unit_named(spelling: str) -> str:
    """Return our name of a unit however a service spells it."""
    lowered = spelling.strip().lower()
    return _SPELLINGS.get(lowered, lowered)


def conversion(provider_unit: str, our_unit: str) -> tuple[Decimal, Decimal] | None:
    """Return (factor, offset) with ours = (theirs + offset) * factor, None if nothing is to do.

    Raise BadRequest if nobody taught us the conversion: guessing a unit would be worse than stopping.
    """
    theirs, ours = unit_named(provider_unit), unit_named(our_unit)
    if not theirs or theirs == ours:
        return None
    found = _CONVERSIONS.get((theirs, ours))
    if found is None:
        known = ", ".join(sorted(a for a, b in _CONVERSIONS if b == ours))
        raise BadRequest(
            f"no conversion from {provider_unit!r} to {our_unit!r} is known",
            field="unit",
            value=provider_unit,
            remedy=f"use one of {known or our_unit}, or add it to conditioning/units.py",
        )
    return Decimal(found[0]), Decimal(found[1])
