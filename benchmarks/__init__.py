"""Each script measures one claim; `RESULTS.md` has what came out, with machine and date."""
