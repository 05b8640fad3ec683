"""The training callback: it tells what happens and cannot stop the training."""

import sys
import threading
import types

import pytest

from gpu_telemetry import AlertConfig, GpuMonitor, GpuMonitorCallback, MockGpuBackend
from gpu_telemetry.errors import TelemetryError

SECONDS = 20
"""How long a test waits for something that comes within milliseconds."""


class Probe:
    """Collects what a callback is told, and lets a test wait for it."""

    def __init__(self):
        self.told = []
        self._changed = threading.Condition()

    def __call__(self, thing):
        """Takes one thing."""
        with self._changed:
            self.told.append(thing)
            self._changed.notify_all()

    def wait_for(self, count):
        """Returns what was told, once that is at least `count` things."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.told) >= count, SECONDS), self.told
            return list(self.told)


@pytest.fixture
def backend():
    """One GPU at 85 °C."""
    return MockGpuBackend().with_device(0, "Mock GPU 0").with_temperature(85)


@pytest.fixture
def callback(backend):
    """A callback that samples that GPU often."""
    return GpuMonitorCallback(GpuMonitor(backend, environ={})).with_interval_secs(0.01)


def test_a_context_manager_tells_alerts_and_their_end(callback, backend):
    """The documented use: build it, run the training inside it."""
    fired, over, samples = Probe(), Probe(), Probe()
    callback.with_thermal_threshold(80).on_alert(fired).on_resolved(over).on_sample(samples)
    with callback:
        assert fired.wait_for(1)[0].message() == "GPU 0 thermal throttling: 85°C exceeds 80°C threshold"
        backend.with_temperature(60)
        assert over.wait_for(1)[0].kind == "ThermalThrottling"
        assert samples.wait_for(1)[0][0].device_id == 0
    assert len(fired.told) == 1


def test_an_explicit_threshold_holds_beside_throttle_reasons(callback, backend):
    """Who asks for 80 °C is told at 80 °C, also when the driver does not throttle yet."""
    fired = Probe()
    backend.with_throttle_reasons()
    with callback.with_thermal_threshold(80).on_alert(fired):
        assert fired.wait_for(1)[0].temp == 85


def test_a_broken_alert_callback_does_not_end_sampling(callback):
    """What on_alert raises ends there."""
    samples = Probe()

    def broken(_alert):
        raise ZeroDivisionError

    with callback.on_alert(broken).on_sample(samples):
        samples.wait_for(3)


def test_a_broken_sample_callback_and_a_lost_driver_do_not_end_sampling(callback, backend, caplog):
    """The thread outlives whatever is wrong, says it once, and goes on when it is over."""
    samples = Probe()

    def broken(_metrics):
        raise ZeroDivisionError("logger is closed")

    backend.with_failure("lost")
    with callback.on_sample(samples).on_sample(broken):
        for _ in range(200):
            if "not watched now" in caplog.text:
                break
            threading.Event().wait(0.01)
        backend.with_failure(None)
        samples.wait_for(3)
    assert caplog.text.count("the mock was told to fail") == 1
    assert caplog.text.count("ZeroDivisionError: logger is closed") == 1


def test_it_can_be_used_again(callback):
    """A second training with the same callback is watched like the first."""
    fired = Probe()
    callback.on_alert(fired)
    for run in (1, 2):
        with callback:
            fired.wait_for(run)


def test_only_the_first_process_of_a_training_samples(callback, monkeypatch):
    """Eight ranks of one training tell an alert once."""
    monkeypatch.setenv("LOCAL_RANK", "3")
    with callback:
        assert callback.andon is None


def test_the_training_pauses_while_it_is_critical_and_goes_on(callback, backend):
    """Between two batches the training waits until the GPU has cooled down."""
    fired, hot = Probe(), threading.Event()
    callback.on_alert(fired).with_pause_on_critical(severity=55, max_secs=SECONDS)

    def cool_down(_alert):
        threading.Timer(0.05, lambda: (hot.set(), backend.with_temperature(50))).start()

    assert callback.pause_if_critical() == 0, "nothing is known before it starts"
    with callback.on_alert(cool_down):
        fired.wait_for(1)
        while callback._released.is_set() and not hot.is_set():
            threading.Event().wait(0.001)
        callback.pause_if_critical()
        assert hot.is_set(), "it went on before the GPU had cooled down"


def test_a_pause_ends_after_its_longest_time_and_is_not_repeated(callback):
    """A GPU that stays hot holds the training once."""
    samples = Probe()
    callback.on_sample(samples).with_pause_on_critical(severity=50, max_secs=0.05)
    with callback:
        samples.wait_for(1)
        assert callback.pause_if_critical() > 0
        samples.wait_for(len(samples.told) + 3)
        assert callback.pause_if_critical() == 0


def test_memory_does_not_pause_unless_it_is_asked_to(callback, backend):
    """Waiting gives no memory back, so a framework that takes it all is not held."""
    samples = Probe()
    backend.with_temperature(40).with_memory(100, 100)
    with callback.on_sample(samples).with_pause_on_critical():
        samples.wait_for(2)
        assert callback.andon.has_critical_alerts()
        assert callback.pause_if_critical() == 0


@pytest.mark.parametrize("seconds", [0, -1])
def test_an_interval_must_be_positive(callback, seconds):
    """A callback that would spin is refused."""
    with pytest.raises(ValueError, match="above zero"):
        callback.with_interval_secs(seconds)


@pytest.mark.parametrize(
    ("variable", "value", "ours"),
    [
        ("CUDA_VISIBLE_DEVICES", "0", True),
        ("NVIDIA_VISIBLE_DEVICES", "GPU-1", True),
        ("NVIDIA_VISIBLE_DEVICES", "all", False),
        ("CUDA_VISIBLE_DEVICES", "", False),
    ],
)
def test_a_hang_is_seen_where_processes_are_hidden(callback, backend, monkeypatch, variable, value, ours):
    """In a container no process may be listed; a GPU that was given to the training is held all the same."""
    for name in ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)
    fired, samples = Probe(), Probe()
    backend.with_temperature(40).with_utilization(0).with_processes()
    with callback.with_config(AlertConfig(idle_timeout_secs=0)).on_alert(fired).on_sample(samples):
        samples.wait_for(2)
    assert [alert.kind for alert in fired.told] == (["GpuIdle"] if ours else [])


FRAMEWORKS = [
    ("lightning", "lightning.pytorch", "Callback", "setup", ("trainer", "module", "fit"), "teardown"),
    ("lightning", "pytorch_lightning", "Callback", "setup", ("trainer", "module", "fit"), "on_exception"),
    (
        "transformers",
        "transformers",
        "TrainerCallback",
        "on_train_begin",
        ("args", "state", "control"),
        "on_train_end",
    ),
    ("keras", "keras.callbacks", "Callback", "on_train_begin", (), "on_train_end"),
]


def install(monkeypatch, module, name):
    """Puts a framework with an empty callback class where Python looks for it."""
    base = type(name, (), {})
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:count]), types.ModuleType(".".join(parts[:count])))
    setattr(sys.modules[module], name, base)
    return base


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_each_framework_gets_an_object_of_its_own_class(callback, monkeypatch, framework):
    """It starts with the training, pauses between batches, and ends with it."""
    method, module, base, begin, arguments, end = framework
    fired = Probe()
    expected = install(monkeypatch, module, base)
    adapter = getattr(callback.on_alert(fired), method)()
    assert isinstance(adapter, expected)
    getattr(adapter, begin)(*arguments)
    fired.wait_for(1)
    batch_end = "on_step_end" if method == "transformers" else "on_train_batch_end"
    getattr(adapter, batch_end)(*({"keras": (1,), "transformers": arguments}.get(method, (1, 2, 3, 4, 5))))
    getattr(adapter, end)(*arguments)
    assert callback._thread is None


@pytest.mark.parametrize("method", ["lightning", "transformers", "keras"])
def test_a_missing_framework_says_what_to_install(callback, monkeypatch, method):
    """No framework is a dependency; without it the context manager still works."""
    for module in ("lightning", "pytorch_lightning", "transformers", "keras", "tensorflow"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(TelemetryError, match="is not installed") as refused:
        getattr(callback, method)()
    assert "pip install" in refused.value.hint
    assert refused.value.exit_code == 3
