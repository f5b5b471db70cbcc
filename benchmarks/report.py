"""Write the tables of `benchmarks/RESULTS.md` and the charts of the documentation from the measurements.

The prose of RESULTS.md is written by hand; the text between two markers with the same name is replaced.
"""

import statistics
from pathlib import Path
from typing import Any, Final

from tests.markdown import build_table, replace_marked

_RESULTS: Final = Path(__file__).with_name("RESULTS.md")
_IMAGES: Final = Path(__file__).parents[1] / "docs" / "images"
_OURS: Final = ("fastapi-logto", "fastapi-logto, scopes", "fastapi-logto[aws-lc]")
_KINDS: Final = ("again", "new", "forged")
_FLAT: Final = 1.15
_BASELINES: Final = ("unprotected", "HTTPBearer", "HTTPBearer in a dependency", "key.verify")


def write(results: dict[str, Any]) -> None:
    """Replace the tables and charts of the measured scenarios with the contents of `benchmarks/results.json`."""
    text = _RESULTS.read_text(encoding="utf-8")
    tables = {"machine": _machine(results["machine"])}
    needed = {"known", "in-process", "new-in-process", "new", "disturbance", "disturbance-frozen", "memory", "import"}
    if needed <= results.keys():
        tables["numbers"] = _numbers(results)
    if "known" in results:
        found = results["known"]
        rows = [
            (
                _emphasise(name),
                *(f"{ratio(found, name, base):.2f}" for ratio in (_ratio, _cpu_ratio) for base in _BASELINES[:3]),
            )
            for name in found
        ]
        head = (
            "known token, ES384",
            *(f"{kind} over {base}" for kind in ("rate", "by CPU,") for base in _BASELINES[:3]),
        )
        tables["known"] = build_table(head, rows)
    for scenario in ("again", "thousand", "new"):
        if scenario in results:
            tables[scenario] = _rates(results[scenario])
            for algorithm, found in results[scenario].items():
                _draw(f"{scenario}-{algorithm}", _over(found, "HTTPBearer"))
    for scenario in ("disturbance", "disturbance-frozen", "disturbance-short"):
        if scenario in results:
            tables[scenario] = _disturbance(results[scenario])
    if "slow-provider" in results:
        tables["slow-provider"] = _slow_provider(results["slow-provider"])
    if "turns" in results:
        tables["turns"] = build_table(
            ("signature", "budget of a turn", "longest wait of other tasks, in verifications", "CPU per verification"),
            [
                (kind, name, f"{row['wait']:.1f}", f"{row['cpu']:.2f}")
                for kind, rows in results["turns"].items()
                for name, row in rows.items()
            ],
        )
    if "in-process" in results:
        base = results["in-process"]["HTTPBearer"]
        tables["in-process"] = build_table(
            ("route", "CPU per request, relative to `HTTPBearer`", "difference"),
            [(name, f"{cost / base:.2f}", f"{cost - base:+.0f} µs") for name, cost in results["in-process"].items()],
        )
    if "new-in-process" in results:
        names = ("joserfc", "auth", "require_scopes", "HTTPBearer")
        tables["new-in-process"] = build_table(
            ("CPU per request with a new token, relative to plain joserfc", *names),
            [(kind, *(f"{one[name]:.2f}" for name in names)) for kind, one in results["new-in-process"].items()],
        )
    if "revocation" in results:
        tables["revocation"] = _revocation(results["revocation"])
    if "soak" in results:
        tables["soak"] = _soak(results["soak"])
    if "unrelated" in results:
        tables["unrelated"] = _unrelated(results["unrelated"])
    if "growth" in results:
        tables["growth"] = _growth(results["growth"])
    if "load" in results:
        tables["load"] = _load(results["load"]["workers"])
        tables["load-memory"] = _load_memory(results["load"]["workers"])
    if "start" in results:
        base = results["start"]["unprotected"]
        tables["start"] = build_table(
            ("", "start to first accepted request, relative to the unprotected application"),
            [(name, f"{seconds / base:.2f}") for name, seconds in results["start"].items()],
        )
    _RESULTS.write_text(replace_marked(text, tables), encoding="utf-8")


