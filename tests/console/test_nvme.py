"""NVMe: what the console reads is what the host has, by every kind of interrupt, from one queue for
all CPUs to one for each. What happens when the device fails: test_nvme_faults.py."""

import random
import re
import time

import pytest
from machine import TIMEOUT, Machine, wait_until
from images import MIB, digest, random_image, sha256
from nvme_disk import clean, counter, nvme, settled


@pytest.fixture(scope="module")
def shared_disk(tmp_path_factory):
    """A machine with four CPUs and a disk that nobody writes to; the disk's bytes."""
    path = tmp_path_factory.mktemp("nvme") / "disk.img"
    data = random_image(path)
    with Machine(name="test_nvme", cpus=4, extra=nvme(path)) as m:
        yield m, data


# ---- what is there ----------------------------------------------------------------------------


def test_a_queue_for_each_cpu(shared_disk):
    m, _ = shared_disk
    said = m.ok("cat /proc/driver/nvme")
    assert re.match(r"nvme0: 0000:00:\w\w\.\d, QEMU NVMe Ctrl, live, .*CSTS 0x1<RDY>\n"
                    r"  5 vectors, 4 queues, depth 1024, ", said)
    rows = re.findall(r"queue (\d): depth \d+, vector (\d), irq (\d+), CPUs (\S+),", said)
    assert [(row[0], row[1]) for row in rows] == [(str(i), str(i)) for i in range(5)]
    interrupts = m.ok("cat /proc/interrupts")
    for number, index, irq, cpus in rows:
        assert re.search(rf"^ *{irq}:.* (?:IR-)?PCI-MSIX-0000:00:\S+ +{index}-edge +"
                         rf"nvme0q{number}$", interrupts, re.M)
        if number != "0":
            assert cpus == str(int(number) - 1)
            for file in ("affinity_hint", "smp_affinity", "effective_affinity"):
                assert m.ok(f"cat /proc/irq/{irq}/{file}").strip() == f"{1 << int(cpus):x}"


def test_disk_is_listed(shared_disk):
    m, _ = shared_disk
    assert re.search(r"^nvme0n1 .* 16M  0 disk", m.ok("lsblk"), re.M)
    assert "tophalf" in m.ok("lsblk -o NAME,MODEL,SERIAL")
    assert "nvme0n1" in m.ok("cat /proc/partitions") and "nvme0n1" in m.ok("cat /proc/diskstats")
    assert "driver in use: nvme" in m.ok("lspci -v")


