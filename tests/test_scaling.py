"""The scaling law of benchmarks/scaling.py is found again in figures that were made by one."""

import runpy
from pathlib import Path

import numpy as np
import pytest


def test_a_law_is_found_again_and_foresees_the_size_left_out(tmp_path, capsys):
    bench = runpy.run_path(str(Path(__file__).parent.parent / "benchmarks" / "scaling.py"))
    sizes = np.array([1e5, 3e5, 1e6, 3e6, 1e7])
    known = np.array([np.log(1.2), np.log(40.0), 0.35])
    exact = bench["law"](known, sizes)
    assert exact == pytest.approx(1.2 + 40.0 * sizes**-0.35)
    found = bench["fit"](sizes, exact, bench["GRID"])
    assert np.exp(found[0]) == pytest.approx(1.2, abs=0.01) and found[2] == pytest.approx(0.35, abs=0.01)
    noisy = exact[:, None] + np.random.default_rng(0).normal(0, 0.004, (5, 3))
    bench["report"].__globals__["DRAWS"] = 20
    bench["report"](sizes, noisy, tmp_path / "scaling.png")
    said = capsys.readouterr().out.splitlines()[-1]
    assert abs(float(said.split()[1]) - exact[-1]) < 0.03 and (tmp_path / "scaling.png").exists()
