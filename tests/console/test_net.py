"""The network from outside: a wire whose far end is the test, real ping from a namespace, slirp."""

import random
import re
import socket
import struct
import threading

import frames
import pytest
from frames import Peer
from machine import wait_until

MACHINE = dict(cpus=2, frames=True, append="ip=10.9.0.2/24,10.9.0.1")


@pytest.fixture
def peer(machine):
    p = Peer(machine)
    p.meet()
    return p


ERRORS_BURST, ERRORS_A_SECOND = 20, 100  # kernel/net/icmp.c


def uptime(machine):
    return float(machine.ok("cat /proc/uptime").split()[0])


def counters(machine):
    """/proc/net/input as a dictionary; every frame in exactly one line."""
    values = dict(line.split() for line in machine.ok("cat /proc/net/input").splitlines())
    values = {name: int(value) for name, value in values.items()}
    assert values["received"] == sum(v for n, v in values.items() if n != "received"), values
    return values


def interface(machine, name):
    """A line of /proc/net/dev: received bytes, packets, errors, dropped ...; then sent ones."""
    for line in machine.ok("cat /proc/net/dev").splitlines():
        if line.strip().startswith(name + ":"):
            return [int(word) for word in line.split(":")[1].split()]
    raise AssertionError(f"no {name} in /proc/net/dev")


def wait_for(machine, command, pattern):
    wait_until(lambda: re.search(pattern, machine.ok(command)),
               lambda: f"{command} said {pattern}\n{machine.ok(command)}", pause=0.1)


# ---- the wire is ours ------------------------------------------------------------------------


def test_udp_echo_of_every_size(machine, peer):
    """10,000 datagrams, each size from 0 to 1472 several times, byte for byte and in order."""
    before = interface(machine, "eth0")
    chance = random.Random(1)
    window, outstanding, received = 32, [], 0
    for number in range(10000):
        size = number % 1473
        data = chance.randbytes(size)
        port = 20000 + number
        peer.send(peer.udp(port, 7, data))
        outstanding.append((port, data))
        while len(outstanding) >= window or (number == 9999 and outstanding):
            packet = peer.receive()
            assert packet, f"no echo of {outstanding[0][0]} after {received}\n{machine.story()}"
            want_port, want = outstanding.pop(0)
            assert (packet.protocol, packet.sport, packet.dport) == (frames.UDP, 7, want_port)
            assert packet.data == want
            received += 1
    assert received == 10000
    after = interface(machine, "eth0")
    assert after[1] - before[1] >= 10000 and after[9] - before[9] >= 10000
    assert after[2:4] == before[2:4] and after[10:12] == before[10:12]


def test_icmp_echo_of_every_size(machine, peer):
    for size in range(0, 1473, 3):
        data = bytes((size + i) & 255 for i in range(size))
        peer.send(peer.icmp(8, 0, 0x12340000 + size, data))
        packet = peer.receive()
        assert packet is not None and packet.protocol == frames.ICMP
        assert packet.body[0] == 0
        assert packet.body[4:] == struct.pack(">I", 0x12340000 + size) + data


