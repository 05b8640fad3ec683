"""The callback objects of the training frameworks, made from their own base classes when one is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gpu_telemetry.errors import TelemetryError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from gpu_telemetry.callbacks import GpuMonitorCallback

NOT_INSTALLED = 3
"""Exit code of a command that needs a package which is optional and missing."""


def lightning(core: GpuMonitorCallback) -> Any:
    """A `lightning.pytorch.Callback`: samples during fit, validate, test and predict."""
    base = _base("PyTorch Lightning", ("lightning.pytorch", "pytorch_lightning"), "Callback", "lightning")

    class LightningGpuMonitor(base):  # type: ignore[misc, valid-type]
        """Starts with each stage and ends with it, also when it ends in an exception."""

        def setup(self, *_args: object, **_more: object) -> None:
            core.start()

        def teardown(self, *_args: object, **_more: object) -> None:
            core.stop()

        def on_exception(self, *_args: object, **_more: object) -> None:
            core.stop()

        def on_train_batch_end(self, *_args: object, **_more: object) -> None:
            core.pause_if_critical()

    return LightningGpuMonitor()


def transformers(core: GpuMonitorCallback) -> Any:
    """A `transformers.TrainerCallback`: samples from `on_train_begin` to `on_train_end`."""
    base = _base("Hugging Face Transformers", ("transformers",), "TrainerCallback", "transformers")

    class TransformersGpuMonitor(base):  # type: ignore[misc, valid-type]
        """Leaves the Trainer's control object as it is."""

        def on_train_begin(self, *_args: object, **_more: object) -> None:
            core.start()

        def on_train_end(self, *_args: object, **_more: object) -> None:
            core.stop()

        def on_step_end(self, *_args: object, **_more: object) -> None:
            core.pause_if_critical()

    return TransformersGpuMonitor()


def keras(core: GpuMonitorCallback) -> Any:
    """A `keras.callbacks.Callback`: samples from `on_train_begin` to `on_train_end`."""
    base = _base("Keras", ("keras.callbacks", "tensorflow.keras.callbacks"), "Callback", "keras")

    class KerasGpuMonitor(base):  # type: ignore[misc, valid-type]
        """Needs no logs, so it takes none."""

        def on_train_begin(self, logs: object = None) -> None:  # noqa: ARG002 - the name that Keras gives it.
            core.start()

        def on_train_end(self, logs: object = None) -> None:  # noqa: ARG002 - as above.
            core.stop()

        def on_train_batch_end(self, batch: int, logs: object = None) -> None:  # noqa: ARG002 - as above.
            core.pause_if_critical()

    return KerasGpuMonitor()


def _base(framework: str, modules: Sequence[str], name: str, package: str) -> type:
    for module in modules:
        found = _import(module)
        if found is not None:
            base: type = getattr(found, name)
            return base
    raise TelemetryError(
        f"{framework} is not installed",
        hint=f"pip install {package}, or use the callback as a context manager: with GpuMonitorCallback(): …",
        exit_code=NOT_INSTALLED,
    )


def _import(module: str) -> ModuleType | None:
    """The module; None where it is not installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        # Only the framework itself may be missing; what it fails to import is its own story.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
    return None
