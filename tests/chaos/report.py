"""The table and the files of a chaos run. Pure, but for ``write``."""

import json
import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tests.chaos.recovery import Span
from tests.chaos.trial import Report

_COLUMNS = (
    *("fault", "times", "median s", "worst s", "later s", "acknowledged", "lost", "double", "differing"),
    *("p99 ms", "in fault", "rate while away", "oldest event s"),
)


MOST_SPANS = 8
"""How many spans of one kind are told."""


def table(reports: Sequence[Report]) -> str:
    """One row a fault: recovery times and findings of all its rounds.

    ``later s`` is for how long something was amiss between recovery and the return of the last pod (the worst),
    ``p99 ms`` is of updates before the fault (median of the rounds), ``in fault`` from the strike until recovery
    (the worst), ``rate while away`` the least share of the normal rate accepted while a fault lasted.
    """
    by_fault: dict[str, list[Report]] = defaultdict(list)
    for report in reports:
        by_fault[report.fault].append(report)
    rows = [_row(fault, each) for fault, each in by_fault.items()]
    rows.append(_total(reports))
    widths = [max(len(row[column]) for row in [_COLUMNS, *rows]) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(cell.ljust(width) if not index else cell.rjust(width) for index, (cell, width) in enumerate(line))
        for line in (list(zip(row, widths, strict=True)) for row in [_COLUMNS, *rows])
    )


def line(report: Report) -> str:
    """One fault, as it happened."""
    verdict = report.verdict
    state = "clean" if verdict.clean else "; ".join(verdict.findings()[:5])
    met = ", ".join(f"{count} {trouble}" for trouble, count in sorted(report.troubles.items())) or "nothing"
    return (
        f"{report.fault:24} recovered in {report.recovery:5.1f} s, {report.acknowledged:5} acknowledged: {state}\n"
        f"{'':24} too few accepted: {_spans(report.unaccepted)}; not shown: {_spans(report.unshown)}\n"
        f"{'':24} p99 {1000 * report.p99_before:.0f} ms, then {1000 * report.p99_during:.0f} ms; clients met: {met}"
    )


def write(reports: Sequence[Report], directory: Path) -> Path:
    """Write ``chaos.json``: one entry for each time a fault struck, in their order."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "chaos.json"
    file.write_text(json.dumps({"faults": [report.as_json() for report in reports]}, indent=1) + "\n")
    return file


def _row(fault: str, reports: Sequence[Report]) -> tuple[str, ...]:
    recoveries = [report.recovery for report in reports]
    return (
        fault,
        str(len(reports)),
        f"{statistics.median(recoveries):.1f}",
        f"{max(recoveries):.1f}",
        f"{max(report.later for report in reports):.1f}",
        *_findings(reports),
        f"{1000 * statistics.median(report.p99_before for report in reports):.0f}",
        f"{1000 * max(report.p99_during for report in reports):.0f}",
        _known(min(report.share_during for report in reports), "{:.0%}"),
        _known(max(report.outbox_age for report in reports), "{:.1f}"),
    )


def _total(reports: Sequence[Report]) -> tuple[str, ...]:
    return "all", str(len(reports)), "", "", "", *_findings(reports), "", "", "", ""


def _findings(reports: Sequence[Report]) -> tuple[str, str, str, str]:
    return (
        str(sum(report.acknowledged for report in reports)),
        str(sum(len(report.verdict.lost) for report in reports)),
        str(sum(len(report.verdict.double) for report in reports)),
        str(sum(len(report.verdict.differing) for report in reports)),
    )


def _spans(spans: Sequence[Span]) -> str:
    shown = [f"{span.begin:.1f}–{span.end:.1f} s" for span in spans[:MOST_SPANS]]
    return (
        ", ".join([*shown, *([f"{len(spans) - MOST_SPANS} times more"] if len(spans) > MOST_SPANS else [])]) or "never"
    )


def _known(value: float, form: str) -> str:
    return "" if math.isnan(value) else form.format(value)