def test_every_drop_is_counted_where_it_belongs(machine, peer):
    """What is sent is accepted or dropped, and the counters say which, to the frame."""
    k, p = peer.kernel, peer.address
    kinds = [
        ("accepted.icmp_echo", peer.icmp(8, 0, 1, b"x"), 3),
        ("accepted.udp_service", peer.udp(2000, 9, b"gone"), 4),
        ("accepted.arp_request", frames.arp(1, p, k), 5),
        ("accepted.arp_update", frames.arp(1, p, p), 1),
        ("dropped.eth_type", frames.ethernet(0x86DD, bytes(46)), 2),
        ("dropped.eth_source", frames.ethernet(frames.IP, bytes(46), source=frames.MAC), 3),
        ("dropped.arp_format", frames.ethernet(frames.ARP, bytes(46)), 4),
        ("dropped.arp_other", frames.arp(1, "10.9.0.66", "10.9.0.77"), 2),
        ("dropped.arp_sender", frames.arp(1, "127.0.0.1", k), 1),
        ("dropped.arp_conflict", frames.arp(1, k, k), 2),
        ("dropped.ip_version", frames.ipv4(p, k, 17, bytes(26), version_ihl=0x65), 3),
        ("dropped.ip_header", frames.ipv4(p, k, 17, bytes(26), version_ihl=0x44), 1),
        ("dropped.ip_length", frames.ipv4(p, k, 17, bytes(26), length=1400), 2),
        ("dropped.ip_checksum", frames.ipv4(p, k, 17, bytes(26), bad_checksum=True), 3),
        ("dropped.ip_source", frames.ipv4("224.0.0.5", k, 17, bytes(26)), 4),
        ("dropped.ip_source", frames.ipv4(k, k, 17, bytes(26)), 1),
        ("dropped.ip_destination", frames.ipv4(p, "10.9.0.99", 17, bytes(26)), 2),
        ("dropped.ip_fragment", frames.ipv4(p, k, 17, bytes(26), fragment=0x2000), 3),
        ("dropped.ip_fragment", frames.ipv4(p, k, 17, bytes(26), fragment=5), 1),
        ("dropped.ip_protocol", frames.ipv4(p, k, 99, bytes(26)), 2),
        ("dropped.icmp_checksum", peer.icmp(8, 0, 1, b"x", bad_checksum=True), 3),
        ("dropped.icmp_broadcast", frames.icmp(p, "10.9.0.255", 8, 0, 1, to=frames.EVERYBODY), 4),
        ("dropped.icmp_type", peer.icmp(13, 0, 1, bytes(12)), 1),
        ("dropped.icmp_stray", peer.icmp(0, 0, 1, bytes(12)), 2),
        ("dropped.udp_length", peer.udp(2000, 7, b"abc", length=7), 3),
        ("dropped.udp_checksum", peer.udp(2000, 7, b"abc", bad_checksum=True), 4),
        ("dropped.udp_port", peer.udp(2000, 4444, b"abc"), 1),
        ("dropped.udp_service", peer.udp(7, 7, b"loop"), 2),
    ]
    before = counters(machine)
    sent = [(name, frame) for name, frame, count in kinds for _ in range(count)]
    random.Random(2).shuffle(sent)
    expected = {}
    for name, frame in sent:
        peer.send(frame.ljust(60, b"\0"))
        expected[name] = expected.get(name, 0) + 1
    wait_for(machine, "cat /proc/net/input", rf"received {before['received'] + len(sent)}\b")
    after = counters(machine)
    moved = {n: after[n] - before[n] for n in after if after[n] != before[n]}
    assert moved.pop("received") == len(sent)
    assert moved == expected
    peer.drain()


def test_a_closed_port_is_refused_with_a_quote(machine, peer):
    sent = peer.udp(2000, 4444, b"anybody there?")
    peer.send(sent)
    packet = peer.receive()
    assert packet.protocol == frames.ICMP and packet.body[:2] == b"\3\3"
    assert packet.body[8:] == sent[14:42]


def test_errors_are_limited(machine, peer):
    """A scan of 1,000 closed ports is not answered 1,000 times; all of it is counted."""
    before, start = counters(machine), uptime(machine)
    for port in range(30000, 31000):
        peer.send(peer.udp(2000, port, b""))
    wait_for(machine, "cat /proc/net/input", rf"received {before['received'] + 1000}\b")
    answers = [packet for packet in peer.drain() if packet.body[:2] == b"\3\3"]
    most = ERRORS_BURST + (uptime(machine) - start) * ERRORS_A_SECOND + 1
    assert 1 <= len(answers) <= most, (len(answers), most)
    assert counters(machine)["dropped.udp_port"] - before["dropped.udp_port"] == 1000


