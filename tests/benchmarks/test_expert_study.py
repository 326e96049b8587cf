"""Expert ratings: tests against SciPy, verdicts that need evidence, bad ratings refused."""

import random
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from primum.benchmarks.candidates import resolve_candidate
from primum.benchmarks.expert_study import ExpertStudy
from primum.benchmarks.run import run_benchmark
from primum.errors import UserError
from primum.metrics.mixed_effects import author_effects
from primum.metrics.rater_reliability import intraclass_correlation, krippendorff_alpha
from primum.metrics.signed_rank import (
    detectable_effect,
    equivalence,
    hodges_lehmann,
    holm,
    wilcoxon_exact,
)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_wilcoxon_equals_scipys_exact_test_without_ties(seed: int, alternative: str) -> None:
    values = np.random.default_rng(seed).normal(0.3, 1, 17)
    expected = stats.wilcoxon(values, alternative=alternative, method="exact").pvalue
    assert wilcoxon_exact(values, alternative) == pytest.approx(expected, abs=1e-12)


def test_wilcoxon_with_ties_and_zeros_equals_all_sign_changes() -> None:
    values = np.array([0, 1, 1, -1, 2, 0, 2, -3, 1.0])
    ranks = stats.rankdata(np.abs(values))
    seen = ranks[values > 0].sum()
    live = ranks[values != 0]
    sums = [
        sum(rank for bit, rank in enumerate(live) if code >> bit & 1)
        for code in range(2 ** len(live))
    ]
    expected = np.mean([total >= seen - 1e-9 for total in sums])
    assert wilcoxon_exact(values, "greater") == pytest.approx(expected, abs=1e-12)


def test_equivalence_needs_evidence_and_not_its_absence() -> None:
    alike = [0.0, 0.1, -0.1, 0.1, -0.1, 0.0, 0.05, -0.05] * 3
    assert equivalence(alike, 0.5) < 0.001
    noisy = [2.0, -2.0, 1.5, -1.5]
    assert wilcoxon_exact(noisy) > 0.5 and equivalence(noisy, 0.5) > 0.2


def test_holm_and_power() -> None:
    assert holm([0.04, 0.001, 0.02]) == pytest.approx([0.04, 0.003, 0.04])
    # n pairs find the effect with the power asked for: against SciPy's noncentral t
    n, effect = 30, detectable_effect(30)
    threshold = stats.t.ppf(0.975, n - 1)
    power = 1 - stats.nct.cdf(threshold, n - 1, effect * n**0.5)
    assert power == pytest.approx(0.8, abs=0.01)


def test_alpha_is_krippendorffs_own_example() -> None:
    gap = None
    observers = [  # Krippendorff (2011), four observers, twelve units
        [1, 2, 3, 3, 2, 1, 4, 1, 2, gap, gap, gap],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, gap, 3],
        [gap, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, gap],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, gap],
    ]
    units = [list(unit) for unit in zip(*observers, strict=True)]
    for level, expected in (("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)):
        assert krippendorff_alpha(units, level).value == pytest.approx(expected, abs=5e-4)


def test_icc_is_shrout_and_fleiss_own_example() -> None:
    table = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    assert intraclass_correlation(table).value == pytest.approx(0.62, abs=5e-3)


def test_the_mixed_model_has_its_closed_form_where_everybody_rates_everything() -> None:
    draw = np.random.default_rng(0)
    table = (  # vignettes, raters, authors
        draw.normal(3, 1, (12, 1, 1)) + draw.normal(0, 0.7, (1, 4, 1))
        + np.array([0.6, 0.0]) + draw.normal(0, 0.5, (12, 4, 2))
    )  # fmt: skip
    rows = [
        (table[v, r, a], ("model", "pgy1")[a], f"v{v}", f"r{r}")
        for v in range(12) for r in range(4) for a in range(2)
    ]  # fmt: skip
    found = author_effects(*zip(*rows, strict=True), model="model")["pgy1"]
    means = table.mean((0, 1))
    assert found.value == pytest.approx(means[0] - means[1], abs=1e-6)
    residual = table - table.mean((1, 2), keepdims=True) - table.mean((0, 2), keepdims=True)
    residual = residual - means + 2 * table.mean()
    variance = (residual**2).sum() / (table.size - (1 + 11 + 3 + 1))
    error = (2 * variance / (12 * 4)) ** 0.5
    assert (found.high - found.low) / 2 / 1.959964 == pytest.approx(error, rel=1e-3)


def ratings(tmp_path: Path, better: float) -> Path:
    draw = random.Random(0)
    rows = ["vignette_id,author,rater_id,dimension,score"]
    for vignette in range(24):
        level = draw.choice([2, 3, 4])
        for rater in "abc":
            for dimension, gain in (("safety", better), ("correctness", 0)):
                for author in ("model", "pgy1", "pgy2"):
                    score = level + (gain if author == "model" else 0) + draw.choice([0, 0, 0.5])
                    rows.append(f"v{vignette},{author},{rater},{dimension},{min(5, score)}")
    file = tmp_path / "ratings.csv"
    file.write_text("\n".join(rows) + "\n")
    return file


@pytest.mark.seconds
def test_a_study_says_what_was_shown_and_no_more(tmp_path: Path) -> None:
    benchmark = ExpertStudy()
    file = ratings(tmp_path, better=1)
    candidate = resolve_candidate(predictions=str(file), read=benchmark.read_predictions)
    found = run_benchmark(benchmark, candidate, output=tmp_path, quiet=True)
    better, alike = (found.scores[f"shift_{name}_pgy1"] for name in ("safety", "correctness"))
    assert better.value > 0.5 and better.n == 24 and better.protocol.startswith("higher")
    assert abs(alike.value) < 0.3 and alike.protocol.startswith("equivalent within 0.5")
    assert found.scores["alpha_safety"].value > 0.5 and found.scores["icc_safety"].value > 0.5
    mixed = found.scores["mixed_safety_pgy1"]
    assert mixed.low > 0.5 and mixed.n == 24 * 3 * 3
    (table,) = found.report["sections"]
    assert len(table["rows"]) == 4 and "24 vignettes find" in table["note"]
    differences = benchmark.differences(list(_rows(found.folder)), "safety", "pgy1")
    assert better.value == pytest.approx(hodges_lehmann(differences))


def _rows(folder: Path):  # type: ignore[no-untyped-def]
    from primum.benchmarks.results import read_parquet

    return read_parquet(folder / "results.parquet")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("v0,model,z,safety,0.04", "cannot be on a scale from 1 to 5"),
        ("v0,model,z,safety,good", "cannot be on a scale"),
        ("v0,model,,safety,3", "has no rater_id"),
        ("v0,model,a,safety,3", "comes twice"),
    ],
)
def test_bad_ratings_are_refused(tmp_path: Path, line: str, message: str) -> None:
    file = ratings(tmp_path, better=0)
    with file.open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(UserError, match=message) as raised:
        ExpertStudy().read_predictions([file])
    assert raised.value.row == 434
