#!/usr/bin/env python3
"""Each public header compiles alone, and twice: it includes what it needs, and is guarded.

The compiler and its flags are those of the build (compile_commands.json).
"""

import argparse
import concurrent.futures
import glob
import json
import os
import shlex
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def compile_header(flags, header):
    name = os.path.relpath(header, f"{TOP}/include")
    text = f"#include <{name}>\n#include <{name}>\n"
    done = subprocess.run([*flags, "-fsyntax-only", "-x", "c", "-"], input=text, text=True, cwd=TOP,
                          capture_output=True)
    return name, done.returncode, done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", default="build")
    build = os.path.join(TOP, parser.parse_args().build)
    with open(f"{build}/compile_commands.json", encoding="utf-8") as file:
        words = shlex.split(json.load(file)[0]["command"])
    flags = words[:words.index("-c")]
    headers = sorted(glob.glob(f"{TOP}/include/*/*.h"))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        bad = [(name, errors) for name, status, errors
               in pool.map(lambda header: compile_header(flags, header), headers) if status != 0]
    for name, errors in bad:
        print(f"headers: <{name}> does not compile alone:\n{errors}")
    if not headers:
        print("headers: there are none")
    failed = int(bool(bad) or not headers)
    print(f"{1 - failed} passed, {failed} failed, 0 skipped")
    return failed


if __name__ == "__main__":
    sys.exit(main())
