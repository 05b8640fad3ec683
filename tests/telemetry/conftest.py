"""Drivers, machines and programs that the telemetry tests share."""

from __future__ import annotations

import json
import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent


def _load(name: str) -> Any:
    spec = spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


nvml_fake = _load("nvml_fake")


@pytest.fixture
def nvml() -> Iterator[Any]:
    """The fake NVML's module; `nvml.install(nvml.driver(nvml.card(0)))` makes a driver, taken away afterwards."""
    yield nvml_fake
    nvml_fake.uninstall()


@pytest.fixture
def fake_driver(tmp_path: Path) -> SimpleNamespace:
    """A driver for programs started with `environment`; `write` changes its state while they run."""
    file = tmp_path / "driver.json"

    def write(*cards: dict[str, Any], **changes: Any) -> None:
        fresh = tmp_path / "driver.json.new"
        fresh.write_text(json.dumps(nvml_fake.driver(*cards, **changes)))
        fresh.replace(file)

    environment = {
        **{name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"},
        "FAKE_NVML_STATE": str(file),
        "PYTHONPATH": str(HERE / "fake_site"),
    }
    return SimpleNamespace(write=write, environment=environment, card=nvml_fake.card, mig=nvml_fake.mig)


@pytest.fixture
def fake_smi(tmp_path: Path) -> Callable[..., Path]:
    """Makes an nvidia-smi that answers from a folder of captures; returns its path.

    `changes` replace the answer to an argument: {"-L": "…"}; `code` is its exit code for them.
    """

    def make(capture: str, changes: dict[str, str] | None = None, code: int = 0) -> Path:
        program = tmp_path / "nvidia-smi"
        settings = {"folder": str(HERE / "captures" / capture), "changes": changes or {}, "code": code}
        program.with_name("nvidia-smi.json").write_text(json.dumps(settings))
        program.write_text(f"#!{sys.executable}\n" + (HERE / "smi_fake.py").read_text())
        program.chmod(0o755)
        return program

    return make
