"""Ethernet frames for tests, built and taken apart byte by byte, with checksums of our own.

The far end of the machine's cable is `Peer`: it answers ARP for its address, so that the kernel can
talk back, and hands over everything else.
"""

import struct
import time

from machine import TIMEOUT

MAC = bytes.fromhex("525400123456")  # QEMU's first card
PEER_MAC = bytes.fromhex("02a0b0c0d0e0")
EVERYBODY = b"\xff" * 6
ARP, IP = 0x0806, 0x0800
ICMP, TCP, UDP = 1, 6, 17


def ip_bytes(address):
    return bytes(int(part) for part in address.split("."))


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(kind, payload, to=MAC, source=PEER_MAC):
    return to + source + struct.pack(">H", kind) + payload


def arp(operation, sender, target, sender_mac=PEER_MAC, to=EVERYBODY):
    return ethernet(ARP, struct.pack(">HHBBH", 1, IP, 6, 4, operation) + sender_mac
                    + ip_bytes(sender) + bytes(6) + ip_bytes(target), to)


def ipv4(source, target, protocol, payload, to=MAC, **change):
    """change: version_ihl, length, fragment, bad_checksum."""
    header = struct.pack(">BBHHHBBH", change.get("version_ihl", 0x45), 0,
                         change.get("length", 20 + len(payload)), 1, change.get("fragment", 0),
                         64, protocol, 0) + ip_bytes(source) + ip_bytes(target)
    value = checksum(header) ^ (0x5555 if change.get("bad_checksum") else 0)
    return ethernet(IP, header[:10] + struct.pack(">H", value) + header[12:] + payload, to)


def udp_payload(source, sport, target, dport, data, bad_checksum=False, length=None):
    length = 8 + len(data) if length is None else length
    pseudo = ip_bytes(source) + ip_bytes(target) + struct.pack(">BBH", 0, UDP, 8 + len(data))
    header = struct.pack(">HHHH", sport, dport, length, 0)
    value = (checksum(pseudo + header + data) or 0xFFFF) ^ (0x5555 if bad_checksum else 0)
    return struct.pack(">HHHH", sport, dport, length, value) + data


def udp(source, sport, target, dport, data, to=MAC, **change):
    return ipv4(source, target, UDP, udp_payload(source, sport, target, dport, data, **change), to)


def icmp(source, target, kind, code, rest, data=b"", to=MAC, bad_checksum=False):
    body = struct.pack(">BBHI", kind, code, 0, rest) + data
    value = checksum(body) ^ (0x5555 if bad_checksum else 0)
    return ipv4(source, target, ICMP, body[:2] + struct.pack(">H", value) + body[4:], to)


class Packet:
    """A frame that came: its fields, with every checksum verified."""

    def __init__(self, frame):
        self.frame = frame
        self.to, self.source = frame[:6], frame[6:12]
        self.kind = struct.unpack(">H", frame[12:14])[0]
        self.protocol = None
        if self.kind == ARP:
            self.operation = struct.unpack(">H", frame[20:22])[0]
            self.sender, self.target = frame[28:32], frame[38:42]
        elif self.kind == IP:
            length = struct.unpack(">H", frame[16:18])[0]
            assert frame[14] == 0x45 and checksum(frame[14:34]) == 0, frame.hex()
            self.protocol, self.sender, self.target = frame[23], frame[26:30], frame[30:34]
            self.body = frame[34:14 + length]
            if self.protocol == ICMP:
                assert checksum(self.body) == 0, frame.hex()
            elif self.protocol == UDP:
                self.sport, self.dport, udp_length, value = struct.unpack(">HHHH", self.body[:8])
                assert udp_length == len(self.body)
                pseudo = self.sender + self.target + struct.pack(">BBH", 0, UDP, len(self.body))
                assert value == 0 or checksum(pseudo + self.body) == 0, frame.hex()
                self.data = self.body[8:]


class Peer:
    """The host at the other end of a machine's wire (frames=True)."""

    def __init__(self, machine, address="10.9.0.1", kernel="10.9.0.2"):
        self.machine, self.address, self.kernel = machine, address, kernel
        self.marks = 0

    def send(self, frame):
        self.machine.send_frame(frame)

    def receive(self, timeout=TIMEOUT):
        """The next packet; ARP's questions for us are answered on the way. None: none came."""
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            frame = self.machine.receive_frame(left)
            if frame is None:
                return None
            packet = Packet(frame)
            if packet.kind != ARP:
                return packet
            if packet.operation == 1 and packet.target == ip_bytes(self.address):
                self.send(arp(2, self.address, self.kernel, to=packet.source))
        return None

    def meet(self):
        """Wait until the kernel answers a question of ours: its link is up and it takes frames."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            self.send(arp(1, self.address, self.kernel))
            frame = self.machine.receive_frame(0.1)
            while frame is not None:
                packet = Packet(frame)
                if packet.kind == ARP and packet.operation == 2:
                    self.drain()
                    return
                frame = self.machine.receive_frame(0.1)
        raise AssertionError(f"no answer to ARP\n{self.machine.story()}")

    def drain(self):
        """What still comes of what was sent: the packets up to the echo of a mark sent now. Sent
        again each second, as a card that was just reset may drop it."""
        packets, end = [], time.monotonic() + TIMEOUT
        while time.monotonic() < end:
            self.marks += 1
            mark = (ICMP, b"\0\0", struct.pack(">I", 0x4D00_0000 + self.marks))
            self.send(self.icmp(8, 0, 0x4D00_0000 + self.marks))
            while (packet := self.receive(1)) is not None:
                if packet.protocol == ICMP and \
                        (ICMP, packet.body[:2], packet.body[4:8]) == mark:
                    return packets
                packets.append(packet)
        raise AssertionError(f"no echo of a mark\n{self.machine.story()}")

    def udp(self, sport, dport, data, **change):
        return udp(self.address, sport, self.kernel, dport, data, **change)

    def icmp(self, kind, code, rest, data=b"", **change):
        return icmp(self.address, self.kernel, kind, code, rest, data, **change)
