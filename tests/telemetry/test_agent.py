"""The agent: when it records, what it records, and how it gets over failures."""

import json
import os
import signal
import subprocess  # noqa: TID251 - the doors are for the programs, not for their tests.
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from gpu_telemetry import GpuMetrics
from gpu_telemetry.activity import ActivityTrigger, Thresholds
from gpu_telemetry.agent import Agent, AllocationTrigger, Journal
from gpu_telemetry.allocations import Allocations
from gpu_telemetry.errors import BackendUnavailable
from gpu_telemetry.instance import AlreadyRunning, SingleInstance, started
from gpu_telemetry.metrics import Sample


def gpu(load, index=0, **more):
    """One GPU with that utilisation."""
    return GpuMetrics(device_id=index, uuid=f"GPU-{index}", utilization_percent=load, **more)


def sample(at, *loads, error=None):
    """A sample at a second of the monotonic clock, one GPU for each load."""
    gpus = tuple(gpu(load, index) for index, load in enumerate(loads))
    return Sample(timestamp=1_700_000_000.0 + at, monotonic=float(at), gpus=gpus, error=error)


def states(trigger, *samples):
    """Whether it is active after each sample."""
    return [trigger.update(each) for each in samples]


def test_activity_begins_after_seconds_and_ends_after_seconds():
    """The documented thresholds: 20 % for 5 s, 10 % for 15 s."""
    trigger = ActivityTrigger(Thresholds())
    assert states(trigger, *(sample(at, 50) for at in range(5))) == [False] * 5
    assert trigger.update(sample(5, 50))
    assert all(states(trigger, *(sample(at, 5) for at in range(6, 21))))
    assert not trigger.update(sample(21, 5))


def test_seconds_are_wall_time_not_samples():
    """A slow sampler does not need five samples, and a fast one does not get by with five."""
    slow, fast = ActivityTrigger(Thresholds()), ActivityTrigger(Thresholds())
    assert states(slow, sample(0, 50), sample(5, 50)) == [False, True]
    assert not any(states(fast, *(sample(at / 10, 50) for at in range(50))))


def test_between_the_thresholds_both_times_begin_anew():
    """True hysteresis: 15 % neither starts nor stops."""
    trigger = ActivityTrigger(Thresholds())
    assert not any(
        states(trigger, sample(0, 50), sample(4, 50), sample(5, 15), sample(6, 50), sample(10, 50))
    )
    assert trigger.update(sample(11, 50))
    assert all(states(trigger, sample(12, 5), sample(25, 5), sample(26, 15), sample(27, 5), sample(41, 5)))


def test_any_gpu_triggers_and_all_must_be_quiet():
    """A job on GPU 1 is seen although GPU 0 is idle."""
    trigger = ActivityTrigger(Thresholds(start_seconds=0, stop_seconds=0))
    assert states(trigger, sample(0, 0, 90), sample(1, 0, 11), sample(2, 0, 10)) == [True, True, False]


def test_unknown_neither_starts_nor_stops():
    """A failed sample or a reading that is missing now is no evidence either way."""
    trigger = ActivityTrigger(Thresholds(start_seconds=2, stop_seconds=2))
    lost = BackendUnavailable("gone", reason="lost")
    assert states(trigger, sample(0, 50), sample(1, error=lost), sample(9, 50), sample(10, 50)) == [False] * 4
    assert trigger.update(sample(11, 50))
    assert all(
        states(trigger, sample(12, 0, None), sample(60, 0, None), sample(61, error=lost), sample(90, 0, 0))
    )


def test_a_device_that_never_tells_takes_no_part():
    """A MIG card has no utilisation; it must not keep a recording open for ever."""
    trigger = ActivityTrigger(Thresholds(start_seconds=0, stop_seconds=0))
    mute = gpu(None, 1, missing={"utilization_percent": "not_supported"})
    quiet = Sample(timestamp=0.0, monotonic=1.0, gpus=(gpu(0), mute))
    assert states(trigger, sample(0, 90), quiet) == [True, False]


