"""The load generator: it needs PyTorch or CuPy, and disturbs nobody unasked."""

import sys
import time
from types import ModuleType, SimpleNamespace

import pytest

from gpu_telemetry import cli
from gpu_telemetry.errors import TelemetryError
from gpu_telemetry.sampling import Stop
from gpu_telemetry.stress import find_engine, stress

MIB = 1024**2


class Clock:
    """A clock that work and waiting move."""

    def __init__(self):
        self.now = 0.0
        self.requested = False

    def __call__(self):
        """Seconds."""
        return self.now

    def wait(self, seconds):
        """Rests."""
        self.now += max(seconds, 0)


class Engine:
    """A GPU of 1000 MiB, 200 of them in use, on which a piece of work takes 7 ms."""

    name = "fake"

    def __init__(self, clock):
        self._clock, self.held = clock, 0

    def memory(self):
        """Free and total."""
        return 800 * MIB - self.held, 1000 * MIB

    def allocate(self, size):
        """Takes memory."""
        if size > 800 * MIB:
            raise MemoryError("CUDA out of memory")
        self.held += size

    def work(self):
        """Works."""
        self._clock.now += 0.007


@pytest.fixture
def clock():
    """The clock of engine and stop."""
    return Clock()


@pytest.mark.parametrize("load", [10, 50, 100])
def test_the_load_is_what_was_asked_for(clock, load):
    """The GPU works for that share of the time, to within one piece of work per period."""
    outcome = stress(Engine(clock), seconds=10, load_percent=load, memory_share=None, stop=clock, clock=clock)
    assert outcome.seconds == pytest.approx(10, abs=0.01)
    assert outcome.busy_percent == pytest.approx(load, abs=7)


def test_memory_is_filled_up_to_the_share(clock):
    """What others use counts: 80 % in use is 80 % of the card."""
    engine = Engine(clock)
    stress(engine, seconds=0.1, load_percent=50, memory_share=0.8, stop=clock, clock=clock)
    assert engine.held == 600 * MIB
    full = Engine(clock)
    stress(full, seconds=0.1, load_percent=50, memory_share=0.1, stop=clock, clock=clock)
    assert full.held == 0, "more than that is in use already"


def test_memory_that_is_not_free_is_an_error_for_a_person(clock):
    """It says how much was wanted and what to do."""

    class Full(Engine):
        def allocate(self, size):
            raise MemoryError("CUDA out of memory")

    with pytest.raises(TelemetryError, match="600 MiB are not to be had") as refused:
        stress(Full(clock), seconds=1, load_percent=50, memory_share=0.8, stop=clock, clock=clock)
    assert "--memory" in refused.value.hint


def test_it_can_be_stopped():
    """A signal ends it long before its time."""
    stop = Stop()
    stop.request()
    begun = time.monotonic()
    assert stress(Engine(Clock()), seconds=600, load_percent=50, memory_share=None, stop=stop).seconds < 60
    assert time.monotonic() - begun < 60
    stop.close()


def fake_torch(*, available=True):
    """A PyTorch whose matrix products take no time at all."""

    class Matrix:
        def __matmul__(self, other):
            return self

    module = ModuleType("torch")
    module.__version__ = "2.0"
    module.uint8 = "uint8"
    module.rand = lambda _shape, device: Matrix()
    module.empty = lambda size, dtype, device: bytearray(8)
    module.cuda = SimpleNamespace(
        is_available=lambda: available,
        synchronize=lambda: time.sleep(0.001),
        mem_get_info=lambda: (32 * 1024 * MIB, 40 * 1024 * MIB),
    )
    return module


def fake_cupy():
    """A CuPy likewise."""
    torch = fake_torch()
    module = ModuleType("cupy")
    module.__version__ = "13.0"
    module.float32, module.uint8 = "float32", "uint8"
    module.random = SimpleNamespace(random=lambda _shape, dtype: torch.rand((1, 1), device="cuda"))
    module.empty = lambda size, dtype: bytearray(8)
    runtime = SimpleNamespace(memGetInfo=lambda: (1, 2), deviceSynchronize=lambda: time.sleep(0.001))
    module.cuda = SimpleNamespace(runtime=runtime)
    return module


@pytest.mark.parametrize(
    ("torch", "cupy", "name"),
    [
        (fake_torch(), None, "PyTorch 2.0"),
        (None, fake_cupy(), "CuPy 13.0"),
        (fake_torch(available=False), fake_cupy(), "CuPy 13.0"),
    ],
)
def test_pytorch_or_cupy_does_the_work(monkeypatch, torch, cupy, name):
    """Either will do; a PyTorch without CUDA does not stand in CuPy's way."""
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    engine = find_engine()
    assert engine.name == name
    engine.allocate(1024)
    engine.work()
    assert engine.memory()[1] > 0


@pytest.fixture
def machine(nvml, monkeypatch):
    """Two GPUs, the second of which somebody uses."""
    nvml.install(nvml.driver(nvml.card(0, compute=[], uuid="GPU-free"), nvml.card(1, uuid="GPU-used")))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setitem(sys.modules, "torch", fake_torch())


def run(*options):
    """The exit code of `gpu-telemetry stress`."""
    return cli.main(["stress", *options])


def test_the_documented_command_works(machine, monkeypatch, capsys):
    """It loads the GPU that was meant, by UUID, and says what it did."""
    import os

    assert run("--gpu", "0", "--duration", "0.2", "--load", "50", "--memory", "0.8") == 0
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-free"
    assert capsys.readouterr().out.startswith("GPU 0: ")


def test_a_gpu_that_somebody_uses_is_left_alone(machine, capsys):
    """On a shared machine a load test is no accident; --force says that it is meant."""
    assert run("--gpu", "1", "--duration", "0.1") == 1
    assert "is used by" in capsys.readouterr().err
    assert run("--gpu", "1", "--duration", "0.1", "--force") == 0


def test_a_gpu_that_is_not_given_to_us_is_left_alone(machine, monkeypatch, capsys):
    """Inside an allocation the neighbours' GPUs are out of reach, by force too."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert run("--gpu", "0", "--force") == 2
    assert "as CUDA_VISIBLE_DEVICES says" in capsys.readouterr().err


def test_an_unknown_gpu_is_named_with_those_there_are(machine, capsys):
    """A wrong index is a wrong use."""
    assert run("--gpu", "7") == 2
    assert "known here: 0, 1" in capsys.readouterr().err


def test_without_a_library_it_ends_with_3_and_installs_nothing(machine, monkeypatch, capsys):
    """It says how, and leaves it to the person."""
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert run("--gpu", "0") == 3
    told = capsys.readouterr().err
    assert "neither PyTorch nor CuPy" in told
    assert "pip install torch" in told


@pytest.mark.parametrize(
    "options", [("--load", "0"), ("--load", "101"), ("--memory", "1.5"), ("--duration", "0")]
)
def test_options_have_limits(machine, options):
    """A load of nothing or a share above all is refused."""
    with pytest.raises(SystemExit) as ended:
        run("--gpu", "0", *options)
    assert ended.value.code == 2
