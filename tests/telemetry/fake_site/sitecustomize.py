"""Puts the fake NVML below nvidia-ml-py in a program that a test starts with this folder in PYTHONPATH."""

from __future__ import annotations

import os
import sys
from pathlib import Path

if os.environ.get("FAKE_NVML_STATE"):
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    import nvml_fake

    nvml_fake.install(Path(os.environ["FAKE_NVML_STATE"]))
