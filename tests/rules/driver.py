"""Renders the rule templates as `render` does and runs promtool's unit tests on them, with every promtool at hand."""

from __future__ import annotations

import copy
import shutil
import subprocess  # noqa: TID251 - the doors are for the programs, not for their tests.
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ds01_monitoring.config.load import parse_settings
from ds01_monitoring.templates import Templates

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted((ROOT / "prometheus" / "rules").glob("*.yml.j2"))
CASES = sorted((Path(__file__).parent / "cases").glob("*.yml"))
SUITES = ("bookworm", "sid")
JOBS = ["dcgm-exporter", "ds01-exporter", "node-exporter", "prometheus", "alertmanager", "grafana"]
INVENTORY = [
    {"gpu": "0", "UUID": "GPU-a", "GPU_I_IDs": [], "slotless": []},
    {"gpu": "1", "UUID": "GPU-m", "GPU_I_IDs": ["1", "7"], "slotless": []},
    {"gpu": "2", "UUID": "GPU-s", "GPU_I_IDs": [], "slotless": [""]},
]


def promtools() -> dict[str, Path]:
    """The promtools that `make tools` fetched, by Debian suite; else the one on PATH."""
    found = {suite: ROOT / ".tools" / suite / "usr" / "bin" / "promtool" for suite in SUITES}
    found = {suite: tool for suite, tool in found.items() if tool.exists()}
    on_path = shutil.which("promtool")
    return found or ({"PATH": Path(on_path)} if on_path else {})


def variables(configuration: str = "", **more: object) -> dict[str, object]:
    """The template variables for a configuration text, on a host called gpu01."""
    settings = parse_settings("site: {host: gpu01}\n" + configuration)
    return {
        **settings.variables(),
        "jobs": JOBS,
        "inventory": INVENTORY,
        "demo": False,
        **more,
    }


def render(configuration: str = "", **more: object) -> dict[str, dict[str, Any]]:
    """Every rule file by its name, parsed."""
    templates = Templates(ROOT)
    values = variables(configuration, **more)
    return {
        template.name.removesuffix(".j2"): yaml.safe_load(
            templates.render(str(template.relative_to(ROOT)), values)
        )
        for template in TEMPLATES
    }


def rules_of(files: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """All rules of all files, in order."""
    return [
        rule
        for content in files.values()
        if content
        for group in content["groups"]
        for rule in group["rules"]
    ]


def write(files: dict[str, dict[str, Any]], folder: Path, *, annotations: bool = False) -> None:
    """Write the files as the cases want them: annotations have tests of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        bare = copy.deepcopy(content)
        for rule in rules_of({name: bare}) if not annotations else ():
            rule.pop("annotations", None)
        (folder / name).write_text(yaml.safe_dump(bare, sort_keys=False), encoding="utf-8")


@dataclass(frozen=True)
class Outcome:
    """What one promtool said of one case file."""

    suite: str
    case: str
    passed: bool
    output: str


def _name(case: Path) -> str:
    return f"case-{case.name}"


def install(cases: Iterable[Path], folder: Path) -> None:
    """Copy case files beside the rules; promtool evaluates groups in no order unless told one."""
    for case in cases:
        text = case.read_text(encoding="utf-8")
        groups = [
            group["name"]
            for file in yaml.safe_load(text)["rule_files"]
            for group in yaml.safe_load((folder / file).read_text(encoding="utf-8"))["groups"]
        ]
        order = f"group_eval_order: [{', '.join(groups)}]\n"
        (folder / _name(case)).write_text(order + text, encoding="utf-8")


def promtool(tool: Path, *args: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run promtool in `folder`."""
    return subprocess.run([str(tool), *args], cwd=folder, capture_output=True, text=True, check=False)


def run_case(tool: Path, case: Path, folder: Path, suite: str) -> Outcome:
    """Run one case file in `folder`, where the rendered rules lie."""
    done = promtool(tool, "test", "rules", _name(case), folder=folder)
    return Outcome(suite, case.name, done.returncode == 0, done.stdout + done.stderr)


def run_cases(cases: Iterable[Path], folder: Path, tools: dict[str, Path]) -> list[Outcome]:
    """Run the case files with each promtool, two at a time."""
    wanted = list(cases)
    install(wanted, folder)
    with ThreadPoolExecutor(max_workers=2) as pool:
        jobs = [
            pool.submit(run_case, tool, case, folder, suite)
            for suite, tool in tools.items()
            for case in wanted
        ]
        return [job.result() for job in jobs]
