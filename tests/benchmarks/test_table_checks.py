"""SafeMed-R1's published tables: the means recomputed, the two wrong cells found, no other."""

from decimal import Decimal
from importlib import resources
from pathlib import Path

import pytest

from primum.benchmarks.table_checks import CountOf, MeanOf, Scale, read_tables
from primum.cli import main
from primum.errors import UserError

SAFEMED = Path(str(resources.files("primum.benchmarks.published"))) / "safemed_r1.yaml"


def test_the_macro_averages_are_recomputed() -> None:
    exams, _ = read_tables(SAFEMED)
    means = {name: row["Mean"] for name, row in exams.recomputed().items()}
    assert means["SafeMed-R1"] == Decimal("79.64375")
    assert [round(mean, 2) for mean in means.values()] == [
        Decimal("77.67"), Decimal("78.34"), Decimal("79.64"),
    ]  # fmt: skip
    assert exams.faults() == []  # 78.335 was printed as 78.33: within its parts' rounding


def test_exactly_the_two_wrong_cells_are_flagged() -> None:
    faults = [fault for table in read_tables(SAFEMED) for fault in table.faults()]
    assert {(fault.row, fault.column) for fault in faults} == {
        ("gpt-5-mini", "one judge's score"),
        ("Qwen3-32B", "DeepSeek-V3"),
    }
    assert "1.230" in str(faults[0]) + str(faults[1])


@pytest.mark.parametrize(
    ("rule", "row", "wrong"),
    [
        (Scale(["a"], 1, 5), {"a": "0.04"}, True),
        (Scale(["a"], 1, 5), {"a": "1.04"}, False),
        (MeanOf("m", ["a", "b"]), {"m": "1.23", "a": "1.34", "b": "1.12"}, False),
        (MeanOf("m", ["a", "b"]), {"m": "1.25", "a": "1.34", "b": "1.12"}, True),
        (MeanOf("m", ["a", "b"]), {"m": "1.25", "a": "1.34"}, False),
        (CountOf(["a"], 150), {"a": "81.33"}, False),
        (CountOf(["a"], 150), {"a": "81.50"}, True),
    ],
)
def test_rules(rule: Scale | MeanOf | CountOf, row: dict[str, str], wrong: bool) -> None:
    assert bool(rule.faults(row)) == wrong


def test_a_cell_that_is_no_number_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "table.yaml"
    file.write_text("tables:\n  - title: t\n    columns: [a]\n    rows: {x: [many]}\n")
    with pytest.raises(UserError, match="no file of tables"):
        read_tables(file)


def test_the_command_names_the_cells_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-table", str(SAFEMED)]) == 1
    said = capsys.readouterr().out
    assert "gpt-5-mini" in said and "79.64" in said and "1.12 is not the mean" in said