def test_many_readers(shared_disk):
    """As many at once as the shell has room for in the background, at random places."""
    m, data = shared_disk
    source = random.Random(7)
    places = [source.randrange(len(data) // 4096 - 16) for _ in range(32)]
    for i, place in enumerate(places):
        m.output_of(f"dd if=/dev/nvme0n1 bs=4K skip={place} count=16 iflag=direct status=none | "
                    f"sha256sum > /tmp/{i} &")
        if i % 16 == 15:
            m.output_of("wait")
            m.output_of("")
    for i, place in enumerate(places):
        assert m.ok(f"cat /tmp/{i}").split()[0] == sha256(data[place * 4096:(place + 16) * 4096])
    settled(m)


def test_lab_shows_the_seven_steps(shared_disk):
    m, _ = shared_disk
    said = m.ok("lab nvme-read")
    assert [row for row in re.findall(r"^ {3}(\d) ", said, re.M)] == list("1234567")
    cycles = [int(number) for number in re.findall(r"^ {3}\d .* (\d+)$", said, re.M)]
    assert len(cycles) == 6 and cycles == sorted(cycles)  # step 3 is the device's secret


def test_lab_needs_data_to_see(boot):
    """A device that answers and writes nothing, as null-co does of itself."""
    m = boot(extra=["-blockdev", "driver=null-co,size=1048576,node-name=null",
                    "-device", "nvme,drive=null,serial=a"])
    output, status = m.run("lab nvme-read")
    assert status == 1 and "answers, but writes no data" in output


def test_lab_queue_depth(shared_disk):
    m, _ = shared_disk
    said = m.ok("lab queue-depth nvme0n1")
    assert re.findall(r"^nvme0n1 +(\d+) ", said, re.M)[:4] == ["1", "2", "4", "8"]


# ---- written ------------------------------------------------------------------------------------


def test_what_is_written_is_in_the_image(boot, tmp_path):
    """Less than a sector, across sectors; whole ones: test_disk_matrix.py."""
    path = tmp_path / "n.img"
    data = bytearray(random_image(path, 4 * MIB, seed=2))
    m = boot(cpus=2, extra=nvme(path))
    m.ok("dd if=/dev/zero of=/dev/nvme0n1 bs=1 seek=5000 count=700 status=none")
    data[5000:5700] = bytes(700)
    m.ok("sync")
    m.power_off()
    assert path.read_bytes() == data


def test_blocks_of_four_kibibytes(boot, tmp_path):
    """A medium whose blocks are larger than a sector: pieces are read, changed and written."""
    path = tmp_path / "n.img"
    data = bytearray(random_image(path, MIB, seed=3))
    m = boot(extra=nvme(path, logical_block_size=4096, physical_block_size=4096))
    assert "256 blocks of 4096 bytes" in m.ok("cat /proc/driver/nvme")
    assert m.ok("sha256sum /dev/nvme0n1").split()[0] == sha256(data)
    assert digest(m, "dd if=/dev/nvme0n1 bs=777 skip=3 count=20 status=none") == \
        sha256(data[777 * 3:777 * 23])
    m.ok("dd if=/dev/zero of=/dev/nvme0n1 bs=1000 seek=5 count=9 status=none")
    data[5000:14000] = bytes(9000)
    m.ok("sync")
    assert m.ok("sha256sum /dev/nvme0n1").split()[0] == sha256(data)
    m.power_off()
    assert path.read_bytes() == data


def test_several_namespaces(boot, tmp_path):
    """Three disks behind one controller, one of them read-only, share its queues."""
    data, extra = [], ["-device", "nvme,id=c,serial=x"]
    for i, nsid in enumerate((1, 3, 7)):
        path = tmp_path / f"{i}.img"
        data.append(random_image(path, (i + 1) * MIB, seed=20 + i))
        read_only = ",readonly=on" if nsid == 7 else ""
        extra += ["-drive", f"if=none,id=d{i},format=raw,file={path}{read_only}",
                  "-device", f"nvme-ns,drive=d{i},bus=c,nsid={nsid}"]
    m = boot(cpus=1, extra=extra)  # one queue for all three
    for i in range(3):
        m.output_of(f"sha256sum /dev/nvme0n{i + 1} > /tmp/{i} &")
    m.output_of("wait")
    m.output_of("")
    for i in range(3):
        assert m.ok(f"cat /tmp/{i}").split()[0] == sha256(data[i])
    # The driver does not know that it is read-only: the disk says so, at once or when it is asked.
    assert m.run("dd if=/dev/zero of=/dev/nvme0n3 count=1 oflag=direct")[1] == 1
    output, status = m.run("dd if=/dev/zero of=/dev/nvme0n3 count=1 conv=fsync")
    assert status == 1 and "error flushing '/dev/nvme0n3': Input/output error" in output
    assert m.run("dd if=/dev/zero of=/dev/nvme0n2 count=1 conv=fsync")[1] == 0
    m.ok("driver unbind nvme0")
    assert "nvme" not in m.ok("lsblk")
    clean(m)


def test_disks_are_counted(boot, tmp_path):
    """The first namespace there is, is nvme0n1, whatever its identifier; one that is not used keeps
    its number, so that the others are called what Linux calls them."""
    extra = ["-device", "nvme,id=c,serial=x"]
    for i, (nsid, more) in enumerate(((5, ""), (6, ",ms=8"), (200, ""))):
        path = tmp_path / f"{i}.img"
        random_image(path, MIB, seed=30 + i)
        extra += ["-drive", f"if=none,id=d{i},format=raw,file={path}",
                  "-device", f"nvme-ns,drive=d{i},bus=c,nsid={nsid}{more}"]
    m = boot(extra=extra)
    story = m.ok("cat /proc/driver/nvme")
    assert re.findall(r"namespace (\d+): (\S+),", story) == [("5", "nvme0n1"), ("200", "nvme0n3")]
    assert "namespace 6 not used: it keeps metadata with its blocks" in m.ok("dmesg")
    for i, name in ((0, "nvme0n1"), (2, "nvme0n3")):
        assert m.ok(f"sha256sum /dev/{name}").split()[0] == \
            sha256((tmp_path / f"{i}.img").read_bytes())
    clean(m)


def test_namespaces_share_a_queue(boot):
    """Commands of three disks are under way in one queue at a time: each answer finds its own."""
    extra = ["-device", "nvme,id=c,serial=x"]
    for nsid in (1, 2, 3):
        extra += ["-blockdev", f"driver=null-co,node-name=s{nsid},size=67108864,"
                  "latency-ns=20000000,read-zeroes=on",
                  "-device", f"nvme-ns,drive=s{nsid},bus=c,nsid={nsid}"]
    m = boot(cpus=1, append="nvme.timeout=5000", extra=extra)
    for nsid in (1, 2, 3):
        m.output_of(f"dd if=/dev/nvme0n{nsid} of=/dev/null bs=4K count=10 iflag=direct "
                    "status=none &")
    m.output_of("wait")
    assert counter(m, "strange answers") == 0 and counter(m, "timeouts") == 0
    settled(m)


# ---- interrupts ---------------------------------------------------------------------------------


def test_fewer_queues_than_cpus(boot, tmp_path):
    path = tmp_path / "n.img"
    data = random_image(path, MIB, seed=4)
    m = boot(cpus=4, extra=nvme(path, max_ioqpairs=2, msix_qsize=3))
    said = m.ok("cat /proc/driver/nvme")
    assert re.findall(r"queue [12]: .*CPUs (\S+),", said) == ["0,2", "1,3"]
    assert m.ok("sha256sum /dev/nvme0n1").split()[0] == sha256(data)


def test_every_kind_of_interrupt(boot, tmp_path):
    """The same bytes by messages of its own for each queue, by one wire for all, and by a clock."""
    path = tmp_path / "n.img"
    data = random_image(path, 256 << 10, seed=5)
    m = boot(cpus=2, extra=nvme(path))
    for mode, name, vectors, chip in (("intx", "INTx", 1, "IO-APIC"), ("poll", "POLL", 1, "POLL"),
                                      ("msix", "MSI-X", 3, "MSIX"), ("auto", "MSI-X", 3, "MSIX")):
        assert f"-> {name} irq" in m.ok(f"irq mode nvme0 {mode}")
        assert f"\n  {vectors} vectors" in m.ok("cat /proc/driver/nvme")
        assert digest(m, "dd if=/dev/nvme0n1 bs=64K iflag=direct status=none") == sha256(data)
        row = next(line for line in m.ok("cat /proc/interrupts").splitlines() if "nvme0q1" in line)
        assert chip in row
        settled(m)
    output, status = m.run("irq mode nvme0 msi")
    assert status == 1 and "cannot use msi" in output and "MSI-X" in output
    assert digest(m, "dd if=/dev/nvme0n1 bs=64K iflag=direct status=none") == sha256(data)


@pytest.mark.parametrize("option,kind", [("pci=nomsi", "IO-APIC"), ("pci=noirq", "PCI-POLL"),
                                         ("nvme.completion=hardirq", "MSIX"),
                                         ("nvme.completion=irq_poll", "MSIX"),
                                         ("nvme.depth=2 nvme.queues=1", "MSIX")])
def test_boot_options(boot, tmp_path, option, kind):
    path = tmp_path / "n.img"
    data = random_image(path, 512 << 10, seed=6)
    m = boot(cpus=2, append=option, extra=nvme(path))
    m.output_of("sha256sum /dev/nvme0n1 > /tmp/a &")
    assert m.ok("sha256sum /dev/nvme0n1").split()[0] == sha256(data)
    m.output_of("wait")
    m.output_of("")
    assert m.ok("cat /tmp/a").split()[0] == sha256(data)
    row = next(line for line in m.ok("cat /proc/interrupts").splitlines() if "nvme0q1" in line)
    assert kind in row
    polled = re.findall(r"^ +\d+ +\d+ +(\d+) ", m.ok("cat /proc/irq_poll"), re.M)
    assert (sum(map(int, polled)) > 0) == ("irq_poll" in option), polled
    settled(m)


@pytest.mark.parametrize("threshold,by_sgl", [(0, 0), (32768, 8), (65536, 8), (131072, 0)])
def test_long_pieces_are_told_by_sgl(boot, tmp_path, threshold, by_sgl):
    path = tmp_path / "n.img"
    data = random_image(path, 512 << 10, seed=11)
    m = boot(append=f"nvme.sgl_threshold={threshold}", extra=nvme(path))
    before = counter(m, "by SGL"), counter(m, "commands")
    assert digest(m, "dd if=/dev/nvme0n1 bs=64K iflag=direct status=none") == sha256(data)
    assert counter(m, "by SGL") - before[0] == by_sgl
    assert counter(m, "commands") - before[1] == 8
    settled(m)


def address_of(m):
    return re.search(r"nvme0: (\S+),", m.ok("cat /proc/driver/nvme"))[1]


def rebind(m, data, times):
    """Taken away and given back while readers read: each sees its bytes, or an end."""
    address = address_of(m)
    for _ in range(times):
        m.output_of("dd if=/dev/nvme0n1 of=/dev/null bs=64K status=none iflag=direct &")
        m.output_of("dd if=/dev/nvme0n1 of=/dev/null bs=4K status=none iflag=direct &")
        m.ok("driver unbind nvme0")
        m.output_of("wait")
        m.ok(f"driver bind {address}")
    m.output_of("")
    assert m.ok("sha256sum /dev/nvme0n1").split()[0] == sha256(data)
    settled(m)


def rebound_leaves_nothing(boot, path, first, then):
    """After the first times, which fill caches, no memory goes."""
    data = random_image(path, MIB, seed=8)
    m = boot(cpus=4, extra=nvme(path))
    rebind(m, data, first)
    before = m.ok("grep MemFree /proc/meminfo")
    rebind(m, data, then)
    free = [int(line.split()[1]) for line in (before, m.ok("grep MemFree /proc/meminfo"))]
    assert abs(free[1] - free[0]) < 512, free


def test_rebound_under_load(boot, tmp_path):
    rebound_leaves_nothing(boot, tmp_path / "n.img", 5, 5)


@pytest.mark.long
def test_rebound_a_hundred_times(boot, tmp_path):
    rebound_leaves_nothing(boot, tmp_path / "n.img", 10, 100)


def mix(m, seconds, rebinds, disk, address):
    """Threads that read, write and compare, while the driver is taken away and given back."""
    def some_meet_it_gone():
        m.send(f"lab disk-mix {disk} {seconds} &\r")
        m.wait_prompt()
        end = time.monotonic() + seconds
        for _ in range(rebinds):
            m.ok("sleep 0.3")
            m.ok(f"driver unbind {address}")
            m.ok(f"driver bind {address}")
            if time.monotonic() > end:  # a loaded host: fewer will do
                break
        m.send("wait\r")
        said = m.expect(r"(\d+) blocks read, (\d+) written, (\d+) done again as the disk had gone, "
                        r"(\d+) failed, (\d+) wrong", timeout=seconds + TIMEOUT)
        m.wait_prompt()
        assert said[4] == said[5] == "0"
        assert int(said[1]) > 0 and int(said[2]) > 0
        return rebinds == 0 or int(said[3]) > 0

    # A host that comes to the first unbinding when the threads are done has to do it again.
    wait_until(some_meet_it_gone, "a request whose disk had gone", seconds=seconds + TIMEOUT)
    clean(m)


def test_mixed_load_is_verified(boot, tmp_path):
    path = tmp_path / "n.img"
    random_image(path, 4 * MIB, seed=18)
    m = boot(cpus=4, extra=nvme(path))
    mix(m, 2, 3, "nvme0n1", address_of(m))
    settled(m)


@pytest.mark.long
def test_mixed_load_for_minutes(boot, tmp_path):
    path = tmp_path / "n.img"
    random_image(path, 4 * MIB, seed=18)
    m = boot(cpus=4, extra=nvme(path))
    mix(m, 10, 10, "nvme0n1", address_of(m))
    before = m.ok("grep MemFree /proc/meminfo")
    mix(m, 600, 600, "nvme0n1", address_of(m))
    settled(m)
    free = [int(line.split()[1]) for line in (before, m.ok("grep MemFree /proc/meminfo"))]
    assert abs(free[1] - free[0]) < 1024, free


def test_lab_compares_the_kinds(boot, tmp_path, disk):
    """The same reads by each kind that a device can have; after it all is as before."""
    path = tmp_path / "n.img"
    data = random_image(path, MIB, seed=17)
    m = boot(cpus=2, disks=[disk()], extra=nvme(path))
    said = m.ok("lab interrupt-kinds")
    rows = re.findall(r"^(\w+) +(\S+) +(\d|no) +([\d.]+|-) ", said, re.M)
    assert [row[:3] for row in rows] == [
        ("nvme0n1", "INTx", "1"), ("nvme0n1", "MSI", "no"), ("nvme0n1", "MSI-X", "3"),
        ("nvme0n1", "POLL", "1"), ("sda", "INTx", "1"), ("sda", "MSI", "1"), ("sda", "MSI-X", "no"),
        ("sda", "POLL", "1")]
    assert all(row[3] == "1.00" for row in rows if row[1] in ("INTx", "MSI-X") and row[2] != "no")
    assert m.ok("sha256sum /dev/nvme0n1").split()[0] == sha256(data)
    assert "uses" in m.ok("msi") and "3 vectors" in m.ok("cat /proc/driver/nvme")
    settled(m)