def test_random_frames(machine, peer):
    """5,000 frames of noise, many with a good start: the kernel lives and counts them all."""
    chance = random.Random(3)
    before = counters(machine)
    for number in range(5000):
        noise = chance.randbytes(chance.choice([0, 1, 20, 28, 46, 100, 576, 1480]))
        frame = chance.choice([
            lambda: frames.MAC + noise,
            lambda: frames.ethernet(frames.IP, noise),
            lambda: frames.ethernet(frames.ARP, noise, to=frames.EVERYBODY),
            lambda: frames.ipv4(peer.address, peer.kernel, chance.choice([1, 6, 17]), noise),
            lambda: peer.udp(chance.randrange(65536), chance.choice([7, 9, 68, 0, 65535]),
                             noise[:1472]),
            lambda: peer.icmp(chance.randrange(20), 0, number, noise[:1472]),
        ])()
        peer.send(frame.ljust(60, b"\0"))
        if number % 64 == 0:
            while machine.receive_frame(0) is not None:
                pass
    wait_for(machine, "cat /proc/net/input", rf"received {before['received'] + 5000}\b")
    counters(machine)
    peer.drain()
    assert "mappings" in machine.ok("cat /proc/dma-map").splitlines()[0]
    assert "errors 0" in machine.ok("cat /proc/dma-map").splitlines()[0]
    assert machine.ok("echo alive") == "alive\n"


def test_ping_from_the_console(machine, peer):
    """iputils' lines; the answer is ours, with the kernel's own data."""
    machine.send("ping -c 2 -s 100 -i 0.1 10.9.0.1\r")
    for sequence in (1, 2):
        packet = peer.receive()
        assert packet.protocol == frames.ICMP and packet.body[0] == 8 and len(packet.body) == 108
        peer.send(peer.icmp(0, 0, struct.unpack(">I", packet.body[4:8])[0], packet.body[8:]))
    machine.expect(r"PING 10\.9\.0\.1 \(10\.9\.0\.1\) 100\(128\) bytes of data\.\r?\n")
    for sequence in (1, 2):
        machine.expect(rf"108 bytes from 10\.9\.0\.1: icmp_seq={sequence} ttl=64 "
                       r"time=[\d.]+ ms\r?\n")
    machine.expect(r"2 packets transmitted, 2 received, 0% packet loss, time \d+ms\r?\n")
    machine.expect(r"rtt min/avg/max/mdev = (\d+\.\d{3}/){3}\d+\.\d{3} ms\r?\n")
    machine.wait_prompt()


def test_ping_nobody(machine, peer):
    output, status = machine.run("ping -c 1 10.9.0.200")
    assert status == 1
    assert "From 10.9.0.2 icmp_seq=1 Destination Host Unreachable" in output
    assert "1 packets transmitted, 0 received, +1 errors, 100% packet loss" in output
    assert machine.run("ping -c 1 224.0.0.1")[1] == 1


@pytest.mark.parametrize("line", [
    "ping", "ping x", "ping 1.2.3", "ping -c 0 10.9.0.1", "ping -c -1 10.9.0.1",
    "ping -s 65508 10.9.0.1",
    "ping -i x 10.9.0.1", "ping -c", "ping -z 10.9.0.1", "ping 10.9.0.1 10.9.0.2", "ip nonsense",
    "ip link set eth0 sideways", "ip addr add 10.9.0.300/24 dev eth0", "arp x",
])
def test_wrong_usage(machine, line):
    output, status = machine.run(line)
    assert status == 2 and "usage" in output.lower(), output


