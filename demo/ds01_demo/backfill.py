"""Put the past into a Prometheus data directory: what would have been scraped, and what the rules record of it.

`promtool tsdb create-blocks-from openmetrics` makes the blocks. Its sister for rules makes one block per rule and
two hours, a thousand for a day of ours, and finds nothing that another rule would have recorded. So a private
Prometheus without targets serves the scraped series, each rule is asked of it as a range query, level by level
(a level reads only what the levels before recorded), and it is restarted in between, which makes new blocks
visible at once. It listens on loopback without a password, for seconds, and holds simulated data only.

Finished blocks are put into the real data directory under their final names, one rename each. A Prometheus that
runs there finds them within a minute, one that is started later at once. `end` must not be after the first real
scrape: a Prometheus that starts on blocks forgets what its log holds from before their end.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import history
from .command import run, spawn
from .errors import DemoError
from .recorded import levels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .command import Process
    from .history import Span
    from .recorded import Rule
    from .world import World

_TOOL_SECONDS = 600.0
_READY_SECONDS = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Programs:
    """Where promtool and prometheus are."""

    promtool: str
    prometheus: str


def backfill(world: World, span: Span, data: Path, rules: Sequence[Path], programs: Programs) -> None:
    """Fill `data` with the blocks of `span`; nothing where there are blocks already.

    All blocks are put there at the end, so that one that is cut short leaves nothing and can be done again.
    Raises DemoError.
    """
    planned = levels(rules)
    if any(data.glob("*/meta.json")):
        log.info("%s holds a past already", data)
        return
    data.mkdir(parents=True, exist_ok=True)
    # Beside the data, so that blocks can be linked instead of copied.
    with tempfile.TemporaryDirectory(prefix=".ds01-demo-", dir=data.parent) as folder:
        scratch = Path(folder)
        text, private, finished = scratch / "scraped.om", scratch / "data", scratch / "finished"
        finished.mkdir()
        write(world, span, text)
        _make_blocks(programs, text, private)
        text.unlink()
        log.info("scraped series: %d blocks", deliver(private, finished))
        recorded = [_record(level, number, span, programs, scratch) for number, level in enumerate(planned)]
        if recorded:
            _join(recorded, text)
            _make_blocks(programs, text, scratch / "recorded")
            log.info("recorded series: %d blocks", deliver(scratch / "recorded", finished))
        deliver(finished, data)


def _make_blocks(programs: Programs, text: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    command = [programs.promtool, "tsdb", "create-blocks-from", "openmetrics", "-q", str(text), str(target)]
    run(command, timeout=_TOOL_SECONDS)


def _record(level: list[Rule], number: int, span: Span, programs: Programs, scratch: Path) -> Path:
    """Evaluate a level on the private server's data and add the result to them; the text of the result."""
    text = scratch / f"level-{number}.om"
    with (
        private_server(programs.prometheus, scratch, span.step) as url,
        text.open("w", encoding="utf-8") as out,
    ):
        for rule in level:
            out.writelines(evaluated(rule, span, url))
        out.write("# EOF\n")
    _make_blocks(programs, text, scratch / "data")
    return text


def _join(texts: Sequence[Path], target: Path) -> None:
    with target.open("w", encoding="utf-8") as out:
        for path in texts:
            with path.open(encoding="utf-8") as text:
                out.writelines(line for line in text if not line.startswith("#"))
        out.write("# EOF\n")


def evaluated(rule: Rule, span: Span, url: str) -> Iterator[str]:
    """What `rule` records over `span`, as OpenMetrics lines, each series once and in the order of time.

    Raises DemoError.
    """
    parameters = {
        "query": rule.expr,
        "start": span.start,
        "end": span.end,
        "step": rule.step(span.step),
        "timeout": f"{_TOOL_SECONDS:g}s",
    }
    body = urllib.parse.urlencode(parameters).encode()
    try:
        with urllib.request.urlopen(f"{url}/api/v1/query_range", body, timeout=_TOOL_SECONDS) as answer:  # noqa: S310
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        raise DemoError(f"{rule.record}: {error.read().decode(errors='replace')}") from error
    # Without the name, which a rule replaces, two series can be one whose parts follow each other: `a or b * 0`.
    merged: dict[tuple[tuple[str, str], ...], dict[float, str]] = {}
    for series in found["data"]["result"]:
        labels = {name: value for name, value in series["metric"].items() if name != "__name__"} | rule.labels
        merged.setdefault(tuple(sorted(labels.items())), {}).update(series["values"])
    for key, values in merged.items():
        yield history.series_text(
            rule.record, dict(key), [f" {values[time]} {time}\n" for time in sorted(values)]
        )


def before_first_scrape(data: Path) -> int:
    """The last moment that is surely before a Prometheus on `data` scraped first: its log's birth, else now."""
    log_directory = data / "wal"
    born = log_directory.stat().st_mtime if log_directory.exists() else time.time()
    return int(born)


def write(world: World, span: Span, path: Path) -> None:
    """Write the OpenMetrics text of `span` to `path`."""
    with path.open("w", encoding="utf-8") as text:
        text.writelines(history.lines(world, span))


def deliver(source: Path, target: Path) -> int:
    """Link the blocks of `source` into `target`; how many there are."""
    blocks = [path.parent for path in source.glob("*/meta.json")]
    for block in blocks:
        staged = target / f"{block.name}.from-demo"
        shutil.copytree(block, staged, copy_function=os.link)
        staged.rename(target / block.name)
    return len(blocks)


@contextlib.contextmanager
def private_server(program: str, scratch: Path, step: int = 60) -> Iterator[str]:
    """A Prometheus without targets on the blocks in `scratch`/data; its URL. Raises DemoError.

    Blocks made from text have no staleness marks: a series that has ended would be seen for five minutes more.
    Looking back for one and a half times the `step` of the data, in seconds, ends it at once.
    """
    config = scratch / "empty.yml"
    config.write_text("{}\n", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = spawn(
        [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={scratch / 'data'}",
            "--storage.tsdb.retention.time=10y",
            f"--query.lookback-delta={step * 3 // 2}s",
            # Equal durations switch compaction off, which would only cost time.
            "--storage.tsdb.min-block-duration=2h",
            "--storage.tsdb.max-block-duration=2h",
            f"--web.listen-address={address}",
        ]
    )
    try:
        _wait_until_ready(f"http://{address}/-/ready", process)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(url: str, process: Process) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(url, timeout=5),  # noqa: S310 - a URL of our own making.
        ):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise DemoError("the private Prometheus for recorded series did not start", hint="run it with --debug")
