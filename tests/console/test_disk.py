"""Disks: what the console reads is what the host has, what it writes is there afterwards, and an
error is an error for exactly the sectors it hit."""

import json
import os
import re

from images import MIB, digest, random_image, sha256
import pytest

from machine import wait_until

MACHINE = dict(disk=True)


def diskstats(machine, disk="sda"):
    """The 17 numbers of a disk."""
    for line in machine.ok("cat /proc/diskstats").splitlines():
        words = line.split()
        if words[2] == disk:
            assert len(words) == 3 + 17
            return [int(word) for word in words[3:]]
    raise AssertionError(f"no {disk} in /proc/diskstats")


def ahci_counter(machine, name):
    """The sum of a counter of /proc/driver/ahci over all ports."""
    found = re.findall(rf"{name} (\d+)", machine.ok("cat /proc/driver/ahci"))
    assert found
    return sum(int(number) for number in found)


def scanned(machine):
    """Waits until a slow disk's partition table was looked for: that was its first request."""
    def looked_at():
        numbers = diskstats(machine) if "sda" in machine.ok("lsblk") else [0] * 17
        return numbers[0] > 0 and numbers[8] == 0
    wait_until(looked_at, "a look at the disk")
    return machine


def irqs_of(machine, action):
    for line in machine.ok("cat /proc/interrupts").splitlines():
        if action in line:
            return sum(int(word) for word in line.split(":")[1].split()[:2])  # of two CPUs
    raise AssertionError(f"no {action} in /proc/interrupts")


# ---- what is there ----------------------------------------------------------------------------


def test_lspci(machine):
    lines = machine.ok("lspci").splitlines()
    assert "00:1f.2 SATA controller: Intel Corporation 82801IR/IO/IH (ICH9R/DO/DH) 6 port SATA " \
        "Controller [AHCI mode] (rev 02)" in lines
    assert machine.ok("lspci -n -s 00:1f.2") == "00:1f.2 0106: 8086:2922 (rev 02)\n"
    assert machine.ok("lspci -s 1f.7") == ""
    verbose = machine.ok("lspci -v -s 00:1f.2")
    assert "Memory at " in verbose and "[size=4K]" in verbose
    assert "Capabilities: [80] MSI: Enable+ Count=1/1 Maskable- 64bit+" in verbose
    assert "Kernel driver in use: ahci" in verbose
    assert machine.ok("lspci -nnks1f.2").splitlines() == [
        "00:1f.2 SATA controller [0106]: Intel Corporation 82801IR/IO/IH (ICH9R/DO/DH) 6 port SATA "
        "Controller [AHCI mode] [8086:2922] (rev 02)",
        "\tSubsystem: Red Hat, Inc. QEMU Virtual Machine [1af4:1100]",
        "\tKernel driver in use: ahci"]
    dump = machine.ok("lspci -x -s 00:1f.2").splitlines()
    assert dump[1].startswith("00: 86 80 22 29 ") and len(dump) == 1 + 4 + 1
    for wrong in ("-s zz", "-s 20.0", "-s 0.8", "-s", "-q", "1f.2"):
        assert machine.run(f"lspci {wrong}")[1] == 2


def test_proc_pci_devices(machine):
    rows = [line.split("\t") for line in machine.ok("cat /proc/bus/pci/devices").splitlines()]
    assert all(len(row) == 3 + 7 + 7 + 1 for row in rows)
    ahci = next(row for row in rows if row[0] == "00fa")  # 00:1f.2
    assert ahci[1] == "80862922" and ahci[-1] == "ahci"
    assert int(ahci[3 + 5], 16) % 4096 == 0 and int(ahci[10 + 5], 16) == 4096


def test_lsblk(machine):
    assert machine.ok("lsblk") == ("NAME MAJ:MIN RM  SIZE RO TYPE MOUNTPOINTS\n"
                                   "sda    8:0    0   16M  0 disk \n")
    assert machine.ok("lsblk -n -b -o SIZE /dev/sda").strip() == str(16 * MIB)
    assert "QEMU HARDDISK" in machine.ok("lsblk -o NAME,MODEL,SERIAL")
    output, status = machine.run("lsblk sdz")
    assert status == 1 and "sdz" in output


def test_proc_partitions(machine):
    assert machine.ok("cat /proc/partitions") == ("major minor  #blocks  name\n\n"
                                                  "   8        0      16384 sda\n")


def test_disk_names_its_sectors(machine):
    """The image that `make run` attaches says which sector one looks at."""
    output = machine.ok("hexdump -C -s 0x1400 -n 64 /dev/sda")
    assert output.startswith("00001400  74 6f 70 68 61 6c 66 20  64 69 73 6b 2c 20 73 65  |top")


