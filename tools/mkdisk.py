#!/usr/bin/env python3
"""Make the disk image that `make run` attaches: raw, sparse, with sectors that say who they are.

usage: tools/mkdisk.py FILE [MiB]

Each of the first 2,048 sectors (1 MiB) is eight lines of text of 64 bytes, each naming the sector
and its place in it; so `hexdump -C /dev/sda` shows at a glance which sector one looks at, and
whether it is whole. The rest is zeroes and takes no space.
"""

import os
import sys

SECTOR = 512
LINE = 64
NAMED_SECTORS = 2048


def sector_text(number):
    """The 512 bytes of one named sector."""
    lines = (f"tophalf disk, sector {number:8d}, byte {offset:3d} "
             for offset in range(0, SECTOR, LINE))
    return "".join(line.ljust(LINE - 1, ".") + "\n" for line in lines).encode()


def main():
    path = sys.argv[1]
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    with open(path + ".new", "wb") as image:
        for number in range(NAMED_SECTORS):
            image.write(sector_text(number))
        image.truncate(size << 20)
    os.rename(path + ".new", path)


if __name__ == "__main__":
    main()