def _machine(machine: dict[str, Any]) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    return (
        f"{machine['date']}: {machine['processor']}, {machine['cores']} cores; Python {machine['python']}, {packages}; "
        "uvicorn with uvloop and httptools, one worker; 16 connections of wrk."
    )


def _ratio(found: dict[str, Any], name: str, base: str) -> float:
    """Return the median of the ratios of all rounds."""
    pairs = zip(found[name]["rates"], found[base]["rates"], strict=True)
    return float(statistics.median(rate / other for rate, other in pairs))


def _cpu_ratio(found: dict[str, Any], name: str, base: str) -> float:
    """Return the same for requests per second of server CPU, which a busy neighbour hardly affects."""
    pairs = zip(found[name]["cpus"], found[base]["cpus"], strict=True)
    return float(statistics.median(other / cpu for cpu, other in pairs))


def _over(found: dict[str, Any], base: str) -> dict[str, float]:
    return {name: _ratio(found, name, base) for name in found}


def _rates(scenario: dict[str, Any]) -> str:
    parts: list[str] = []
    for algorithm, found in scenario.items():
        rows = [
            (
                _emphasise(name),
                f"{_ratio(found, name, 'HTTPBearer'):.2f}",
                f"{_ratio(found, name, 'unprotected'):.2f}",
                f"{one['p50'] / found['HTTPBearer']['p50']:.1f}",
                f"{one['p99'] / found['HTTPBearer']['p99']:.1f}",
            )
            for name, one in sorted(found.items(), key=lambda item: -item[1]["rate"])
        ]
        head = (algorithm, "rate over `HTTPBearer`", "over unprotected", "p50 over `HTTPBearer`", "p99")
        parts.append(build_table(head, rows))
    return "\n\n".join(parts)


def _emphasise(name: str) -> str:
    return f"**{name}**" if name in _OURS else name


def _disturbance(found: dict[str, Any]) -> str:
    rows = [
        (_emphasise(name), f"{kinds['new'] / kinds['calm']:.1f}", f"{kinds['forged'] / kinds['calm']:.1f}")
        for name, kinds in found.items()
    ]
    return build_table(
        ("p99 of another route, relative to its p99 without tokens", "new tokens", "forged tokens"), rows
    )


def _slow_provider(found: dict[str, Any]) -> str:
    rows = [
        (_emphasise(name), f"{times['before'] / 1e3:.0f} ms", f"{times['during'] / 1e3:.0f} ms")
        for name, times in found.items()
    ]
    return build_table(
        ("longest response to a token with a known `kid`", "before", "while the key set takes 2 s"), rows
    )


def _revocation(found: dict[str, Any]) -> str:
    load, cost, propagation = found["load"], found["cost"], found["propagation"]
    rows = [
        (what, f"≤ {wanted:g} {unit}", f"{value:.1f} {unit}", "yes" if value <= wanted else "**no**")
        for what, wanted, unit, value in (
            ("from `revoke` to the refusal in four other processes, p99", 250, "ms", propagation["p99"]),
            ("CPU of a request with a cached token, over one without revocations", 2, "µs", cost["difference"]),
            ("memory of a process", 30, "MiB", load["mebibytes"]),
            ("load at the start", 2, "s", load["seconds"]),
            ("longest turn of the event loop during the load, p99", 0.5, "ms", load["held_p99"]),
        )
    ]
    rows.append(("from `revoke` to the refusal in four other processes, p50", "", f"{propagation['p50']:.1f} ms", ""))
    rows.append(("the longest turn of all", "", f"{load['held_longest']:.0f} ms", ""))
    return build_table(("100,000 revocations in Redis", "target", "result", "reached"), rows)


def _soak(found: dict[str, Any]) -> str:
    before, after = (max(found[f"memory_mib_{when}"]) for when in ("after_a_third", "at_the_end"))
    rows = [
        ("requests", f"{found['requests']}"),
        ("responses that the policy does not allow", f"{found['wrong_count']}"),
        ("memory of the largest worker after a third of the time", f"{before:.1f} MiB"),
        ("memory of the largest worker at the end", f"{after:.1f} MiB"),
        *((f"`{outcome}`", f"{count}") for outcome, count in found["outcomes"].items()),
    ]
    return build_table((f"{found['seconds']:g} seconds", "result"), rows)