# ---- commands ---------------------------------------------------------------------------------


def test_dd_counts_records(machine):
    before, irqs = diskstats(machine), irqs_of(machine, "ahci[0000:00:1f.2]")
    output = machine.ok("dd if=/dev/sda of=/dev/null bs=4K count=100 iflag=direct")
    lines = output.splitlines()
    assert lines[:2] == ["100+0 records in", "100+0 records out"]
    assert re.fullmatch(r"409600 bytes \(410 kB, 400 KiB\) copied, [\d.e-]+ s, [\d.]+ .?B/s",
                        lines[2])
    after = diskstats(machine)
    assert after[0] - before[0] == 100  # reads
    assert after[2] - before[2] == 100 * 8  # sectors
    assert after[8] == 0  # in flight
    assert irqs_of(machine, "ahci[0000:00:1f.2]") - irqs == 100  # one at a time: one each


def test_dd_cuts_what_lies_behind_seek(machine):
    """As coreutils': unless conv=notrunc the file ends with the copy. A disk keeps its size."""
    def after(operands):
        machine.ok("echo -n 0123456789 > /tmp/cut")
        output, status = machine.run(f"echo -n AB | dd of=/tmp/cut bs=1 status=none {operands}")
        return output + machine.ok("cat /tmp/cut && echo").rstrip("\n"), status

    assert after("seek=3") == ("012AB", 0)
    assert after("seek=3 count=0") == ("012", 0)
    assert after("seek=3 conv=notrunc") == ("012AB56789", 0)
    assert after("seek=0") == ("AB", 0)
    assert after("seek=16777217") == (
        "dd: failed to truncate to 16777217 bytes in output file '/tmp/cut': File too large\n"
        "0123456789", 1)
    output, status = machine.run("dd if=/dev/zero of=/tmp/cut bs=1 count=1 seek=16M status=none")
    assert status == 1 and "No space left on device" in output
    assert machine.ok("wc -c /tmp/cut").split()[0] == str(16 << 20)  # a hole
    machine.ok("rm /tmp/cut")
    assert machine.run("dd if=/dev/zero of=/dev/null bs=1 seek=9 count=1 status=none") == ("", 0)


def test_dd_past_the_end(machine):
    output = machine.ok("dd if=/dev/sda of=/dev/null bs=1M skip=15 count=4")
    assert output.startswith("1+0 records in\n1+0 records out\n1048576 bytes (1.0 MB, 1.0 MiB)")
    output = machine.ok("dd if=/dev/sda of=/dev/null bs=1000 skip=16777")
    assert output.startswith("0+1 records in\n0+1 records out\n216 bytes copied")
    assert machine.run("dd if=/dev/sda of=/dev/null skip=1G status=noxfer") == (
        "dd: /dev/sda: cannot skip: Invalid argument\n0+0 records in\n0+0 records out\n", 1)
    output, status = machine.run("dd if=/dev/zero of=/dev/sda bs=1M seek=15 count=2")
    assert status == 1
    assert "dd: error writing '/dev/sda': No space left on device" in output
    assert "1+0 records out" in output


@pytest.mark.parametrize("line,status", [
    ("dd bs=0 if=/dev/zero", 1), ("dd bs=5M if=/dev/zero", 1), ("dd bs=-1", 1), ("dd count=x", 1),
    ("dd bs=99999999999999999999", 1), ("dd skip=9223372036854775807 bs=4K if=/dev/zero", 1),
    ("dd conv=ascii", 1), ("dd nonsense", 2), ("dd if=/dev/nothing", 1),
    ("hexdump -n x /dev/sda", 2), ("hexdump /dev/nothing", 1), ("hexdump -q", 2),
    ("sha256sum /dev/nothing", 1), ("sha256sum /dev", 1), ("lsblk -o NONE", 2), ("lsblk -q", 2),
])
def test_refused(machine, line, status):
    output, said = machine.run(line)
    assert said == status
    assert len(output.splitlines()) <= 2 and output.startswith(line.split()[0])


def test_sync_flushes(machine):
    before = diskstats(machine)[15]
    assert machine.ok("sync") == ""
    assert diskstats(machine)[15] == before + 1
    assert machine.run("sync now")[1] == 2


