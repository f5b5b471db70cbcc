"""Benchmarks. Each script measures one claim; `RESULTS.md` has the results, with machine and date."""
