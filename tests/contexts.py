#!/usr/bin/env python3
"""Each public function says from where it may be called, and one that may not be called from
everywhere asserts it, first thing.

The contract is the word behind `Context:` in the comment above the prototype, of the block of
prototypes that it stands in (they end at an empty line), or else in the comment that opens the
header. What the words ask for in the function's body is in the table CONTRACTS. The assertion
stands before the first decision of the body, so that no call goes past it; a function may also
leave it to one that it calls there, and that asserts the same. Where neither is so, and rightly,
ELSEWHERE says why.

A word of boot asks for no assertion, as there is no context to tell it by: such functions may only
be called by the files that BOOT names, and by each other.
"""

import argparse
import functools
import glob
import os
import re
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FOLDERS = ("irq", "sched", "defer", "dma", "dev", "mm", "pci", "net", "fs", "user", "iommu")

# What a contract's words ask for: one of these in the body's first statements. The longest first.
ANY_BUT_HARD_IRQ = r"_context\(CTX_THREAD \| CTX_ATOMIC \| CTX_SOFTIRQ\)"
CONTRACTS = (
    ("any but hard irq", ANY_BUT_HARD_IRQ),
    ("any but nmi", r"assert_not_nmi\(\)"),
    ("any", None),
    ("gfp_atomic any, else thread", r"gfp_check\("),
    ("thread or boot", r"might_sleep_or_boot\(\)"),
    ("thread or atomic", r"_context\(CTX_THREAD \| CTX_ATOMIC\)"),
    ("thread or softirq", ANY_BUT_HARD_IRQ),
    ("thread", r"might_sleep\(\)"),
    ("softirq", r"_context\(CTX_SOFTIRQ\)|assert_in_softirq\(\)"),
    ("hard irq", r"lockdep_assert_irqs_disabled\(\)"),
    ("interrupts off", r"lockdep_assert_irqs_disabled\(\)"),
    ("interrupts on", r"lockdep_assert_irqs_enabled\(\)"),
    ("desc->lock held", r"lockdep_assert_held\(&desc->lock\)"),
)
BOOT = ("boot", "once per cpu")
BOOT_FILES = ("kernel/main.c", "kernel/interrupt.c")
# Function: files that call it all the same, on the boot's behalf.
BOOT_CALLERS = {
    "cputime_init_cpu": {"kernel/sched/sched.c"},  # sched_init(), sched_init_cpu()
    "skb_init": {"kernel/dev/netdev.c"},  # netdev_init()
    "map_load": {"kernel/mm/map.c"},  # map_init()
}

# Rightly without one. Function: (what stands in its body instead, or "", and why that will do).
INTERRUPT = "on the way of every interrupt, called by its entry code alone"
BOOKS = "in line in every change of what a CPU does; called by the scheduler and the entry code"
KMALLOC = "each way out asks gfp_check(): slab_alloc() here, page_alloc() for what is large"
SCHEDULE = "it reports this itself, in Linux's words: scheduling while atomic"
ELSEWHERE = {
    "irq_of_vector": ("", INTERRUPT),
    "irq_dispatch": ("", INTERRUPT),
    "irq_dispatch_system": ("", INTERRUPT),
    "flow_level": ("spin_lock_hardirq(", INTERRUPT),
    "flow_edge": ("spin_lock_hardirq(", INTERRUPT),
    "flow_percpu": ("", INTERRUPT),
    "irq_note_handled": ("irq_note_edge(", "the same; the rare way asserts it"),
    "irq_note_edge": ("irq_note_rest(", "the same; asserted there"),
    "irq_note_result": ("irq_note_rest(", "the same; the rare way asserts it"),
    "cputime_enter": ("", BOOKS),
    "cputime_change": ("", BOOKS),
    "cputime_irq_end_change": ("", BOOKS),
    "cputime_irq_begin": ("", BOOKS),
    "cputime_irq_end": ("", BOOKS),
    "sched_preempt_irq": ("", INTERRUPT),
    "softirq_run": ("", INTERRUPT),
    "softirq_due": ("softirq_take_back(", "hot; the rare way asserts it"),
    "syscall": ("", "called by its entry code alone, with interrupts off by SFMASK or the gate"),
    "process_return": ("process_end_wanted()", "the same; the rare way asserts it"),
    "schedule": ("schedule_atomic()", SCHEDULE),
    "yield": ("schedule_atomic()", SCHEDULE),
    "schedule_timeout": ("schedule()", SCHEDULE),
    "schedule_timeout_in_line": ("schedule()", SCHEDULE),
    "schedule_hrtimeout_range": ("schedule()", SCHEDULE),
    "prepare_to_wait": ("", "a step of wait_event(), which asks first, as schedule() does"),
    "finish_wait": ("", "a step of wait_event(), which asks first, as schedule() did"),
    "sched_wake_atomic": ("", "hot; a run queue's lock that is taken with interrupts on is an "
                          "inconsistent lock state to the validator"),
    "raise_softirq_irqoff": ("softirq_wake_thread()", "hot; a thread's way asserts it"),
    "local_bh_disable": ("", "hot; its other half asserts it when there is something to do"),
    "local_bh_enable": ("softirq_bh_enabled()", "hot; the way with something to do asserts it"),
    "kmalloc": ("slab_alloc(", KMALLOC),
    "kzalloc": ("kmalloc(", KMALLOC),
    "kcalloc": ("kmalloc(", KMALLOC),
}

# A line that begins a prototype or a function's body: a type, a name, a bracket.
STARTS = re.compile(
    r"^(?!typedef|extern|struct \w+ \{|enum|#)[A-Za-z_][\w\s]*?[\s*](\w+)\((?!\*)")