@pytest.mark.parametrize(
    "wrong", [{"start_util": 5}, {"start_util": 101}, {"stop_util": -1}, {"stop_seconds": -1}]
)
def test_thresholds_that_contradict_each_other_are_refused(wrong):
    """An agent that could never stop is a mistake in its options."""
    with pytest.raises(ValueError, match=r"\d"):
        Thresholds(**wrong)


class Recording:
    """A recording in memory that can be told to fail."""

    def __init__(self, disk):
        self.disk, self.written, self.closed = disk, [], False

    def write(self, taken):
        """Adds a sample, unless the disk is full."""
        if self.disk["full"]:
            raise OSError(28, "No space left on device")
        self.written.append(taken.monotonic)

    def close(self):
        """Ends it."""
        self.closed = True


@pytest.fixture
def disk():
    """Whether recordings can be written."""
    return {"full": False}


@pytest.fixture
def recordings():
    """Every recording that was opened."""
    return []


@pytest.fixture
def make_agent(disk, recordings, tmp_path):
    """Makes an agent that starts at 20 % at once and stops after 5 s."""

    def open_recording():
        recordings.append(Recording(disk))
        return recordings[-1]

    def make(before_seconds=60.0, trigger=None):
        trigger = trigger or ActivityTrigger(Thresholds(start_seconds=0, stop_seconds=5))
        return Agent(trigger, open_recording, Journal(tmp_path), before_seconds=before_seconds)

    return make


def test_the_minute_before_the_trigger_is_recorded_too(make_agent, recordings):
    """Model loading and ramp-up are in the recording, and only once."""
    agent = make_agent()
    for at in range(200):
        agent.take(sample(at, 90 if 100 <= at < 110 else 0))
    assert recordings[0].written == [float(at) for at in range(40, 115)]
    assert recordings[0].closed
    assert not agent.recording


def test_a_second_burst_soon_after_repeats_nothing(make_agent, recordings):
    """What the first recording has is not written into the second."""
    agent = make_agent()
    for at in range(60):
        agent.take(sample(at, 90 if at in {20, 40} else 0))
    written = [at for recording in recordings for at in recording.written]
    assert len(recordings) == 2
    assert written == sorted(set(written))


def test_a_full_disk_does_not_end_the_agent(make_agent, recordings, disk, caplog):
    """It goes on sampling, tries again later, and still has the last minute."""
    agent = make_agent()
    disk["full"] = True
    for at in range(40):
        agent.take(sample(at, 90))
    assert not agent.recording
    assert caplog.text.count("No space left") == 2, "not at every sample"
    disk["full"] = False
    for at in range(40, 100):
        agent.take(sample(at, 90))
    assert recordings[-1].written == [float(at) for at in range(100)]


def test_a_crash_in_a_recording_is_taken_up(make_agent, recordings):
    """The next agent records from its first sample on, and stops when the load has gone."""
    crashed = make_agent()
    crashed.take(sample(0, 90))
    agent = make_agent()
    agent.take(sample(10, 15))
    assert recordings[1].written == [10.0], "between the thresholds the load that began before goes on"
    for at in range(11, 20):
        agent.take(sample(at, 0))
    assert not agent.recording
    make_agent().take(sample(30, 15))
    assert len(recordings) == 2, "a recording that was closed is not taken up"


def test_an_orderly_end_leaves_nothing_to_take_up(make_agent, recordings):
    """After SIGTERM the next agent begins idle."""
    agent = make_agent()
    agent.take(sample(0, 90))
    agent.close()
    assert recordings[0].closed
    make_agent().take(sample(1, 15))
    assert len(recordings) == 1


def test_allocations_are_followed_from_the_first_to_the_last(make_agent, recordings, tmp_path):
    """Load does not matter with `--on allocations`."""
    allocations = Allocations(tmp_path)
    agent = make_agent(trigger=AllocationTrigger(allocations))
    agent.take(sample(0, 90))
    assert not agent.recording
    allocations.add("job-1")
    allocations.add("job-2")
    agent.take(sample(1, 0))
    allocations.release("job-1")
    agent.take(sample(2, 0))
    assert agent.recording
    allocations.release("job-2")
    agent.take(sample(3, 0))
    assert not agent.recording
    assert recordings[0].written == [0.0, 1.0, 2.0]


