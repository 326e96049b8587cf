"""Pages that open offline: one HTML file each, styles and drawings inside, everything escaped."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from primum.metrics.score import Score


def report_page(report: Mapping[str, Any]) -> str:
    """The evaluation report as one HTML file."""
    return pages().get_template("report.html.jinja").render(report=report)


def comparison_page(comparison: Mapping[str, Any]) -> str:
    """The before/after comparison as one HTML file."""
    return pages().get_template("compare.html.jinja").render(comparison=comparison)


@cache
def pages() -> Environment:
    """Templates with every value escaped and every misspelt name an error."""
    from primum.benchmarks import report

    environment = Environment(
        loader=PackageLoader("primum.benchmarks", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["score"] = Score.from_dict
    environment.filters["number"] = report.number
    environment.filters["interval"] = report.interval
    return environment