def _unrelated(found: dict[str, Any]) -> str:
    medians = {
        name: {kind: statistics.median(ratios) for kind, ratios in kinds.items()} for name, kinds in found.items()
    }
    # A median of these rounds differs from 1 by this factor although nothing has changed.
    noise = max(max(one["again"], 1 / one["again"]) for one in medians.values())
    rows = [
        (
            name,
            *(f"{one[kind]:.2f} ({min(found[name][kind]):.1f} to {max(found[name][kind]):.1f})" for kind in _KINDS),
            *(f"{one[kind] / one['idle']:.1f}" for kind in ("calm", *_KINDS[1:])),
            "yes" if max(one["new"], one["forged"]) <= noise else "**no**",
        )
        for name, one in ((name, {"calm": 1.0, **one}) for name, one in medians.items())
    ]
    head = ("Python, signatures", "calm again", "new tokens", "forged tokens")
    idle = ("calm, over idle", "new tokens, over idle", "forged tokens, over idle")
    return build_table((*head, *idle, f"at most {noise:.2f}, the noise"), rows)


def _growth(found: dict[str, Any]) -> str:
    rows = [
        (
            name,
            " → ".join(f"{size:,}" for size in one["sizes"]),
            " → ".join(f"{ratio:.2f}" for ratio in one["ratios"]),
            f"{one['noise']:.2f}",
            "flat" if one["ratios"][-1] <= _FLAT else "**grows**",
        )
        for name, one in found.items()
    ]
    return build_table(("what grows", "sizes", "CPU per request, over the smallest", "smallest, built again", ""), rows)


def _load(found: dict[str, Any]) -> str:
    parts: list[str] = []
    for workers, one in found.items():
        rows = [
            (
                row["phase"],
                f"{row['stream']} ({row['clients']})",
                f"{row['rate']:.2f}",
                f"{row['p50']:.1f}",
                f"{row['p99']:.1f} ({row['p99_range'][0]:.1f} to {row['p99_range'][1]:.1f})",
                ", ".join(f"{status}: {count:,}" for status, count in row["statuses"].items()),
                f"{row['wrong']}",
            )
            for row in one["rows"]
        ]
        title = f"{workers} worker{'s' if workers != '1' else ''}, {one['seconds']:.0f} s"
        parts.append(build_table((title, "requests (clients)", "rate", "p50", "p99", "statuses", "wrong"), rows))
    return "\n\n".join(parts)


def _load_memory(found: dict[str, Any]) -> str:
    rows = [
        (
            f"{number} of {workers}",
            f"{memory['second']:.1f} MiB",
            f"{memory['last']:.1f} MiB",
            f"{memory['last'] / memory['second'] - 1:+.1%}",
        )
        for workers, one in found.items()
        for number, memory in enumerate(one["memory"], 1)
    ]
    return build_table(("worker", "memory in the second fifth", "in the last fifth", "growth"), rows)


def list_problems(scenario: str, found: Any) -> list[str]:
    """Return what a scenario found that must not happen, whatever the machine: wrong responses, growing memory."""
    if scenario == "load":
        return [f"load: {problem}" for problem in found["problems"]]
    if scenario == "soak" and found["wrong_count"]:
        return [f"soak: {found['wrong_count']} responses that the policy does not allow, such as {found['wrong'][0]}"]
    return []


