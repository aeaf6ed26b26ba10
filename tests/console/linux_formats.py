"""Parsers for /proc files, written for what Linux prints, and strict. What they refuse, a script
written for Linux would trip over. Each returns plain dictionaries and lists."""

import re

SOFTIRQS = ["HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED",
            "HRTIMER", "RCU"]


def lines_of(text):
    assert text.endswith("\n"), "the last line has no newline"
    return text[:-1].split("\n")


def columns(text, line):
    """Counters printed with ` %10u`, right-aligned, one after the other."""
    counts = [text[at:at + 11] for at in range(0, len(text), 11)]
    assert all(re.fullmatch(r" +\d+", count) and len(count) == 11 for count in counts), repr(line)
    return [int(count) for count in counts]


def parse_interrupts(text):
    """{"cpus": n, "irqs": {26: {...}}, "rows": {"LOC": {...}}} from /proc/interrupts.

    Device rows: `%*d:`, ` %10u` per CPU, blank, chip in 8, hwirq-flow, two blanks, actions.
    Architecture rows: `%*s: ` then `%10u ` per CPU, two blanks, text. ERR and MIS: one number.
    """
    lines = lines_of(text)
    header = re.fullmatch(r"( +)((?:CPU\d+ +)+)", lines[0])
    assert header, f"header: {lines[0]!r}"
    prec = len(header.group(1)) - 8
    assert prec >= 3
    names = header.group(2).split()
    assert names == [f"CPU{n}" for n in range(len(names))]
    assert len(header.group(2)) == 11 * len(names), "each CPU's column is 11 wide"
    irqs, rows = {}, {}
    for line in lines[1:]:
        label, rest = line[:prec], line[prec:]
        if label.strip().isdigit():
            assert rest[0] == ":", line
            counts = columns(rest[1:1 + 11 * len(names)], line)
            tail = re.fullmatch(r" *(\S+) +(?:(\d+)-)?(\w+) *(?:  (\S.*))?",
                                rest[1 + 11 * len(names):])
            assert tail, f"after the counts: {line!r}"
            irqs[int(label)] = {
                "counts": counts, "chip": tail.group(1),
                "hwirq": int(tail.group(2)) if tail.group(2) else None, "flow": tail.group(3),
                "actions": tail.group(4).split(", ") if tail.group(4) else []}
        elif label.strip() in ("ERR", "MIS"):
            assert re.fullmatch(r": +\d+", rest), line
            rows[label.strip()] = {"counts": [int(rest[1:])]}
        else:
            row = re.fullmatch(r": ((?:[ \d]{10} )+)  (\S.*)", rest)
            assert row, f"architecture row: {line!r}"
            counts = columns(" " + row.group(1)[:-1], line)
            assert len(counts) == len(names), line
            rows[label.strip()] = {"counts": counts, "text": row.group(2)}
    return {"cpus": len(names), "irqs": irqs, "rows": rows}


def parse_softirqs(text):
    """{"NET_RX": [counts per CPU], ...} from /proc/softirqs; ten rows in order."""
    lines = lines_of(text)
    assert re.fullmatch(r" {20}(CPU\d+ +)+", lines[0]), lines[0]
    cpus = len(lines[0].split())
    rows = {}
    for line in lines[1:]:
        assert line[12] == ":", repr(line)
        rows[line[:12].strip()] = columns(line[13:], line)
        assert len(rows[line[:12].strip()]) == cpus
    assert list(rows) == SOFTIRQS
    return rows


def parse_stat(text):
    """/proc/stat: {"cpu": [10 numbers], "cpu0": ..., "intr": [...], "ctxt": n, ...}."""
    found = {}
    for line in lines_of(text):
        name, _, rest = line.partition(" ")
        if name == "cpu":
            assert line.startswith("cpu  "), "two blanks after the first cpu"
        numbers = [int(n) for n in rest.split()]
        if name.startswith("cpu"):
            assert len(numbers) == 10, line
        found[name] = numbers if len(numbers) > 1 or name in ("intr", "softirq") else numbers[0]
    assert len(found["softirq"]) == 11
    for name in ("intr", "ctxt", "btime", "processes", "procs_running", "procs_blocked"):
        assert name in found, f"/proc/stat lacks {name}"
    return found


def parse_meminfo(text):
    """{"MemTotal": kB, ...} from /proc/meminfo."""
    found = {}
    for line in lines_of(text):
        match = re.fullmatch(r"([\w()]+): +(\d+)( kB)?", line)
        assert match, repr(line)
        found[match.group(1)] = int(match.group(2))
    assert list(found)[:2] == ["MemTotal", "MemFree"]
    return found


