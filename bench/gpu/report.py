"""The report: one JSON file, and tables in Markdown for the README."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.gpu.parts import Outcome
from zeptodb.demo.text_table import format_ratio, format_seconds

FORMAT = 1

Report = dict[str, Any]
Entries = list[dict[str, Any]]


def report_of(outcomes: Sequence[Outcome], *, commit: str, date: datetime, seconds: float) -> Report:
    """Everything that the parts have found so far."""
    device = next(iter(_found(outcomes, "device")), {})
    return {
        "format": FORMAT,
        "commit": commit,
        "date": date.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "device": device.get("name"),
        "driver": device.get("driver"),
        "versions": {k: v for k, v in next(iter(_found(outcomes, "versions")), {}).items() if k != "what"},
        "problems": problems(outcomes),
        "parts": [asdict(outcome) for outcome in outcomes],
    }


def problems(outcomes: Iterable[Outcome]) -> list[str]:
    """What a person must look at: parts that did not end well, wrong answers, errors that tools found."""
    found = []
    for outcome in outcomes:
        if outcome.status != "done":
            found.append(f"{outcome.name}: {outcome.status}: {outcome.reason}")
        for entry in outcome.found:
            if entry["what"] == "failure":
                found.append(f"{entry['operation']}, {entry['rows']:,} rows: {entry['error']}")
            elif entry["what"] == "conformance" and entry["failed"]:
                found.append(f"conformance: {entry['failed']} tests fail on {entry['backend']}: {entry['failures'][0]}")
            elif entry["what"] == "sanitizer" and (entry["errors"] or entry["exit_status"]):
                found.append(f"{entry['tool']}: {entry['errors']} errors, exit status {entry['exit_status']}")
    return found


def file_name(report: Report) -> str:
    """`gpu-nvidia-h200-2026-11-25.json`."""
    device = re.sub(r"[^a-z0-9]+", "-", (report["device"] or "unknown").lower()).strip("-")
    return f"gpu-{device}-{report['date'][:10]}.json"


def write_report(report: Report, path: Path) -> None:
    """In one step, so that a run that is ended leaves a whole file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    scratch.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    scratch.replace(path)


def _found(outcomes: Iterable[Outcome], what: str) -> Entries:
    return [entry for outcome in outcomes for entry in outcome.found if entry["what"] == what]


# ---- Markdown ------------------------------------------------------------------------------------------------------


def markdown(report: Report) -> str:
    """The tables, and what was skipped."""
    outcomes = [Outcome(**part) for part in report["parts"]]
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items() if number)
    driver = report["driver"] or "driver unknown"
    head = f"{report['device']}, {report['date'][:10]}, commit {report['commit'][:12]}; {driver}; {versions}."
    sections = [head, _operations(outcomes), _opponents(outcomes), _link(outcomes), _checks(outcomes)]
    if report["problems"]:
        sections.append("Problems:\n" + "\n".join(f"- {_first_line(text)}" for text in report["problems"]))
    skipped = [f"- {e['skipped']}: {_first_line(e['reason'])}" for o in outcomes for e in o.skipped]
    if skipped:
        sections.append("Skipped:\n" + "\n".join(skipped))
    return "\n\n".join(section for section in sections if section)


def _operations(outcomes: Sequence[Outcome]) -> str:
    """A row per operation, per size the device's time, its rate and the share of the floor."""
    entries = _found(outcomes, "operation")
    sizes = sorted({entry["rows"] for entry in entries})
    rows = []
    for name in dict.fromkeys(entry["operation"] for entry in entries):
        cells = [name]
        for size in sizes:
            of_size = [e for e in entries if e["operation"] == name and e["rows"] == size]
            cells.append(_time_and_share(of_size[0]) if of_size else "-")
        rows.append(cells)
    if not rows:
        return ""
    copied = _found(outcomes, "copy within the device")
    rate = f"a copy within the device moves {copied[0]['bytes_per_second'] / 1e12:.2f} TB/s" if copied else ""
    note = f"Device's time · call until the answer is on the host · GB/s · share of the floor ({rate})."
    return _table(["rows", *(f"{size:.0e}".replace("e+0", "e") for size in sizes)], rows) + "\n\n" + note


def _time_and_share(entry: dict[str, Any]) -> str:
    if not entry["kernels"]:
        return f"- · {format_seconds(entry['seconds'])}"
    times = f"{format_seconds(entry['device_seconds'])} · {format_seconds(entry['seconds'])}"
    return f"{times} · {entry['bytes_per_second'] / 1e9:,.0f} · {entry['share_of_floor']:.0%}"


def _opponents(outcomes: Sequence[Outcome]) -> str:
    entries = _found(outcomes, "opponent")
    names = list(dict.fromkeys(entry["opponent"] for entry in entries))
    rows = []
    for operation, size in dict.fromkeys((entry["operation"], entry["rows"]) for entry in entries):
        here = {e["opponent"]: e for e in entries if (e["operation"], e["rows"]) == (operation, size)}
        on_device = [format_seconds(e["our_seconds"]) for e in here.values() if e["is_on_device"]]
        on_host = [format_seconds(e["our_seconds"]) for e in here.values() if not e["is_on_device"]]
        cells = [
            f"{format_seconds(here[name]['seconds'])} ({format_ratio(here[name]['ratio'])})" if name in here else "-"
            for name in names
        ]
        rows.append([operation, f"{size:,}", (on_device or ["-"])[0], (on_host or ["-"])[0], *cells])
    if not rows:
        return ""
    note = "Answers of CuPy and torch stay on the device and are set against our device's time, others against a call."
    return _table(["work", "rows", "our device", "our call", *names], rows) + "\n\n" + note


def _link(outcomes: Sequence[Outcome]) -> str:
    rows = [
        [f"{e['memory']} {e['direction']}", f"{e['bytes']:,}", f"{e['bytes_per_second'] / 1e9:.2f} GB/s"]
        for e in _found(outcomes, "copy")
    ]
    for entry in _found(outcomes, "page-lock"):
        touched = "in use" if entry["touched_before"] else "never touched"
        size, rate = f"{entry['slabs']} x {entry['slab_bytes']:,}", f"{entry['bytes_per_second'] / 1e9:.2f} GB/s"
        rows.append([f"page-lock memory {touched}", size, rate])
    rows += [[e["what"], "", format_seconds(e["seconds"])] for e in _found(outcomes, "launch")]
    rows += [[e["what"], "", format_seconds(e["seconds"])] for e in _found(outcomes, "round trip")]
    for e in _found(outcomes, "overlap"):
        rates, times = f"{e['bytes_per_second_beside'] / 1e9:.2f} GB/s", format_seconds(e["query_seconds_beside"])
        rows.append(["page-locked to device, queries beside", f"{e['bytes']:,}", rates])
        rows.append([f"query, {format_seconds(e['query_seconds'])} alone, copies beside", "", times])
    return _table(["link", "bytes", "rate or time"], rows) if rows else ""


def _checks(outcomes: Sequence[Outcome]) -> str:
    lines = [
        f"- conformance on {e['backend']}: {e['passed']} passed, {e['failed']} failed, {e['skipped']} skipped"
        for e in _found(outcomes, "conformance")
    ]
    lines += [f"- {e['tool']}: {e['errors']} errors" for e in _found(outcomes, "sanitizer")]
    return "\n".join(lines)


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in headers[1:])]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (headers, rule, *rows))


def _first_line(text: str) -> str:
    return text.strip().splitlines()[0] if text.strip() else ""
