"""X12 894 Delivery/Return Base Record: the return documents of a week as one interchange."""

from __future__ import annotations

from itertools import groupby

from domain.sales_weeks import SalesWeek
from samples.local_testing.demand import Line

_SUPPLIER, _RECEIVER = "000000001", "000000002"  # DUNS numbers that nobody has
_CONTROL = "000000001"


def returns_interchange(lines: list[Line], week: SalesWeek) -> bytes:
    """Return ISA..IEA: element `*`, component `>`, segment `~` and a line feed; one ST a document.

    The control totals hold (G84, SE, GE, IEA): what is wrong in a file is its lines, not its envelope.
    """
    day = f"{week.sunday:%Y%m%d}"
    segments = [
        f"ISA*00*{'':10}*00*{'':10}*01*{_SUPPLIER:<15}*01*{_RECEIVER:<15}*{day[2:]}*1800*U*00401*{_CONTROL}*0*T*>",
        f"GS*DX*{_SUPPLIER}*{_RECEIVER}*{day}*1800*1*X*004010",
    ]
    sets = [list(group) for _, group in groupby(sorted(lines, key=_document), key=_document)]
    for number, document in enumerate(sets, start=1):
        segments += _transaction_set(document, number)
    segments += [f"GE*{len(sets)}*1", f"IEA*1*{_CONTROL}"]
    return "".join(segment + "~\n" for segment in segments).encode("ascii")


def _document(line: Line) -> tuple[str, str]:
    return (line.document, line.store_id)


def _transaction_set(document: list[Line], number: int) -> list[str]:
    head = document[0]
    day = "20171332" if head.day is None else f"{head.day:%Y%m%d}"
    body = [
        f"ST*894*{number:04d}",
        f"G82*C*{head.document}*{_RECEIVER}*{head.store_id}*{_SUPPLIER}*DEPOT1*{day}",
        "LS*0100",
    ]
    for place, line in enumerate(document, start=1):
        price = line.cents // line.units
        body.append(f"G83*{place}*{line.units}*EA**VN*{line.product_id}**{price / 100:.2f}")
    body += [
        "LE*0100",
        f"G84*{sum(line.units for line in document)}*{sum(line.cents for line in document)}",
        f"G86*{_SUPPLIER}",
        f"G85*{number:04d}",
    ]
    return [*body, f"SE*{len(body) + 1}*{number:04d}"]