# ---- headers ------------------------------------------------------------------------------------

def prototypes(path):
    """(name, contract or None, line) of each function that a header offers."""
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    at = depth = 0
    default = contract = None
    while at < len(lines):
        if depth == 0 and lines[at].startswith("//"):
            words, first = [], at
            while at < len(lines) and lines[at].startswith("//"):
                words.append(lines[at][2:].strip())
                at += 1
            contract = contract_of(" ".join(words))
            default = contract if first == 0 else default
            continue
        line, note = split(lines[at])
        if not line:
            contract = None
        number = at + 1
        if depth == 0 and STARTS.match(line):
            notes = note
            while not line.endswith((";", "{")) and at + 1 < len(lines):
                at += 1
                more, note = split(lines[at])
                line, notes = f"{line} {more}", f"{notes} {note}"
            name = STARTS.match(line).group(1)
            yield name, contract_of(notes) or contract or default, number
        depth += line.count("{") - line.count("}")
        at += 1


def split(line):
    """A line's code, and what is said behind it."""
    code, _, note = line.partition("//")
    return code.rstrip(), note.strip()


def contract_of(text):
    found = re.findall(r"[Cc]ontext(?: of (?:all|both))?: ([^.;)]*)", text)
    return re.sub(r"\s+", " ", found[-1].strip().lower()) if found else None


# ---- bodies -------------------------------------------------------------------------------------

@functools.lru_cache(None)
def sources():
    """{path: text without comments} of all that may define or call."""
    found = {}
    for folder in ("include", "kernel", "drivers"):
        for path in glob.glob(f"{TOP}/{folder}/**/*.[ch]", recursive=True):
            with open(path, encoding="utf-8") as file:
                text = re.sub(r'"(?:[^"\\\n]|\\.)*"', '""', file.read())
            found[os.path.relpath(path, TOP)] = re.sub(r"//.*", "", text)
    return found


@functools.lru_cache(None)
def bodies():
    """{function: [(path, body)]}; a static one's name may be there more than once."""
    shape = re.compile(r"^[A-Za-z_][^;{}#=]*?\b(?!__attribute__|__printf)(\w+)\([^;{}]*\)"
                       r"[^;{}()]*\n\{\n(.*?)^\}", re.M | re.S)
    found = {}
    for path, text in sources().items():
        for match in shape.finditer(text):
            found.setdefault(match.group(1), []).append((path, match.group(2)))
    return found


def body_of(name, path=None):
    """The one of that file, if there is one."""
    known = bodies().get(name, [])
    own = [body for where, body in known if where == path]
    return (path, own[0]) if own else known[0] if len(known) == 1 else None


def beginning(body, ends):
    """What is sure to be run: up to the first of those words. What a first return returns is."""
    first = re.search(CONTROL, body)
    if first and first.group() == "return":
        body = body[:first.start()] + body[first.end():].partition(";")[0]
    return re.split(ends, body)[0]


CONTROL = r"\b(?:if|for|while|switch|return|goto|do)\b"
DECISION = rf"{CONTROL}|\?|&&|\|\|"


def asserts(name, wanted, path=None, depth=0):
    """Does a call of this function always come by the assertion, here or in what it calls first?"""
    known = body_of(name, path)
    if known is None or depth > 4:
        return False
    path, body = known
    if re.search(wanted, beginning(body, CONTROL)):
        return True
    callees = set(re.findall(r"\b(\w+)\(", beginning(body, DECISION))) - {name}
    return any(asserts(callee, wanted, path, depth + 1) for callee in callees
               if callee in bodies())


def strays(name):
    """The files that call a function of the boot and are none of the boot's."""
    call = re.compile(rf"\b{name}\(")
    for path, text in sources().items():
        if path.startswith("include/") or path in BOOT_FILES:
            continue
        for where, body in ((where, body) for known in bodies().values() for where, body in known):
            if where == path and call.search(body):
                yield path
                break


# ---- the check ----------------------------------------------------------------------------------

def check(name, contract):
    """What is wrong with a function; None: nothing."""
    if contract is None:
        return "its context is not said"
    if contract.startswith(BOOT):
        callers = sorted(set(strays(name)) - BOOT_CALLERS.get(name, set()))
        return f"is for the boot, and called by {', '.join(callers)}" if callers else None
    for words, wanted in CONTRACTS:
        if re.match(rf"{re.escape(words)}\b", contract):
            break
    else:
        return f"no such contract: {contract!r}"
    if wanted is None:
        return None
    if name not in bodies():
        return f"says {words!r}, and its body is not found"
    if asserts(name, wanted):
        return f"needs no row in ELSEWHERE: it asserts {words!r}" if name in ELSEWHERE else None
    if name not in ELSEWHERE:
        return f"says {words!r}, and does not assert it first"
    instead = ELSEWHERE[name][0]
    if instead and not re.search(re.escape(instead), bodies()[name][0][1]):
        return f"ELSEWHERE says that {instead!r} is in its body, and it is not"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build")
    parser.parse_args()
    passed = failed = 0
    seen = set()
    for folder in FOLDERS:
        for path in sorted(glob.glob(f"{TOP}/include/{folder}/*.h")):
            for name, contract, line in prototypes(path):
                seen.add(name)
                problem = check(name, contract)
                if problem:
                    print(f"contexts: {os.path.relpath(path, TOP)}:{line}: {name}: {problem}")
                failed += bool(problem)
                passed += not problem
    for name in sorted(set(ELSEWHERE) - seen):
        print(f"contexts: ELSEWHERE: there is no public function {name}")
        failed += 1
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