def _numbers(results: dict[str, Any]) -> str:
    known, new, cpu = results["known"], results["new"]["ES384"], results["in-process"]

    def reached(is_reached: bool) -> str:  # noqa: FBT001 - a cell of a table
        return "yes" if is_reached else "**no**"

    def row(what: str, wanted: str, found: str, *, is_reached: bool) -> tuple[str, ...]:
        return (what, wanted, found, reached(is_reached))

    rows: list[tuple[str, ...]] = []
    for label, name in (("`Depends(auth)`", "fastapi-logto"), ("`require_scopes`", "fastapi-logto, scopes")):
        for base, wanted in (("HTTPBearer", 0.95), ("unprotected", 0.75)):
            value = _ratio(known, name, base)
            rows.append(
                row(
                    f"same token again, ES384, {label}: rate over {base}",
                    f"≥ {wanted}",
                    f"{value:.2f}",
                    is_reached=value >= wanted,
                )
            )
    value = _ratio(known, "fastapi-logto, scopes", "HTTPBearer in a dependency")
    rows.append(
        row(
            "the same, `require_scopes` over `HTTPBearer` in a dependency",
            "≥ 0.97",
            f"{value:.2f}",
            is_reached=value >= 0.97,
        )
    )
    for label, name, base in (
        ("`Depends(auth)` over `HTTPBearer`", "auth", "HTTPBearer"),
        ("`require_scopes` over `HTTPBearer`", "require_scopes", "HTTPBearer"),
        ("`require_scopes` over `HTTPBearer` in a dependency", "require_scopes", "HTTPBearer in a dependency"),
    ):
        value = cpu[name] - cpu[base]
        rows.append(row(f"CPU in process, cached token: {label}", "≤ 10 µs", f"{value:.0f} µs", is_reached=value <= 10))
    value = _ratio(new, "fastapi-logto", "key.verify")
    rows.append(
        row("every token new, ES384: rate over `key.verify` alone", "≥ 0.95", f"{value:.2f}", is_reached=value >= 0.95)
    )
    for algorithm, found in results["new"].items():
        best = max(found.keys() - {*_OURS, *_BASELINES}, key=lambda name: _ratio(found, name, "HTTPBearer"))
        for name, wanted in (("fastapi-logto", 1), ("fastapi-logto[aws-lc]", 2)):
            if name in found:
                value = _ratio(found, name, best)
                what = f"every token new, {algorithm}: rate of {name} over the best peer ({best})"
                rows.append(row(what, f"≥ {wanted}", f"{value:.2f}", is_reached=value >= wanted))
    for kind, one in results["new-in-process"].items():
        what = f"CPU in process, every token new, {kind}: `Depends(auth)` over joserfc"
        rows.append(row(what, "≤ 1", f"{one['auth']:.2f}", is_reached=one["auth"] <= 1))
    for scenario, where in (("disturbance", ""), ("disturbance-frozen", ", with `gc.freeze()`")):
        for name in ("fastapi-logto", "fastapi-logto[aws-lc]"):
            for kind in ("new", "forged"):
                value = results[scenario][name][kind] / results[scenario][name]["calm"]
                what = f"p99 of another route under {kind} ES384 tokens, {name}{where}"
                rows.append(row(what, "≤ 3", f"{value:.1f}", is_reached=value <= 3))
    rows.append(
        row(
            "memory of a cached token",
            "≤ 2048 bytes",
            f"{results['memory']:.0f} bytes",
            is_reached=results["memory"] <= 2048,
        )
    )
    rows.append(
        row(
            "`import fastapi_logto` over `import fastapi`",
            "≤ 0.25",
            f"{results['import']:.2f}",
            is_reached=results["import"] <= 0.25,
        )
    )
    return build_table(("measurement", "target", "result", "reached"), rows)


def _draw(name: str, ratios: dict[str, float]) -> None:
    """Draw a bar chart, the longest bar at the top."""
    import matplotlib as mpl
    import matplotlib.pyplot as plt

    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "fastapi-logto", "font.family": "sans-serif"})
    ordered = sorted(ratios.items(), key=lambda item: item[1])
    figure, axes = plt.subplots(figsize=(8, 0.36 * len(ordered) + 0.9))
    colours = ["#5d34f2" if label in _OURS else "#b8b8c4" if label in _BASELINES else "#e8975a" for label, _ in ordered]
    bars = axes.barh([label for label, _ in ordered], [value for _, value in ordered], color=colours)
    axes.bar_label(bars, labels=[f"{value:.2f}" for _, value in ordered], padding=3, color="#808080")
    axes.set_xlabel("requests per second, relative to HTTPBearer, which verifies nothing", color="#808080")
    axes.tick_params(colors="#808080")
    axes.spines[:].set_visible(False)
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    figure.tight_layout()
    figure.savefig(_IMAGES / f"speed-{name}.svg", metadata={"Date": None})
    plt.close(figure)