def test_unreadable_allocations_change_nothing(make_agent, tmp_path, caplog):
    """A broken file is reported once and neither starts nor stops a recording."""
    allocations = Allocations(tmp_path)
    agent = make_agent(trigger=AllocationTrigger(allocations))
    allocations.add("job")
    agent.take(sample(0, 0))
    (tmp_path / "allocations" / "broken.json").write_text("{")
    for at in (1, 2):
        agent.take(sample(at, 0))
    assert agent.recording
    assert caplog.text.count("cannot be read") == 1


def test_only_one_agent_runs(tmp_path):
    """The second is told which process the first is."""
    with SingleInstance(tmp_path / "one", run_dir=tmp_path):
        with (
            pytest.raises(AlreadyRunning, match="another agent"),
            SingleInstance(tmp_path / "one", run_dir=tmp_path / "none"),
        ):
            pass
        child = os.fork()
        if child == 0:
            holder = SingleInstance(tmp_path / "two", run_dir=tmp_path).holder()
            os._exit(0 if holder == os.getppid() else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert SingleInstance(tmp_path / "one", run_dir=tmp_path).holder() is None


def test_files_of_a_crash_stop_nobody(tmp_path):
    """A process id that is free, or somebody else's by now, is not an agent."""
    for stored in ({"pid": 1, "started": -1}, {"pid": 2**22 + 1, "started": 5}, [], "x"):
        (tmp_path / "agent.json").write_text(json.dumps(stored))
        (tmp_path / "agent.lock").write_text(json.dumps(stored))
        with SingleInstance(tmp_path, run_dir=tmp_path) as instance:
            assert instance.holder() is None


def test_a_recycled_process_id_is_told_apart():
    """The start time belongs to the identity of a process."""
    assert started(os.getpid()) is not None
    assert started(2**22 + 1) is None


SECONDS = 30
PROGRAM = str(Path(sys.executable).with_name("gpu-telemetry"))


def wait_for(condition):
    """What `condition` returns, once that is true."""
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)
    return found


class Program:
    """A running `gpu-telemetry agent` on the fake driver."""

    def __init__(self, environment, state_dir, *options):
        self.state_dir = state_dir
        command = [
            PROGRAM,
            "agent",
            "--port",
            "0",
            "--interval",
            "50ms",
            "--state-dir",
            str(state_dir),
            *options,
        ]
        self.log = state_dir.parent / f"{state_dir.name}.log"
        with self.log.open("a") as log:
            self.process = subprocess.Popen(command, stderr=log, env=environment)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    def said(self, text):
        """Whether its log has this text; fails when it has ended."""
        assert self.process.poll() is None, self.log.read_text()
        return text in self.log.read_text()

    def recordings(self):
        """The files that it has recorded, oldest first."""
        return sorted((self.state_dir / "recordings").glob("gpu-telemetry_*"))

    def metrics(self):
        """The page that it serves now."""
        port = self.log.read_text().partition(" port ")[2].split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=SECONDS) as page:
            return page.read().decode()


@pytest.fixture
def machine(fake_driver):
    """A driver with one GPU whose load a test sets."""
    fake_driver.load = lambda percent: fake_driver.write(fake_driver.card(0, utilization=[percent, 0]))
    fake_driver.load(0)
    return fake_driver


BRISK = ("--start-seconds", "0.1", "--stop-seconds", "0.2")


def test_the_agent_serves_all_the_time_and_records_load(machine, tmp_path):
    """The endpoint does not come and go with the load; the recording does, and has the time before it."""
    with Program(machine.environment, tmp_path / "state", *BRISK, "--format", "jsonl") as agent:
        wait_for(lambda: agent.said("serving on"))
        wait_for(lambda: "DCGM_FI_DEV_GPU_UTIL" in agent.metrics())
        assert agent.recordings() == []
        machine.load(95)
        wait_for(lambda: agent.said("recording begins"))
        machine.load(0)
        wait_for(lambda: agent.said("recording ends"))
        (path,) = agent.recordings()
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        loads = [line["utilization_percent"] for line in lines if "utilization_percent" in line]
        assert loads[0] == 0, "the minute before the trigger is there"
        assert 95 in loads
        assert "DCGM_FI_DEV_GPU_UTIL" in agent.metrics()
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(SECONDS) == 0