def test_hexdump_forms(machine):
    machine.ok("echo -n 'tophalf 0123456789' > /tmp/t")
    assert machine.ok("hexdump -C /tmp/t") == (
        "00000000  74 6f 70 68 61 6c 66 20  30 31 32 33 34 35 36 37  |tophalf 01234567|\n"
        "00000010  38 39                                             |89|\n"
        "00000012\n")
    assert machine.ok("hexdump /tmp/t").splitlines()[0] == \
        "0000000 6f74 6870 6c61 2066 3130 3332 3534 3736"
    assert machine.ok("hexdump -C -n 64 /dev/zero") == (
        "00000000  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|\n"
        "*\n"
        "00000040\n")


def test_sha256sum_of_input(machine):
    digest = sha256(b"abc")
    assert machine.ok("echo -n abc | sha256sum") == f"{digest}  -\n"


# ---- the host's view --------------------------------------------------------------------------


def test_sha256_equals_the_hosts(boot, tmp_path):
    """The whole of a random image, of an odd number of sectors, by blocks of every alignment."""
    path = tmp_path / "random.img"
    data = random_image(path, MIB + 512 * 3)
    m = boot(disks=[str(path)])
    assert m.ok("sha256sum /dev/sda").split()[0] == sha256(data)
    for block in ("512", "3x512", "4K", "1M", "4M", "777"):
        assert digest(m, f"dd if=/dev/sda bs={block} status=none") == sha256(data)


def test_written_pattern_is_in_the_image(boot, tmp_path):
    """Whole sectors, odd pieces across sector edges, and nothing beside them."""
    path = tmp_path / "d.img"
    data = bytearray(random_image(path, 4 * MIB, seed=2))
    m = boot(disks=[str(path)])
    m.ok("dd if=/dev/sda of=/dev/sda bs=64K skip=0 seek=20 count=8 status=none")
    data[20 << 16:28 << 16] = data[0:8 << 16]
    m.ok("dd if=/dev/zero of=/dev/sda bs=1 seek=5000 count=700 status=none")
    data[5000:5700] = bytes(700)
    m.ok("dd if=/dev/zero of=/dev/sda bs=1111 seek=900 count=3 conv=fsync status=none")
    data[1111 * 900:1111 * 903] = bytes(3333)
    m.ok("echo -n hello > /dev/sda")
    data[0:5] = b"hello"
    stats = diskstats(m)
    assert stats[4] > 0 and stats[15] == 1  # writes; the flush that fsync asked for
    m.power_off()
    assert path.read_bytes() == data


def test_two_disks_two_controllers(boot, tmp_path):
    paths, data = [], []
    for i in range(3):
        paths.append(tmp_path / f"{i}.img")
        data.append(random_image(paths[i], (i + 1) * MIB, seed=10 + i))
    m = boot(disks=[str(paths[0]), str(paths[1])], extra=[
        "-device", "ich9-ahci,id=second",
        "-drive", f"if=none,id=third,format=raw,file={paths[2]}",
        "-device", "ide-hd,drive=third,bus=second.3"])
    names = [line.split()[0] for line in m.ok("lsblk -n").splitlines()]
    assert names == ["sda", "sdb", "sdc"]
    sizes = {int(m.ok(f"lsblk -n -b -o SIZE {name}")): name for name in names}
    for i in range(3):
        name = sizes[(i + 1) * MIB]
        assert m.ok(f"sha256sum /dev/{name}").split()[0] == sha256(data[i])


ROOT_PORT = ["-device", "pcie-root-port,id=rp,chassis=1,slot=1,addr={}",
             "-device", "ich9-ahci,id=x,bus=rp"]


@pytest.mark.parametrize("machine_type,irq,source,devices", [
    ("q35", 20, "DSDT", ["-device", "ich9-ahci,id=x,addr=4"]),
    ("q35", 16, "DSDT", ["-device", "ich9-ahci,id=x,addr=0x19"]),  # a slot with wires of its own
    ("q35", 21, "DSDT", [word.format(9) for word in ROOT_PORT]),
    ("q35", 20, "DSDT", ["-device", "i82801b11-bridge,id=one,addr=0x1e",
                         "-device", "pci-bridge,id=two,bus=one,chassis_nr=2,addr=3",
                         "-device", "ich9-ahci,id=x,bus=two,addr=5"]),
    ("pc", 10, "PIIX", ["-device", "ich9-ahci,id=x,addr=5"]),
    ("pc", 11, "PIIX", ["-device", "pci-bridge,id=one,chassis_nr=1,addr=6",
                        "-device", "pci-bridge,id=two,chassis_nr=2,bus=one,addr=7",
                        "-device", "ich9-ahci,id=x,bus=two,addr=2"]),
])
def test_wire_of_every_kind(boot, disk, machine_type, irq, source, devices):
    """Interrupts arrive, from slots with and without bridges before them, on the irq found."""
    m = boot(machine=machine_type, append="pci=nomsi", extra=[
        *devices, "-drive", f"if=none,id=d,format=raw,file={disk()}", "-device",
        "ide-hd,drive=d,bus=x.0"])
    assert re.search(rf"class 010601, INTA is irq {irq} by {source}", m.ok("dmesg"))
    before = irqs_of(m, f" {irq}-fasteoi")
    m.ok("dd if=/dev/sda of=/dev/null bs=4K count=20 iflag=direct")
    assert irqs_of(m, f" {irq}-fasteoi") - before == 20
    assert ahci_counter(m, "lost interrupts") == 0
    assert "MSI: Enable-" in m.ok("lspci -v")