def test_ip_and_arp_say_what_linux_says(machine, peer):
    text = machine.ok("ip addr show eth0")
    assert re.search(r"^\d+: eth0: <BROADCAST,UP,LOWER_UP> mtu 1500 .* state UP", text)
    assert "link/ether 52:54:00:12:34:56 brd ff:ff:ff:ff:ff:ff" in text
    assert "inet 10.9.0.2/24 brd 10.9.0.255 scope global eth0" in text
    assert "default via 10.9.0.1 dev eth0" in machine.ok("ip route")
    assert re.search(r"^10\.9\.0\.1 +ether +02:a0:b0:c0:d0:e0 +C +eth0$", machine.ok("arp"), re.M)
    assert re.search(r"^10\.9\.0\.1 +0x1 +0x2 +02:a0:b0:c0:d0:e0 +\* +eth0$",
                     machine.ok("cat /proc/net/arp"), re.M)
    assert re.search(r"^eth0\t00000000\t0100090A\t0003\t", machine.ok("cat /proc/net/route"), re.M)
    assert machine.run("ip addr show eth7")[1] == 1
    for cpu, line in enumerate(machine.ok("cat /proc/net/softnet_stat").splitlines()):
        words = line.split()
        assert len(words) == 15 and all(re.fullmatch("[0-9a-f]{8}", w) for w in words)
        assert int(words[12], 16) == cpu
    names, values = [], []
    for line in machine.ok("cat /proc/net/snmp").splitlines():
        (values if len(names) > len(values) else names).append(line.split())
    assert [n[0] for n in names] == ["Ip:", "Icmp:", "Udp:"]
    assert all(len(n) == len(v) for n, v in zip(names, values))


def test_cable_out_and_in(machine, peer):
    """The link goes and comes: said in the log, packets refused meanwhile, all well afterwards."""
    for _ in range(3):
        machine.hmp("set_link net0 off")
        wait_for(machine, "ip link show eth0", "NO-CARRIER")
        assert machine.run("ping -c 1 -W 0.2 10.9.0.1")[1] == 1
        machine.hmp("set_link net0 on")
        wait_for(machine, "ip link show eth0", "LOWER_UP")
        peer.meet()
        peer.send(peer.udp(5000, 7, b"back"))
        assert peer.receive().data == b"back"
    log = machine.ok("dmesg")
    assert log.count("eth0: link is down") >= 3 and log.count("eth0: link is up") >= 4


def test_down_and_up_leaves_nothing_behind(machine, peer):
    for _ in range(3):
        machine.ok("ip link set eth0 down")
        text = machine.ok("cat /proc/dma-map").splitlines()[0]
        assert text.startswith("mappings 0,") and text.endswith("errors 0"), text
        assert " eth0" not in machine.ok("cat /proc/interrupts")
        machine.ok("ip link set eth0 up")
        peer.meet()
    peer.send(peer.udp(5000, 7, b"up again"))
    assert peer.receive().data == b"up again"


def test_addresses_by_hand(machine, peer):
    machine.ok("ip addr add 10.9.5.2/24 dev eth0")
    other = Peer(machine, "10.9.5.1", "10.9.5.2")
    other.meet()
    other.send(other.udp(5000, 7, b"moved"))
    assert other.receive().data == b"moved"
    machine.ok("ip addr del 10.9.5.2/24 dev eth0")
    assert "inet" not in machine.ok("ip addr show eth0")
    assert machine.run("ip addr del 10.9.5.2/24 dev eth0")[1] == 1
    machine.ok("ip addr add 10.9.0.2/24 dev eth0")
    machine.ok("ip route add default via 10.9.0.1")
    assert "default via 10.9.0.1" in machine.ok("ip route")
    peer.meet()


# ---- other machines --------------------------------------------------------------------------


def test_dhcp_and_ping_with_slirp(boot):
    m = boot(nics=["user"])
    wait_for(m, "ip addr show eth0",
             r"inet 10\.0\.2\.15/24 brd 10\.0\.2\.255 scope global dynamic eth0")
    output = m.ok("ping -c 5 -i 0.1 10.0.2.2")
    assert "5 packets transmitted, 5 received, 0% packet loss" in output
    assert re.search(r"valid_lft \d+sec", m.ok("ip addr"))
    log = m.ok("dmesg")
    assert log.index("eth0 is 52:54:00:12:34:56") < log.index("eth0: link is up, 1000 Mb/s")
    assert "eth0: DHCP: 10.0.2.15/24, gateway 10.0.2.2, from 10.0.2.2" in log


