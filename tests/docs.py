#!/usr/bin/env python3
"""What the documents name exists: the map's files, symbols, commands, tests; links; paths.

docs/MAP.md is a table: concept | file | symbol | command | test. A file is a path; a symbol is
defined in that file; a command is a COMMAND record, or a path below /proc that a record declares;
a test is a file, with `::name` behind it a test in that file. Several stand side by side with
commas, `-` means none.
"""

import argparse
import functools
import glob
import os
import re
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MAP = "docs/MAP.md"
PAGES = ["README.md", "CONTRIBUTING.md", "tests/README.md"]


@functools.lru_cache(None)
def text_of(path):
    with open(os.path.join(TOP, path), encoding="utf-8") as file:
        return file.read()


def is_file(path):
    return os.path.exists(os.path.join(TOP, path))


@functools.lru_cache(None)
def records():
    """The names of all console commands, and the paths of all /proc files, from their records."""
    commands, files = set(), set()
    for folder in ("kernel", "drivers"):
        for path in glob.glob(f"{TOP}/{folder}/**/*.c", recursive=True):
            text = text_of(os.path.relpath(path, TOP))
            commands.update(re.findall(r'^COMMAND\(\s*"([^"]+)"', text, re.M))
            files.update(re.findall(r'^PROC_FILE\w*\(\s*"([^"]+)"', text, re.M))
            for body in re.findall(r"LINKER_RECORD\(proc_file,.*?\};", text, re.S):
                files.update(re.findall(r'\.path\s*=\s*"([^"]+)"', body))
            for body in re.findall(r"LINKER_RECORD\(command,.*?\};", text, re.S):
                commands.update(re.findall(r'\.name\s*=\s*"([^"]+)"', body))
    return commands, files


def defines(path, symbol):
    """Does the file define the symbol: a function, object, type, macro, enumerator or label?"""
    text = text_of(path)
    name = re.escape(symbol)
    shapes = (
        rf"^[A-Za-z_][\w\s*]*?\b{name}\([^;{{]*?\)[^;{{]*\{{",  # a function with its body
        rf"^[\w*][\w\s*]*\b{name}\s*(?:\[[^\]]*\]\s*)*(?:__\w+(?:\(.*?\))?\s*)?[=;]",  # an object
        rf"^(?:static inline |extern )?[\w*][\w\s*]*\b{name}\(",  # a declaration, in a header
        rf"^(?:struct|enum|union)\s+{name}\b[^;]*\{{",
        rf"^\s*#\s*define\s+{name}\b",
        rf"^\s+{name}\s*(?:=[^,]*)?,",  # an enumerator
        rf"^\s*(?:\.globl\s+)?{name}:",  # a label
        rf"^\s*(?:SYM_\w+|ENTRY|FUNCTION)\({name}\)",
    )
    return any(re.search(shape, text, re.M) for shape in shapes)


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def names(cell):
    return [name.strip().strip("`") for name in cell.split(",") if name.strip() not in ("", "-")]


def check_command(command):
    commands, files = records()
    words = command.split()
    if words[0] not in commands and not words[0].startswith("/proc/"):
        return f"no console command {words[0]}"
    for word in words:
        if word.startswith("/proc/"):
            wanted = word[len("/proc/"):]
            # "irq/N/spurious" in the map is the record "irq/*/spurious"
            if wanted not in files and re.sub(r"\bN\b", "*", wanted) not in files:
                return f"no record declares {word}"
    return None


def check_test(test):
    path, _, name = test.partition("::")
    if not is_file(path):
        return f"no file {path}"
    if not name:
        return None
    text = text_of(path)
    if "." in name:
        suite, _, short = name.partition(".")
        found = re.search(rf"KTEST\({re.escape(suite)},\s*{re.escape(short)}\)", text)
    else:
        found = re.search(rf"(?:def |void ){re.escape(name)}\(", text)
    return None if found else f"{path} holds no test {name}"


def check_map():
    rows = 0
    for number, line in enumerate(text_of(MAP).splitlines(), 1):
        if not line.startswith("|") or re.match(r"^\|[\s:|-]+$", line):
            continue
        row = cells(line)
        if row[0].lower() == "concept":
            continue
        where = f"{MAP}:{number}: {row[0]}"
        if len(row) != 5:
            yield f"{where}: {len(row)} cells, expected 5"
            continue
        rows += 1
        files = names(row[1])
        for path in files:
            if not is_file(path):
                yield f"{where}: no file {path}"
        for symbol in names(row[2]):
            if not any(is_file(path) and defines(path, symbol) for path in files):
                yield f"{where}: {symbol} is not defined in {row[1]}"
        for problem in [*map(check_command, names(row[3])), *map(check_test, names(row[4]))]:
            if problem:
                yield f"{where}: {problem}"
    if rows == 0:
        yield f"{MAP}: holds no rows"


def pages():
    found = glob.glob(f"{TOP}/docs/**/*.md", recursive=True)
    return sorted(PAGES + [os.path.relpath(path, TOP) for path in found])


def check_links():
    """Relative links lead somewhere."""
    for page in pages():
        for number, line in enumerate(text_of(page).splitlines(), 1):
            for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", line):
                if "://" in target:
                    continue
                if not is_file(os.path.normpath(os.path.join(os.path.dirname(page), target))):
                    yield f"{page}:{number}: the link to {target} leads nowhere"


def check_paths():
    """Paths of ours that the text names in `code` exist."""
    shape = re.compile(r"`((?:boot|kernel|drivers|include|iso|tests|docs|tools)/[\w./-]*\w)`")
    for page in pages():
        if page.startswith("docs/decisions/"):
            continue  # a decision is a record of its day
        for number, line in enumerate(text_of(page).splitlines(), 1):
            for path in shape.findall(line):
                if "NAME" not in path and not is_file(path):
                    yield f"{page}:{number}: {path} does not exist"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build")
    parser.parse_args()
    checks = (check_map, check_links, check_paths)
    failed = 0
    for check in checks:
        complaints = list(check())
        for complaint in complaints:
            print(f"docs: {complaint}")
        failed += bool(complaints)
    print(f"{len(checks) - failed} passed, {failed} failed, 0 skipped")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
