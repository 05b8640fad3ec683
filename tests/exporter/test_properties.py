"""Whatever the files and Docker say, the text is valid and no exception reaches the client."""

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.exporter.conftest import Scrape, Site

from ds01_exporter.allocation_families import allocation_families
from ds01_exporter.allocations import Sources, merge
from ds01_exporter.containers import read_container, read_details
from ds01_exporter.events import Events
from ds01_exporter.exposition import encode
from ds01_exporter.state_format import StateFormatError, parse_state

TEXT = st.text(max_size=20) | st.text(alphabet='"\\\n\r\t{}=, \x00\ud800é', max_size=10)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
SLOT = st.sampled_from(["0", "1.0", "1:1", "GPU-1", ""]) | TEXT
NAME = st.sampled_from(["job", "job._.1"]) | TEXT
STAMP = (
    st.sampled_from(["2026-01-30T10:00:00Z", "2026-01-30T10:00:00.5", "0001-01-01T00:00:00", 7, 1e400]) | JSON
)


def objects(required=None, **optional):
    """Objects with some of the keys that a format knows, and sometimes with nonsense in them."""
    return st.fixed_dictionaries(
        required or {}, optional={key: value | JSON for key, value in optional.items()}
    )


CONTAINER = NAME | objects({"container": NAME}, user=TEXT, interface=TEXT, allocated_at=STAMP)
ENTRY = objects(
    type=TEXT,
    uuid=TEXT,
    containers=st.lists(CONTAINER, max_size=4),
    users=st.dictionaries(TEXT, JSON, max_size=3),
)
ALLOCATION = objects({"gpu_id": SLOT | st.lists(SLOT, max_size=3) | JSON}, user=TEXT, allocated_at=STAMP)
STATE = (
    objects(
        {"gpus": st.dictionaries(SLOT, ENTRY, max_size=4)},
        allocations=st.dictionaries(NAME, ALLOCATION, max_size=3),
    )
    | objects({"allocations": st.dictionaries(NAME, ALLOCATION, max_size=4)})
    | JSON
)
LABELS = st.dictionaries(
    st.sampled_from(
        [
            "ds01.user",
            "ds01.gpu.slots",
            "ds01.gpu_slot",
            "ds01.interface",
            "ds01.managed",
            "ds01.gpu.allocated_at",
        ]
    )
    | TEXT,
    TEXT | SLOT,
    max_size=5,
)
LISTED = objects(
    {"Id": TEXT.filter(bool)},
    Names=st.lists(NAME, max_size=2),
    State=st.sampled_from(["running", "exited"]),
    Labels=LABELS,
)
INSPECTED = objects(
    HostConfig=objects(DeviceRequests=JSON, Runtime=TEXT, CgroupParent=TEXT, Devices=JSON),
    Config=objects(Env=JSON),
)


def in_both_formats(families):
    """Encode families twice and read them back."""
    for openmetrics in (False, True):
        ending = b"# EOF\n" if openmetrics else b""
        yield Scrape(encode(families(), openmetrics=openmetrics).text + ending, openmetrics=openmetrics)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(STATE, st.none() | st.lists(st.tuples(LISTED, INSPECTED | JSON), max_size=5))
def test_no_state_and_no_container_list_breaks_the_format(document, listed):
    """Any state that is accepted, with any containers, makes text that both parsers read, each series once."""
    try:
        state = parse_state(document)
    except StateFormatError:
        state = None
    containers = None
    if listed is not None:
        read = (read_container(entry, read_details(inspected)) for entry, inspected in listed)
        containers = tuple(one for one in read if one is not None)
    view = merge(Sources(state, containers), 4)
    for scrape in in_both_formats(lambda: allocation_families(view)):
        held = scrape.of("ds01_gpu_allocated", "gpu_slot", "container")

        assert len(held) <= len(view.holders)
        assert bool(held) == bool(view.holders)


@settings(
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=40,
)
@given(st.binary(max_size=200) | STATE.map(lambda document: json.dumps(document).encode()))
def test_no_state_file_breaks_a_scrape(tmp_path_factory, content):
    """Any bytes as a state file make a valid scrape, whose collector says whether they were of use."""
    site = Site(tmp_path_factory.mktemp("site"))
    site.write_state(content)
    exporter = site.exporter()
    for openmetrics in (False, True):
        scrape = Scrape(exporter.scrape(openmetrics=openmetrics), openmetrics=openmetrics)

        assert scrape.success("exposition") == 1
        assert scrape.success("state") == (exporter.state.state is not None)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    st.lists(
        st.binary(max_size=60)
        | objects(ts=STAMP, event=TEXT, timestamp=STAMP, event_type=TEXT).map(
            lambda event: json.dumps(event).encode()
        ),
        max_size=8,
    )
)
def test_no_event_line_breaks_a_scrape(tmp_path_factory, lines):
    """Any lines in the event log make a valid scrape, and each line is counted, rejected, old or blank."""
    site = Site(tmp_path_factory.mktemp("site"))
    site.events_file.write_bytes(b"\n".join([*lines, b""]))
    exporter = site.exporter(events_file=site.events_file)
    assert isinstance(exporter.events, Events)
    exporter.events.tick()
    scrape = Scrape(exporter.scrape())
    written = [line for entry in lines for line in entry.split(b"\n") if line.strip()]

    assert scrape.success("events") == 1
    assert sum(scrape.of("ds01_events_24h_total").values()) + scrape.of("ds01_event_lines_rejected_total")[
        ()
    ] <= len(written)