def test_two_cards(boot):
    m = boot(nics=["user,net=10.0.2.0/24", "user,net=10.0.3.0/24"])
    for name, net in (("eth0", "10.0.2"), ("eth1", "10.0.3")):
        wait_for(m, f"ip addr show {name}", rf"inet {net}\.15/24")
        assert "3 received, 0% packet loss" in m.ok(f"ping -c 3 -i 0.1 {net}.2")
    m.ok("ip link set eth0 down")
    assert "3 received, 0% packet loss" in m.ok("ping -c 3 -i 0.1 10.0.3.2")
    assert m.run("ping -c 1 -W 0.2 10.0.2.2")[1] in (0, 1)  # perhaps by eth1's gateway


def test_two_cards_on_one_wire(boot):
    """Slots 5 and 9 of q35 share GSI 21: both handlers are asked, each takes what is its own."""
    m = boot(cpus=2, extra=[
        "-netdev", "user,id=a,net=10.0.2.0/24", "-device", "e1000,netdev=a,addr=5",
        "-netdev", "user,id=b,net=10.0.3.0/24", "-device", "e1000,netdev=b,addr=9"])
    for name, net in (("eth0", "10.0.2"), ("eth1", "10.0.3")):
        wait_for(m, f"ip addr show {name}", rf"inet {net}\.15/24")
    assert re.search(r"^ *21: .* eth0, eth1$", m.ok("cat /proc/interrupts"), re.M)
    m.ok("ping -c 200 -i 0.002 -q 10.0.2.2 > /tmp/a & ping -c 200 -i 0.002 -q 10.0.3.2 > /tmp/b")
    m.ok("wait")
    output = m.ok("cat /tmp/a /tmp/b")
    assert output.count("200 packets transmitted, 200 received, 0% packet loss") == 2, output
    m.ok("ip link set eth0 down")
    assert "100 received, 0% packet loss" in m.ok("ping -c 100 -i 0.002 -q 10.0.3.2")
    assert re.search(r"^ *21: .* eth1$", m.ok("cat /proc/interrupts"), re.M)


def test_cable_out_and_in_under_load(boot):
    """The cable goes 30 times while frames and echoes run: nothing hangs, counts stay right."""
    m = boot(cpus=2, frames=True, append="ip=10.9.0.2/24")
    peer = Peer(m)
    peer.meet()
    for number in range(30):
        for _ in range(20):
            peer.send(peer.udp(3000, 7, bytes(100)))
        m.hmp("set_link net0 off")
        for _ in range(5):
            peer.send(peer.udp(3000, 7, bytes(100)))
        m.hmp("set_link net0 on")
        while m.receive_frame(0) is not None:
            pass
    peer.meet()
    for number in range(600):  # twice around the rings
        peer.send(peer.udp(3000, 7, struct.pack(">I", number)))
        assert peer.receive().data == struct.pack(">I", number)
    counters(m)
    now = rings(m)
    assert now["tx_hangs"] == now["resets"] == now["missed_interrupts"] == 0


def test_a_card_that_cannot_stop_interrupting(boot):
    """Causes set again and again from outside: the console lives, echoes go on."""
    m = boot(cpus=2, frames=True, hostile=True, append="ip=10.9.0.2/24")
    peer = Peer(m)
    peer.meet()
    ics = e1000_registers(m) + 0xC8
    rounds = 0  # on a busy host one interrupt tells of many writes: then it takes more of them
    while rounds < 10 or (rounds < 100 and rings(m)["interrupts"] <= 100):
        for number in range(500):
            m.bus_write32(ics, 0x80 if number % 7 else 0xD5)
        assert m.ok("echo alive") == "alive\n"
        peer.send(peer.udp(3000, 7, b"still"))
        assert peer.receive().data == b"still"
        rounds += 1
    assert rings(m)["interrupts"] > 100
    counters(m)