def test_no_disk(boot):
    m = boot(machine="pc")
    assert m.ok("lsblk") == ""
    assert m.ok("cat /proc/diskstats") == ""
    assert m.ok("cat /proc/partitions") == ""
    assert m.run("dd if=/dev/sda count=1")[1] == 1


def test_beyond_two_tebibytes(boot, tmp_path):
    """A sector number of more than 32 bits, on a sparse image."""
    path = tmp_path / "large.img"
    last = (5 << 40) - 512
    with open(path, "wb") as image:
        image.truncate(5 << 40)
        image.seek(last)
        image.write(b"the last sector".ljust(512, b"."))
    m = boot(disks=[str(path)])
    assert m.ok("lsblk -n -o SIZE").strip() == "5T"
    output = m.ok(f"hexdump -C -n 16 -s {last} /dev/sda")
    assert "|the last sector.|" in output


# ---- errors -----------------------------------------------------------------------------------


def blkdebug(path, rules, **device):
    """QEMU arguments for a disk whose requests fail by rule."""
    node = {"driver": "blkdebug", "node-name": "bad",
            "image": {"driver": "file", "filename": str(path)}, "inject-error": rules}
    return ["-blockdev", json.dumps(node), "-device",
            "ide-hd,drive=bad,bus=ide.0,rerror=report,werror=report"]


def test_read_error_hits_exactly_its_sector(boot, tmp_path):
    path = tmp_path / "d.img"
    data = random_image(path, MIB, seed=3)
    rule = {"event": "none", "iotype": "read", "sector": 104, "errno": 5, "once": False}
    m = boot(extra=blkdebug(path, [rule]))
    output, status = m.run("dd if=/dev/sda of=/dev/null skip=104 count=1 iflag=direct")
    assert status == 1
    assert "dd: error reading '/dev/sda': Input/output error" in output
    assert "0+0 records in" in output
    log = m.ok("dmesg")
    assert re.search(r"port 0: error: PxIS 0x4\w+<.*TFES.*> status 0x\w+<.*ERR> error 0x04<ABRT>",
                     log) or re.search(r"port 0: error: PxIS .*TFES.* status .*ERR.* error", log)
    assert "read of 1 sectors at 104 failed" in log
    # The neighbours, and the next time.
    for sector in (103, 105, 0):
        digest = sha256(data[sector * 512:(sector + 1) * 512])
        assert m.ok(f"dd if=/dev/sda skip={sector} count=1 iflag=direct status=none | "
                    "sha256sum").split()[0] == digest
    assert m.run("dd if=/dev/sda of=/dev/null skip=104 count=1 iflag=direct")[1] == 1
    assert ahci_counter(m, "failed") == 2
    assert ahci_counter(m, "timeouts") == 0


def test_large_read_stops_at_the_bad_sector(boot, tmp_path):
    path = tmp_path / "d.img"
    random_image(path, 4 * MIB, seed=4)
    rule = {"event": "none", "iotype": "read", "sector": 3000, "errno": 5, "once": False}
    m = boot(extra=blkdebug(path, [rule]))
    output, status = m.run("dd if=/dev/sda of=/dev/null bs=64K iflag=direct")
    assert status == 1
    assert output.splitlines()[-3:-1] == ["23+0 records in", "23+0 records out"]


def test_write_error(boot, tmp_path):
    path = tmp_path / "d.img"
    data = random_image(path, MIB, seed=5)
    rule = {"event": "none", "iotype": "write", "sector": 16, "errno": 5, "once": False}
    m = boot(extra=blkdebug(path, [rule]))
    output, status = m.run("dd if=/dev/zero of=/dev/sda seek=16 count=1 oflag=direct")
    assert status == 1 and "error writing '/dev/sda': Input/output error" in output
    assert m.run("dd if=/dev/zero of=/dev/sda seek=17 count=1 oflag=direct")[1] == 0
    m.power_off()
    assert path.read_bytes() == data[:17 * 512] + bytes(512) + data[18 * 512:]


