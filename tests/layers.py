#!/usr/bin/env python3
"""Keep the layers true: no file includes, and no object calls, what stands above it.

The ranks are read from docs/LAYERS. Two checks: every #include of every source and header, and
every undefined symbol of every object (by nm), which catches what a local prototype would hide.
Records in linker sets need no exemption: a set's bounds come from linker.ld, not from an object.
"""

import argparse
import os
import re
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FREESTANDING = {"stdarg.h", "stdbool.h", "stddef.h", "stdint.h", "limits.h", "stdalign.h"}
INCLUDE = re.compile(r'^\s*#\s*include\s+(<[^>]+>|"[^"]+")')


class Layers:
    """docs/LAYERS, and the questions one asks it."""

    def __init__(self, path):
        self.rank = {}  # folder or file -> rank
        self.blind = set()  # ranks whose folders may not see each other
        self.uses = {}  # folder -> folders that it may use although they are above
        self.upward = set()
        self.compiler = set()  # symbols that no line of source names
        for line in open(path, encoding="utf-8"):
            words = line.split("#")[0].split()
            if not words:
                continue
            if words[0] == "upward":
                self.upward.update(words[1:])
            elif words[0] == "compiler":
                self.compiler.update(words[1:])
            elif len(words) > 1 and words[1] == "uses":
                self.uses[words[0]] = set(words[2:])
            else:
                rank = int(words.pop(0))
                if words[0] == "blind":
                    self.blind.add(rank)
                    words.pop(0)
                for place in words:
                    self.rank[place] = rank

    def place(self, path):
        """The entry of docs/LAYERS that a file belongs to, or None."""
        parts = path.split("/")
        for length in range(len(parts), 0, -1):
            prefix = "/".join(parts[:length])
            if prefix in self.rank:
                return prefix
        if parts[0] == "include" and len(parts) > 2:
            for place in (f"kernel/{parts[1]}", f"drivers/{parts[1]}"):
                if place in self.rank:
                    return place
        return None

    def may_see(self, user, used):
        """May a file at the place `user` name something at the place `used`?"""
        if user == used or used in self.uses.get(user, ()):
            return True
        if self.rank[used] == self.rank[user]:
            return self.rank[user] not in self.blind
        return self.rank[used] < self.rank[user]


def sources():
    for folder in ("boot", "kernel", "drivers", "include", "tests/kernel"):
        for where, _, names in os.walk(os.path.join(TOP, folder)):
            for name in sorted(names):
                if name.endswith((".c", ".h", ".S")):
                    yield os.path.relpath(os.path.join(where, name), TOP)


def host_only(lines):
    """The numbers of lines inside #ifdef HOST_TEST: those may name the host's headers."""
    inside, depth = set(), []
    for number, line in enumerate(lines, 1):
        directive = re.match(r"\s*#\s*(if|ifdef|ifndef|else|elif|endif)\b(.*)", line)
        if directive:
            kind, rest = directive.groups()
            if kind in ("if", "ifdef", "ifndef"):
                depth.append(kind == "ifdef" and rest.strip() == "HOST_TEST")
            elif kind in ("else", "elif") and depth:
                depth[-1] = False
            elif kind == "endif" and depth:
                depth.pop()
        if any(depth):
            inside.add(number)
    return inside


def check_includes(layers):
    """Every #include goes to the own layer or below."""
    for path in sources():
        user = layers.place(path)
        if user is None:
            yield f"{path}: its folder has no rank in docs/LAYERS"
            continue
        lines = open(os.path.join(TOP, path), encoding="utf-8").read().splitlines()
        ours = host_only(lines)
        for number, line in enumerate(lines, 1):
            include = INCLUDE.match(line)
            if not include or number in ours:
                continue
            name = include.group(1)[1:-1]
            if include.group(1)[0] == "<":
                if name in FREESTANDING:
                    continue
                target = f"include/{name}"
            else:
                target = os.path.normpath(os.path.join(os.path.dirname(path), name))
            if not os.path.exists(os.path.join(TOP, target)):
                yield f"{path}:{number}: {include.group(1)}: no such file in the project"
                continue
            used = layers.place(target)
            if used is None:
                yield f"{path}:{number}: {target} has no rank in docs/LAYERS"
            elif not layers.may_see(user, used):
                yield f"{path}:{number}: {user} (rank {layers.rank[user]}) includes {target} " \
                      f"of {used} (rank {layers.rank[used]})"


def symbols(build):
    """For each object: its source, the names it defines for others, the names it lacks."""
    paths = [path for path in sources() if not path.endswith(".h")]
    objects = [f"{build}/obj/{path}.o" for path in paths]
    defined, lacking = {path: set() for path in paths}, {path: set() for path in paths}
    path_of = dict(zip(objects, paths))
    for line in subprocess.run(["nm", "-g", "-A", *objects], check=True, text=True,
                               capture_output=True).stdout.splitlines():
        # "object.o:0000000000000000 T name", and for what is lacking "object.o:   U name"
        where, letter, name = line.rsplit(None, 2)
        path = path_of[where.rsplit(":", 1)[0]]
        (lacking if letter in "Uw" else defined)[path].add(name)
    return [(path, defined[path], lacking[path]) for path in paths]


def check_symbols(layers, build):
    """Every undefined symbol is defined at the own layer or below."""
    objects = symbols(build)
    owner = {name: path for path, defined, _ in objects for name in defined}
    for path, _, lacking in objects:
        user = layers.place(path)
        for name in sorted((lacking & owner.keys()) - layers.compiler):
            used = layers.place(owner[name])
            if path.endswith(".S") and name in layers.upward:
                continue
            if user and used and not layers.may_see(user, used):
                yield f"{path}: {user} (rank {layers.rank[user]}) names {name} " \
                      f"in {owner[name]} (rank {layers.rank[used]})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    build = os.path.join(TOP, parser.parse_args().build)
    layers = Layers(os.path.join(TOP, "docs", "LAYERS"))
    failed = 0
    checks = (check_includes(layers), check_symbols(layers, build))
    for check in checks:
        complaints = list(check)
        for complaint in complaints:
            print(f"layers: {complaint}")
        failed += bool(complaints)
    print(f"{len(checks) - failed} passed, {failed} failed, 0 skipped")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