def test_no_address_when_told_so(boot):
    m = boot(nics=["user"], append="ip=off")
    assert "inet" not in m.ok("ip addr show eth0")
    assert "state DOWN" in m.ok("ip link show eth0")
    m.ok("ip link set eth0 up")
    wait_for(m, "ip link show eth0", "LOWER_UP")


@pytest.mark.parametrize("model", ["e1000-82545em", "e1000-82544gc"])
def test_sisters_of_the_82540(boot, model):
    m = boot(extra=["-netdev", "user,id=n0", "-device", f"{model},netdev=n0"])
    wait_for(m, "ip addr show eth0", r"inet 10\.0\.2\.15/24")
    assert "3 received, 0% packet loss" in m.ok("ping -c 3 -i 0.1 10.0.2.2")


def rings(machine):
    """The counters of /proc/rings/e1000."""
    return {name: int(value) for name, value in
            re.findall(r"^  (\w+) (\d+)$", machine.ok("cat /proc/rings/e1000"), re.M)}


def e1000_registers(machine):
    line = re.search(r"([0-9a-f]+)-[0-9a-f]+ : e1000", machine.ok("cat /proc/iomem"))
    return int(line.group(1), 16)


def test_transmit_hang_is_seen_and_mended(boot):
    """Somebody turns the transmitter off: one report, one reset, and it sends again."""
    m = boot(frames=True, hostile=True, append="ip=10.9.0.2/24")
    peer = Peer(m)
    peer.meet()
    m.bus_write32(e1000_registers(m) + 0x400, 0)  # TCTL
    for number in range(40):
        peer.send(peer.udp(3000, 7, b"stuck"))
    wait_for(m, "cat /proc/rings/e1000", r"tx_hangs 1\b")
    peer.meet()
    peer.send(peer.udp(3000, 7, b"again"))
    assert peer.receive().data == b"again"
    now = rings(m)
    assert now["tx_hangs"] == now["resets"] == 1 and now["missed_interrupts"] == 0
    assert "transmit hang, resetting: TDH" in m.ok("dmesg")
    assert interface(m, "eth0")[10] == 40  # sent, but nobody knows whether it arrived
    counters(m)


def test_transmit_hang_with_a_full_ring(boot):
    """More than the ring holds: packets wait, then are dropped; the queue moves again."""
    m = boot(frames=True, hostile=True, append="ip=10.9.0.2/24")
    peer = Peer(m)
    peer.meet()
    before = interface(m, "eth0")
    m.bus_write32(e1000_registers(m) + 0x400, 0)
    for number in range(1000):
        peer.send(peer.udp(3000, 7, b"stuck"))
    wait_for(m, "cat /proc/rings/e1000", r"tx_hangs 1\b")
    peer.drain()
    peer.meet()
    after = interface(m, "eth0")
    # 255 were in the ring and are errors; up to 512 waited and left after the reset; the rest
    # were dropped.
    assert after[10] - before[10] == 255
    assert after[9] - before[9] >= 512 and after[11] - before[11] >= 1000 - 255 - 512
    peer.send(peer.udp(3000, 7, b"again"))
    assert peer.receive().data == b"again"


def test_a_lost_interrupt_is_noticed(boot):
    """Somebody masks the card: frames lie there without an interrupt until the service looks."""
    m = boot(frames=True, hostile=True, append="ip=10.9.0.2/24")
    peer = Peer(m)
    peer.meet()
    m.bus_write32(e1000_registers(m) + 0xD8, 0xFFFFFFFF)  # IMC
    for number in range(5):
        peer.send(peer.udp(3000, 7, bytes([number])))
    for number in range(5):
        assert peer.receive().data == bytes([number])
    assert rings(m)["missed_interrupts"] == 1
    for number in range(20):  # and interrupts come again
        peer.send(peer.udp(3000, 7, bytes([number])))
        assert peer.receive().data == bytes([number])
    assert rings(m)["missed_interrupts"] == 1