def test_the_agent_asks_for_the_password_of_its_settings(machine, tmp_path):
    """An agent that the hook has started has no options of its own, and loopback is not private."""
    secret = tmp_path / "password"
    secret.write_text("secret\n")
    environment = machine.environment | {"GPU_TELEMETRY_PASSWORD_FILE": str(secret)}
    with Program(environment, tmp_path / "state") as agent:
        wait_for(lambda: agent.said("serving on"))
        with pytest.raises(urllib.error.HTTPError) as refused:
            agent.metrics()
        with refused.value as answer:
            assert answer.code == 401


def test_a_killed_agent_is_taken_up_by_the_next(machine, tmp_path):
    """SIGKILL in a recording: the next agent starts at once and goes on recording while the load lasts."""
    machine.load(95)
    with Program(machine.environment, tmp_path / "state", *BRISK) as agent:
        wait_for(lambda: agent.said("recording begins"))
    machine.load(15)
    with Program(machine.environment, tmp_path / "state", *BRISK) as agent:
        wait_for(lambda: agent.said("it goes on in a new file"))
        wait_for(lambda: len(agent.recordings()) == 2)


def test_a_second_agent_is_refused(machine, tmp_path):
    """It says which process has the place, and ends with 1."""
    with Program(machine.environment, tmp_path / "state") as first:
        wait_for(lambda: first.said("serving on"))
        with Program(machine.environment, tmp_path / "state") as second:
            assert second.process.wait(SECONDS) == 1
            assert f"as process {first.process.pid}" in second.log.read_text()


def test_autostart_follows_allocations_without_systemd(machine, tmp_path):
    """`GPU_TELEMETRY_AUTOSTART=true` and the hook alone start an agent that records until none is left."""
    state = tmp_path / "state"
    environment = machine.environment | {
        "GPU_TELEMETRY_AUTOSTART": "true",
        "GPU_TELEMETRY_PORT": "0",
        "GPU_TELEMETRY_INTERVAL": "50ms",
        "PATH": str(tmp_path),
    }

    def hook(*arguments):
        command = [PROGRAM, "hook", "--state-dir", str(state), *arguments]
        subprocess.run(command, env=environment, check=True, timeout=SECONDS)

    hook("allocated", "--id", "job-1")
    try:
        agent = SingleInstance(state).holder()
        assert agent is not None
        wait_for(lambda: list((state / "recordings").glob("*.csv")))
        hook("allocated", "--id", "job-2")
        assert SingleInstance(state).holder() == agent, "one agent is enough"
        hook("released", "--id", "job-1")
        hook("released", "--id", "job-2")
        wait_for(lambda: "recording ends" in (state / "agent.log").read_text())
    finally:
        os.kill(SingleInstance(state).holder(), signal.SIGTERM)
    wait_for(lambda: SingleInstance(state).holder() is None)


@pytest.mark.parametrize(
    ("variables", "options", "complaint"),
    [
        ({}, ("--start-util", "5"), "thresholds contradict"),
        ({"GPU_TELEMETRY_STOP_SECONDS": "soon"}, (), "--stop-seconds"),
        ({"GPU_TELEMETRY_INTERVAL": "0"}, (), "--interval"),
        ({"GPU_TELEMETRY_AUTOSTART": "maybe"}, (), "neither true nor false"),
    ],
)
def test_wrong_settings_end_it_with_2(machine, tmp_path, variables, options, complaint):
    """A mistake in the options or in /etc/default is reported, not ignored."""
    done = subprocess.run(
        [PROGRAM, "agent", "--state-dir", str(tmp_path), "--port", "0", *options],
        env=machine.environment | variables,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert complaint in done.stderr
