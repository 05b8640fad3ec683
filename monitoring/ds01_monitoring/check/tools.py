"""Asks promtool and amtool, the servers' own checkers, what they think of a rendered tree."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ds01_monitoring import command
from ds01_monitoring.check.findings import Finding, error, source_place, warning
from ds01_monitoring.errors import UserError
from ds01_monitoring.runtime import binaries, engine

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ds01_monitoring.tree import RenderedTree

TOOL_SECONDS, ASK_SECONDS = 30, 5
OLDEST_PROMETHEUS = (2, 42)
"""The first that knows `keep_firing_for` (Prometheus' changelog)."""
INSTALL_HINT = (
    "install the packages prometheus and prometheus-alertmanager, or let `monitoring-manage start` fetch them"
)


@dataclass(frozen=True)
class Tool:
    """A checker that can be started: its arguments so far, and where it comes from."""

    name: str
    args: tuple[str, ...]

    def run(self, *args: str) -> tuple[bool, str]:
        """Whether it is content, and what it said."""
        try:
            done = command.run([*self.args, *args], timeout=TOOL_SECONDS, check=False)
        except UserError as failure:
            return False, str(failure)
        return done.returncode == 0, done.stdout


def find(tree: RenderedTree, path: str | None = None) -> dict[str, Tool]:
    """The checkers that are here: on PATH, else in the state directory, else in an image that is here.

    `path` stands for PATH and the state directory together.
    """
    state = tree.context.state
    path = path or os.pathsep.join(
        [os.environ.get("PATH", os.defpath), str(state.bin), *map(str, sorted(state.bin.glob("*/usr/bin")))]
    )
    tools: dict[str, Tool] = {}
    for name, image in (
        ("promtool", tree.context.settings.images.prometheus),
        ("amtool", tree.context.settings.images.alertmanager),
    ):
        program = binaries.find(name, path)
        if program:
            tools[name] = Tool(name, (str(program),))
        elif tree.context.runtime == "compose" and _image_is_here(image):
            tools[name] = Tool(name, _in_image(name, image, tree.path))
    return tools


def check(tree: RenderedTree, tools: Mapping[str, Tool], *, ask_amtool: bool = True) -> list[Finding]:
    """Findings of promtool (configuration with all rules) and, where wanted, amtool, which run side by side."""
    jobs = [
        partial(_ask, tree, tools.get("promtool"), "promtool", "check", "config", "prometheus/prometheus.yml")
    ]
    if ask_amtool:
        amtool = tools.get("amtool")
        jobs.append(partial(_ask, tree, amtool, "amtool", "check-config", "alertmanager/alertmanager.yml"))
    with ThreadPoolExecutor(len(jobs)) as pool:
        return [finding for found in pool.map(lambda job: job(), jobs) for finding in found]


def version(tool: Tool | None) -> tuple[int, ...]:
    """The tool's version, which is its server's; empty when unknown."""
    if tool is None:
        return ()
    _, output = tool.run("--version")
    return binaries.version_in(output)


def _ask(tree: RenderedTree, tool: Tool | None, name: str, *args: str) -> list[Finding]:
    file = args[-1]
    if tool is None:
        return [_untested(tree, name, file)]
    content, output = tool.run(*args[:-1], str(tree.path / file))
    if content:
        return []
    found = version(tool) if name == "promtool" else ()
    return [_too_old(found)] if found and found < OLDEST_PROMETHEUS else [_explain(tree, name, file, output)]


def _untested(tree: RenderedTree, name: str, file: str) -> Finding:
    """Why there is no tool: under compose it may be in an image of an Engine that does not answer."""
    problem, hint = f"{name} was not found", INSTALL_HINT
    if tree.context.runtime == "compose":
        try:
            engine.check(ASK_SECONDS)
        except UserError as failure:
            problem, hint = f"{name} was not found outside its image, and {failure.problem}", failure.hint
    return warning(f"{problem}: {file} was not checked", hint=hint, untested=True)


def _too_old(prometheus: tuple[int, ...]) -> Finding:
    found, needed = (".".join(map(str, numbers)) for numbers in (prometheus, OLDEST_PROMETHEUS))
    return error(
        f"Prometheus {found} has no keep_firing_for, which the rules need; {needed} or later is needed",
        hint=f"install Prometheus {needed} or later; under compose, take the old promtool off PATH",
    )


def _explain(tree: RenderedTree, name: str, file: str, output: str) -> Finding:
    said = [line.strip() for line in output.splitlines() if line.strip()]
    start = next((index for index, line in enumerate(said) if "FAILED" in line), 0)
    told = [line.partition("FAILED:")[2].strip() or line for line in said[start:]]
    told = [line for line in told if "SUCCESS" not in line and not line.startswith(("Checking ", "FAILED:"))]
    problem = " / ".join(told[:4]) or "not accepted, without a reason"
    for rendered in sorted(tree.sources, key=len, reverse=True):
        if str(tree.path / rendered) in problem or f"/{rendered}:" in problem:
            file = rendered
            break
    problem = problem.replace(f"{tree.path}{os.sep}", "")
    needle = re.search(r'rule \d+, "([^"]+)"', problem)
    place = source_place(tree, file, needle[1] if needle else "")
    return error(f"{name}: {problem}", place=place, hint=f"the rendered file is {tree.path / file}")


def _image_is_here(image: str) -> bool:
    try:
        return (
            command.run(["docker", "image", "inspect", image], timeout=ASK_SECONDS, check=False).returncode
            == 0
        )
    except UserError:
        return False


def _in_image(name: str, image: str, folder: Path) -> tuple[str, ...]:
    mount = f"type=bind,src={folder},dst={folder},readonly"
    return (
        *(
            "docker",
            "run",
            "--rm",
            "--pull",
            "never",
            "--network",
            "none",
            "--read-only",
            "--cap-drop",
            "ALL",
        ),
        *("--mount", mount, "--entrypoint", name, image),
    )