def test_forged_descriptors(boot):
    """A device that writes nonsense into its ring: counted, never believed."""
    m = boot(frames=True, hostile=True, append="ip=10.9.0.2/24")
    peer = Peer(m)
    peer.meet()
    text = m.ok("cat /proc/rings/e1000")
    base, head = re.search(r"receive ring: 256 descriptors at 0x([0-9a-f]+), slots \[(\d+),",
                           text).groups()
    base, head = m.memory_of("eth0", int(base, 16)), int(head)
    bar = e1000_registers(m)
    before = rings(m)
    # length and checksum; status DD (and EOP), errors
    forged = [(0xFFFF, 0x03, 0), (0, 0x03, 0), (2049, 0x03, 0), (60, 0x03, 0x81),
              (2048, 0x01, 0), (2048, 0x01, 0), (10, 0x03, 0)]
    m.bus_write32(bar + 0xD8, 0xFFFFFFFF)
    for number, (length, status, errors) in enumerate(forged):
        slot = base + 16 * ((head + number) % 256)
        m.bus_write32(slot + 8, length)
        m.bus_write32(slot + 12, status | errors << 8)
        m.bus_write32(slot, 0xDEADBEE0)  # and the address
    m.bus_write32(bar + 0xD0, 0xD5)  # IMS
    m.bus_write32(bar + 0xC8, 0x80)  # ICS: frames have come
    wait_for(m, "cat /proc/rings/e1000", rf"rx_bad {before['rx_bad'] + 4}\b")
    now = rings(m)
    assert now["rx_too_long"] - before["rx_too_long"] == 3
    assert m.ok("cat /proc/dma-map").splitlines()[0].endswith("errors 0")
    # The device stands behind where the driver looks by now; a restart brings them together.
    m.ok("ip link set eth0 down; ip link set eth0 up")
    peer.meet()
    peer.send(peer.udp(3000, 7, b"sane"))
    assert peer.receive().data == b"sane"
    assert "BUG" not in m.ok("dmesg") and "WARN" not in m.ok("dmesg")


def test_the_driver_goes_while_frames_pour_in(boot):
    """Unbound and bound twenty times and more, with threads sending and the wire full of frames."""
    m = boot(cpus=2, frames=True, append="ip=10.9.9.2/24")
    frame = Peer(m, "10.9.9.1", "10.9.9.2").udp(3000, 9, bytes(200))
    stop = threading.Event()

    def pour():
        while not stop.is_set():
            try:
                m.wire.send(frame, socket.MSG_DONTWAIT)
            except BlockingIOError:  # the card is down or slow
                while m.receive_frame(0) is not None:
                    pass

    wire = threading.Thread(target=pour, daemon=True)
    wire.start()
    try:
        assert "2 passed, 0 failed, 0 skipped" in m.ok("ktest e1000.unbind", timeout=120)
    finally:
        stop.set()
        wire.join(10)
    assert m.ok("cat /proc/dma-map").splitlines()[0].endswith("errors 0")
    counters(m)


def test_real_ping_from_a_namespace(boot, netns):
    m = boot(prefix=netns.prefix, nics=[netns.nic], append="ip=10.9.0.2/24")
    netns.run("ping", "-c", "1", "-w", "20", "10.9.0.2")  # the first seconds belong to the link
    said = netns.run("ping", "-c", "100", "-i", "0.01", "10.9.0.2").stdout
    assert "100 packets transmitted, 100 received, 0% packet loss" in said, said
    said = netns.run("ping", "-f", "-c", "2000", "10.9.0.2").stdout
    assert "2000 packets transmitted, 2000 received, 0% packet loss" in said, said
    said = netns.run("ping", "-c", "20", "-i", "0.01", "-s", "1472", "-M", "do", "10.9.0.2").stdout
    assert "20 packets transmitted, 20 received, 0% packet loss" in said, said
    assert "20 received, 0% packet loss" in m.ok("ping -c 20 -i 0.01 -q 10.9.0.1")
    counters(m)
