"""Interrupt moderation of the e1000, and what it looks like when it is set wrongly."""

import re

import pytest

from frames import Peer

BURST = 40
BURSTS = 5


def interrupts(machine):
    line = re.search(r"^ *\d+: +(\d+) +(\d+) .*eth0", machine.ok("cat /proc/interrupts"), re.M)
    return int(line[1]) + int(line[2])


@pytest.mark.parametrize("itr, most", [(65535, BURSTS * 6), (0, None)])
def test_frames_wait_for_their_interrupt(boot, itr, most):
    """All echoes come back in both cases; with the longest gap a burst costs a handful."""
    machine = boot(frames=True, append=f"ip=10.9.0.2/24 e1000.itr={itr}")
    peer = Peer(machine)
    peer.meet()
    said = machine.ok("cat /proc/rings/e1000")
    assert f"ITR {itr} ({itr * 256 // 1000} us between interrupts)" in said
    before = interrupts(machine)
    for burst in range(BURSTS):
        for number in range(BURST):
            peer.send(peer.udp(5000 + number, 7, b"%d" % burst))
        for number in range(BURST):
            packet = peer.receive()
            assert packet and (packet.dport, packet.data) == (5000 + number, b"%d" % burst)
    taken = interrupts(machine) - before
    assert taken > 0
    assert most is None or taken <= most, taken


def test_a_gap_that_does_not_fit(boot):
    machine = boot(append="e1000.itr=65536")
    assert "e1000.itr" in machine.ok("dmesg")