def parse_cpuinfo(text):
    """A list of dictionaries, one a CPU, from /proc/cpuinfo."""
    cpus = []
    for block in text.strip("\n").split("\n\n"):
        fields = {}
        for line in block.split("\n"):
            match = re.fullmatch(r"([^\t:]+)\t*: ?(.*)", line)
            assert match, repr(line)
            fields[match.group(1)] = match.group(2)
        cpus.append(fields)
    assert [int(cpu["processor"]) for cpu in cpus] == list(range(len(cpus)))
    return cpus


def parse_resources(text, width):
    """[(depth, start, end, name)] from /proc/iomem (width 8) and /proc/ioports (width 4)."""
    found = []
    for line in lines_of(text):
        match = re.fullmatch(r"( *)([0-9a-f]+)-([0-9a-f]+) : (\S.*)", line)
        assert match and len(match.group(1)) % 2 == 0, repr(line)
        assert len(match.group(2)) >= width and len(match.group(3)) >= width
        entry = (len(match.group(1)) // 2, int(match.group(2), 16), int(match.group(3), 16),
                 match.group(4))
        assert entry[1] <= entry[2], line
        if found:
            assert entry[0] <= found[-1][0] + 1, f"depth jumps: {line!r}"
        found.append(entry)
    stack = []
    for depth, start, end, name in found:
        del stack[depth:]
        if stack:
            assert stack[-1][0] <= start and end <= stack[-1][1], f"{name}: outside of its parent"
        stack.append((start, end))
    for level in range(max(entry[0] for entry in found) + 1):
        starts = [entry[1] for entry in found if entry[0] == level]
        if level == 0:
            assert starts == sorted(starts), "not in ascending order"
    return found


def parse_net_dev(text):
    """{"eth0": {"rx_bytes": n, ..., "tx_packets": n, ...}} from /proc/net/dev."""
    lines = lines_of(text)
    assert lines[0] == "Inter-|   Receive" + 48 * " " + "|  Transmit"
    assert lines[1] == (" face |bytes    packets errs drop fifo frame compressed multicast|"
                        "bytes    packets errs drop fifo colls carrier compressed")
    names = ["rx_bytes", "rx_packets", "rx_errs", "rx_drop", "rx_fifo", "rx_frame",
             "rx_compressed", "rx_multicast", "tx_bytes", "tx_packets", "tx_errs", "tx_drop",
             "tx_fifo", "tx_colls", "tx_carrier", "tx_compressed"]
    found = {}
    for line in lines[2:]:
        match = re.fullmatch(r" *([\w.]+): *(\d.*)", line)
        assert match, repr(line)
        numbers = [int(n) for n in match.group(2).split()]
        assert len(numbers) == 16, line
        found[match.group(1)] = dict(zip(names, numbers))
    return found


def parse_diskstats(text):
    """{"sda": {"reads": n, ...}} from /proc/diskstats: major, minor, name, 17 counters."""
    names = ["reads", "reads_merged", "sectors_read", "read_ms", "writes", "writes_merged",
             "sectors_written", "write_ms", "in_flight", "io_ms", "weighted_ms", "discards",
             "discards_merged", "sectors_discarded", "discard_ms", "flushes", "flush_ms"]
    found = {}
    for line in lines_of(text):
        match = re.fullmatch(r"([ \d]{4}) ([ \d]{7}) (\w+) (\d[\d ]*)", line)
        assert match, repr(line)
        numbers = [int(n) for n in match.group(4).split(" ")]
        assert len(numbers) == 17, line
        found[match.group(3)] = dict(zip(names, numbers))
    return found


def parse_arp(text):
    """{"10.0.2.2": {"mac": ..., "flags": n, "device": ...}} from /proc/net/arp."""
    lines = lines_of(text)
    assert lines[0] == ("IP address       HW type     Flags       HW address            "
                        "Mask     Device")
    found = {}
    for line in lines[1:]:
        ip, hw_type, flags, mac, mask, device = line.split()
        assert hw_type == "0x1" and mask == "*"
        found[ip] = {"mac": mac, "flags": int(flags, 16), "device": device}
    return found


def parse_kallsyms(text):
    """[(address, letter, name)] from /proc/kallsyms, ascending."""
    found = []
    for line in lines_of(text):
        match = re.fullmatch(r"([0-9a-f]{16}) ([a-zA-Z]) ([\w.$]+)", line)
        assert match, repr(line)
        found.append((int(match.group(1), 16), match.group(2), match.group(3)))
    addresses = [entry[0] for entry in found]
    assert addresses == sorted(addresses)
    return found


def parse_uptime(text):
    """(seconds up, seconds idle over all CPUs) from /proc/uptime."""
    match = re.fullmatch(r"(\d+\.\d\d) (\d+\.\d\d)\n", text)
    assert match, repr(text)
    return float(match.group(1)), float(match.group(2))


def parse_dma(text):
    """{4: "cascade"} from /proc/dma."""
    found = {}
    for line in lines_of(text):
        match = re.fullmatch(r"([ \d]{2}): (\S.*)", line)
        assert match, repr(line)
        found[int(match.group(1))] = match.group(2)
    return found