def test_error_that_goes_away_is_not_seen(boot, tmp_path):
    """One failure, then success: the driver tries again, and the reader gets the data."""
    path = tmp_path / "d.img"
    data = random_image(path, MIB, seed=6)
    rule = {"event": "none", "iotype": "read", "sector": 200, "errno": 5, "once": True}
    m = boot(extra=blkdebug(path, [rule]))
    assert m.ok("dd if=/dev/sda skip=200 count=1 iflag=direct status=none | "
                "sha256sum").split()[0] == \
        sha256(data[200 * 512:201 * 512])
    assert ahci_counter(m, "errors") == 1
    assert ahci_counter(m, "failed") == 0


def test_innocent_neighbours_get_their_data(boot, tmp_path):
    """Several commands under way, one of them bad: only its reader sees an error."""
    path = tmp_path / "d.img"
    data = random_image(path, 4 * MIB, seed=7)
    rule = {"event": "none", "iotype": "read", "sector": 7000, "errno": 5, "once": False}
    m = boot(cpus=2, extra=blkdebug(path, [rule]))
    m.output_of("dd if=/dev/sda of=/dev/null bs=1M skip=3 count=1 status=none iflag=direct & "
                "sha256sum /dev/sda & "
                "dd if=/dev/sda bs=1M count=3 iflag=direct status=none | sha256sum > /tmp/good")
    m.output_of("wait")
    m.output_of("")  # the prompt that tells which jobs ended
    assert m.ok("cat /tmp/good").split()[0] == sha256(data[:3 * MIB])
    assert ahci_counter(m, "failed") >= 1
    assert ahci_counter(m, "timeouts") == 0


def test_errors_among_many_commands(boot, tmp_path):
    """Six readers at once, and in each one's part a sector that fails once: all get their data."""
    path = tmp_path / "d.img"
    data = random_image(path, 6 * MIB, seed=9)
    rules = [{"event": "none", "iotype": "read", "sector": part * 2048 + 77 * part, "errno": 5,
              "once": True} for part in range(6)]
    m = boot(cpus=4, extra=blkdebug(path, rules))
    for part in range(6):
        m.output_of(f"dd if=/dev/sda bs=4K skip={part * 256} count=256 iflag=direct status=none | "
                    f"sha256sum > /tmp/{part} &")
    m.output_of("wait")
    m.output_of("")
    for part in range(6):
        assert m.ok(f"cat /tmp/{part}").split()[0] == \
            sha256(data[part * MIB:(part + 1) * MIB])
    assert ahci_counter(m, "failed") == 0
    assert 1 <= ahci_counter(m, "errors") <= 6


def test_slow_disk_is_reset_and_given_up_or_served(boot, tmp_path):
    """A disk slower than the timeout: the command is aborted by COMRESET, tried again, and the
    reader gets an error in the end; the port lives on."""
    m = boot(append="ahci.timeout=300", extra=[
        "-blockdev", "driver=null-co,node-name=slow,size=67108864,latency-ns=900000000,"
        "read-zeroes=on", "-device", "ide-hd,drive=slow,bus=ide.0"])
    scanned(m)

    def is_given_up():  # unless the host stops us until an answer is there
        timeouts, resets = ahci_counter(m, "timeouts"), ahci_counter(m, "resets")
        output, status = m.run("dd if=/dev/sda of=/dev/null count=1 iflag=direct")
        return status == 1 and "Input/output error" in output and \
            (ahci_counter(m, "timeouts"), ahci_counter(m, "resets")) == (timeouts + 1, resets + 2)

    wait_until(is_given_up, lambda: f"an error\n{m.ok('cat /proc/driver/ahci')}")
    assert m.ok("lsblk -n").startswith("sda")
    assert "running" in m.ok("cat /proc/driver/ahci")


# ---- driver and machine -----------------------------------------------------------------------


@pytest.mark.parametrize("machine_type", ["q35", "pc"])
def test_six_gibibytes(boot, tmp_path, machine_type):
    """Buffers above 4 GiB: the upper halves of bus addresses matter."""
    if os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 8 << 30:
        pytest.skip("the host has less than 8 GiB of memory")
    path = tmp_path / "d.img"
    data = random_image(path, MIB, seed=8)
    m = boot(machine=machine_type, mem="6G", disks=[str(path)])
    assert m.ok("sha256sum /dev/sda").split()[0] == sha256(data)
