"""The accepted inventory: learnt from the exporters, rendered into a rule."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager

import pytest
import yaml

from ds01_monitoring import inventory
from ds01_monitoring.deployment import Deployment
from ds01_monitoring.errors import UserError
from ds01_monitoring.inventory import Card
from ds01_monitoring.render import render

SLOTS = """\
ds01_gpu_slot_info{gpu_slot="0",gpu="0",UUID="GPU-a",GPU_I_ID="",GPU_I_PROFILE=""} 1
ds01_gpu_slot_info{gpu_slot="10.0",gpu="10",UUID="GPU-b",GPU_I_ID="13",GPU_I_PROFILE="1g.5gb"} 1
ds01_gpu_slot_info{gpu_slot="10.1",gpu="10",UUID="GPU-b",GPU_I_ID="7",GPU_I_PROFILE="1g.5gb"} 1
ds01_gpu_xid_errors_total{gpu="3",UUID="GPU-fallen",xid="79"} 1
"""
DCGM = """\
DCGM_FI_DEV_GPU_TEMP{gpu="2",UUID="GPU-c",modelName="NVIDIA A100"} 30
DCGM_FI_DEV_FB_USED{gpu="10",UUID="GPU-b",GPU_I_ID="9",GPU_I_PROFILE="1g.5gb"} 1
DCGM_EXP_XID_ERRORS_TOTAL{gpu="3",UUID="GPU-fallen",xid="79"} 1
"""


@contextmanager
def exporter(text, status=200):
    """An exporter with one page; gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def deployed(state, **addresses):
    """A stack that runs at these addresses."""
    jobs = {job.replace("_", "-"): address for job, address in addresses.items()}
    return Deployment(
        state, "native", "dcgm", demo=False, local_auth=False, host="gpu01", addresses=jobs, without={}
    )


def test_what_the_driver_says_and_what_is_measured_are_united(state):
    """Cards of both exporters, instances by their real ids, in the order of numbers.

    Those that the driver offers as no slot are marked; a card of which only the errors are left is gone.
    """
    with exporter(SLOTS) as slots, exporter(DCGM) as dcgm:
        cards = inventory.seen(
            deployed(state, ds01_exporter=slots, dcgm_exporter=dcgm, prometheus="nowhere:1")
        )

    assert inventory.ordered(cards) == [
        Card("0", "GPU-a"),
        Card("2", "GPU-c", slotless=("",)),
        Card("10", "GPU-b", ("7", "9", "13"), slotless=("9",)),
    ]


def test_where_no_slot_is_known_none_is_missing(state):
    """An exporter that may not ask the driver says nothing against a card."""
    with exporter("") as slots, exporter(DCGM) as dcgm:
        cards = inventory.seen(deployed(state, ds01_exporter=slots, dcgm_exporter=dcgm))

    assert cards == [Card("2", "GPU-c"), Card("10", "GPU-b", ("9",))]


def test_an_exporter_that_is_down_stops_the_learning(state):
    """Half of the cards would look like all of them."""
    with exporter("", status=500) as broken, pytest.raises(UserError, match="ds01-exporter: answers 500"):
        inventory.seen(deployed(state, ds01_exporter=broken))


def test_what_was_accepted_becomes_a_rule(settings, state):
    """Each card, or each of its instances, is a recorded series until something else is accepted."""
    state.root.mkdir()
    assert not (render(settings, state).path / "prometheus/rules/inventory.yml").exists()

    inventory.write(state, [Card("0", "GPU-a"), Card("1", "GPU-b", ("7", "9"), slotless=("9",))])
    tree = render(settings, state)

    (group,) = yaml.safe_load((tree.path / "prometheus/rules/inventory.yml").read_text())["groups"]
    assert [rule["labels"] for rule in group["rules"]] == [
        {"host": "gpu01", "gpu": "0", "UUID": "GPU-a"},
        {"host": "gpu01", "gpu": "1", "UUID": "GPU-b", "GPU_I_ID": "7"},
        {"host": "gpu01", "gpu": "1", "UUID": "GPU-b", "GPU_I_ID": "9", "gpu_slot": "none"},
    ]


def test_an_inventory_of_the_version_before_is_read(state):
    """It knew of no slots; every card is taken for one."""
    state.root.mkdir()
    (state.root / "inventory.json").write_text('[{"gpu": "0", "UUID": "GPU-a", "GPU_I_IDs": []}]')

    assert inventory.read(state) == [Card("0", "GPU-a")]


def test_a_broken_inventory_is_named(settings, state):
    """A file that somebody edited badly is not an empty inventory."""
    state.root.mkdir()
    (state.root / "inventory.json").write_text('{"gpu": 1}')

    with pytest.raises(UserError, match=r"inventory\.json: is no inventory"):
        render(settings, state)
