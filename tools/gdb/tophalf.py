"""tophalf's commands for gdb: `help tophalf` lists them. Loaded by `make gdb`.

They read the kernel's own structures by their names in the source; tests/console/test_gdb.py runs
them.
"""

import gdb


class Tophalf(gdb.Command):
    """Commands for looking at tophalf.

tophalf attach SOCKET   connect to QEMU
tophalf irqs            every interrupt: chip, vector, CPU, flow, handlers, counts
tophalf idt             the gates of the IDT: what the CPU jumps to
tophalf cpus            what each CPU runs, and whether it may be interrupted or switched
tophalf threads         all threads
tophalf stops NAME      stop at each stop of an interrupt's way, for the irq of that name (eth0)
tophalf walk NAME       take one interrupt of that name through its ten steps, and say each"""

    def __init__(self):
        super().__init__("tophalf", gdb.COMMAND_USER, prefix=True)


def value(expression):
    return gdb.parse_and_eval(expression)


def text(pointer):
    """A C string that may be NULL."""
    return pointer.string() if int(pointer) else "-"


def symbol(address):
    """`name+offset` of a code address, or the bare number."""
    block = gdb.execute(f"info symbol {int(address):#x}", to_string=True)
    return f"{int(address):#x}" if block.startswith("No symbol") else block.split(" in section")[0]


def list_of(head, struct, member):
    """The structs on a list_head list."""
    kind = gdb.lookup_type(f"struct {struct}")
    offset = next(f.bitpos // 8 for f in kind.fields() if f.name == member)
    link = head["next"]
    while int(link) != int(head.address):
        yield gdb.Value(int(link) - offset).cast(kind.pointer()).dereference()
        link = link["next"]


def irqs():
    """(number, descriptor, [actions]) of each irq that somebody listens to."""
    descriptors = value("irq_descs")
    low, high = descriptors.type.range()
    for number in range(low, high + 1):
        descriptor = descriptors[number]
        actions = []
        action = descriptor["action"]
        while int(action):
            actions.append(action.dereference())
            action = action["next"]
        if actions:
            yield number, descriptor, actions


def idt():
    """(vector, address of its entry code) of each present gate, from the IDT register."""
    registers = gdb.execute("monitor info registers", to_string=True)
    base, limit = next(line.split("=")[1].split() for line in registers.splitlines()
                       if line.startswith("IDT="))
    memory = gdb.selected_inferior().read_memory(int(base, 16), int(limit, 16) + 1).tobytes()
    for vector in range(len(memory) // 16):
        gate = memory[16 * vector:16 * vector + 16]
        if gate[5] & 0x80:
            yield vector, int.from_bytes(gate[0:2] + gate[6:8] + gate[8:12], "little")


class Attach(gdb.Command):
    """tophalf attach SOCKET: connect to a QEMU that `make debug` started."""

    def __init__(self):
        super().__init__("tophalf attach", gdb.COMMAND_USER)

    def invoke(self, argument, from_tty):
        for setting in ("pagination off", "confirm off", "architecture i386:x86-64"):
            gdb.execute(f"set {setting}", to_string=True)
        gdb.execute(f"target remote {argument}", to_string=True)
        print("tophalf: connected. The kernel starts at kernel_main: `hbreak kernel_main`, then "
              "`continue`.\n"
              "Use hbreak rather than break until it runs; `help tophalf` lists our commands.")


class Irqs(gdb.Command):
    """tophalf irqs: every interrupt that has a handler."""

    def __init__(self):
        super().__init__("tophalf irqs", gdb.COMMAND_USER)

    def invoke(self, argument, from_tty):
        print("  irq vector cpu  depth      count  chip     flow          handlers")
        online = int(value("cpu_count"))
        for number, descriptor, actions in irqs():
            data = descriptor["data"]
            chip = text(data["chip"]["name"]) if int(data["chip"]) else "-"
            count = sum(int(descriptor["count"][cpu]) for cpu in range(online))
            handlers = ", ".join(f"{text(a['name'])} {symbol(a['handler'])}" for a in actions)
            print(f"{number:5} {int(data['vector']):#6x} {int(data['cpu']):3} "
                  f"{int(descriptor['depth']):6} {count:10}  {chip:8} "
                  f"{symbol(descriptor['flow']):13} {handlers}")


class Idt(gdb.Command):
    """tophalf idt: where the CPU jumps for each vector."""

    def __init__(self):
        super().__init__("tophalf idt", gdb.COMMAND_USER)

    def invoke(self, argument, from_tty):
        for vector, address in idt():
            print(f"{vector:#04x} {symbol(address)}")


class Cpus(gdb.Command):
    """tophalf cpus: each CPU's state."""

    def __init__(self):
        super().__init__("tophalf cpus", gdb.COMMAND_USER)

    def invoke(self, argument, from_tty):
        print("cpu apic online  irq_depth softirq bh_off preempt_off want_resched  thread")
        for number in range(int(value("cpu_count"))):
            cpu = value("cpus")[number]
            thread = cpu["thread"]
            name = text(thread["name"].cast(gdb.lookup_type("char").pointer())) \
                if int(thread) else "-"
            print(f"{number:3} {int(cpu['apic_id']):4} {int(cpu['online']):6}  "
                  f"{int(cpu['irq_depth']):9} {int(cpu['serving_softirq']):7} "
                  f"{int(cpu['bh_disabled']):6} {int(cpu['preempt_off']):11} "
                  f"{int(cpu['want_resched']):12}  {name}")


class Threads(gdb.Command):
    """tophalf threads: all threads, their state and what they wait for."""

    def __init__(self):
        super().__init__("tophalf threads", gdb.COMMAND_USER)

    def invoke(self, argument, from_tty):
        print("  tid cpu state            switches  name             waits for")
        for thread in list_of(value("thread_table"), "thread", "all_link"):
            state = str(thread["state"]).replace("THREAD_", "").lower()
            print(f"{int(thread['tid']):5} {int(thread['cpu']):3} {state:12} "
                  f"{int(thread['switches']):12}  {thread['name'].string():16} "
                  f"{text(thread['wait_channel'])}")


class Stops(gdb.Command):
    """tophalf stops NAME: break at each stop of an interrupt's way.

NAME is an action's name as /proc/interrupts shows it, say eth0. The stops: the entry stub, the
spine, the dispatcher, the driver's top half, softirqs, and a frame that comes up from a card."""

    def __init__(self):
        super().__init__("tophalf stops", gdb.COMMAND_USER)

    def invoke(self, argument, from_tty):
        for _, descriptor, actions in irqs():
            for action in actions:
                if text(action["name"]) == argument:
                    vector = int(descriptor["data"]["vector"])
                    gdb.execute(f"break *{dict(idt())[vector]:#x}")
                    gdb.execute(f"break interrupt if frame->vector == {vector}")
                    gdb.execute(f"break irq_dispatch if desc->data.vector == {vector}")
                    gdb.execute(f"break *{int(action['handler']):#x}")
                    gdb.execute("break softirq_serve if "  # those of time would stop us all day
                                "cpus[$_thread - 1].softirq_pending & ~(1 << TIMER_SOFTIRQ"
                                " | 1 << HRTIMER_SOFTIRQ | 1 << RCU_SOFTIRQ)")
                    gdb.execute("break netif_receive_skb")
                    return
        raise gdb.GdbError(f"no irq has a handler named {argument!r}: see tophalf irqs")


class Walk(gdb.Command):
    """tophalf walk NAME: one interrupt, ten steps, from the wire back to what it interrupted.

NAME is an action's name as /proc/interrupts shows it, say eth0; something must make it interrupt
(ping). The machine stands still at each step, so what is shown is what the CPU has."""

    def __init__(self):
        super().__init__("tophalf walk", gdb.COMMAND_USER)
        self.step = 0

    def say(self, text_of_step):
        self.step += 1
        print(f"{self.step:2} {text_of_step}")

    @staticmethod
    def run_to(where, condition=None):
        stop = gdb.Breakpoint(where, type=gdb.BP_HARDWARE_BREAKPOINT)
        stop.condition = condition
        gdb.execute("continue", to_string=True)
        hits = stop.hit_count
        stop.delete()
        if hits != 1:
            raise gdb.GdbError(f"{where}: never came")

    @staticmethod
    def register(name):
        return int(gdb.execute(f"print/x ${name}", to_string=True).split("=")[1], 16)

    @staticmethod
    def frame_of_cpu(at):
        memory = gdb.selected_inferior().read_memory(at, 40).tobytes()
        return [int.from_bytes(memory[8 * n:8 * n + 8], "little") for n in range(5)]

    def invoke(self, argument, from_tty):
        found = [(d, a) for _, d, actions in irqs() for a in actions if text(a["name"]) == argument]
        if not found:
            raise gdb.GdbError(f"no irq has a handler named {argument!r}: see tophalf irqs")
        descriptor, action = found[0]
        data = descriptor["data"]
        vector, handler = int(data["vector"]), int(action["handler"])
        stub = dict(idt())[vector]
        self.step = 0
        self.run_to(f"*{stub:#x}")
        top = self.register("rsp")
        rip, cs, rflags, rsp, ss = self.frame_of_cpu(top)
        self.say(f"the device asks: irq {int(data['irq'])}, hwirq {int(data['hwirq'])} of the "
                 f"{text(data['chip']['name'])}, {'level' if data['level'] else 'edge'}; the "
                 f"controller sends vector {vector:#x} to CPU {int(data['cpu'])}")
        self.say(f"the CPU ends its instruction; the next would have been {symbol(rip)}")
        self.say(f"it looks up gate {vector:#x} of the IDT: {symbol(stub)}, and clears IF: "
                 f"{'on' if rflags & 0x200 else 'off'} before, "
                 f"{'ON' if self.register('eflags') & 0x200 else 'off'} now")
        self.say(f"it has pushed ss {ss:#x} rsp {rsp:#x} rflags {rflags:#x} cs {cs:#x} "
                 f"rip {rip:#x}")
        self.say("it jumps to the stub, which pushes the vector and goes on to isr_common: the "
                 "other registers")
        self.run_to("interrupt")
        self.say(f"the kernel's spine: {symbol(self.register('rip'))}, frame at "
                 f"{self.register('rdi'):#x}")
        self.run_to(f"*{int(descriptor['flow']):#x}")
        self.say(f"irq_dispatch found irq_descs[{int(data['irq'])}]: {symbol(descriptor['flow'])} "
                 f"knows when to mask and when to end it")
        self.run_to(f"*{handler:#x}")
        self.say(f"the chain of actions: {text(action['name'])}, {symbol(handler)} with dev_id "
                 f"{int(action['dev_id']):#x}")
        returns = [int(line.replace("=>", "").split()[0], 16) for line in
                   gdb.execute("x/60i isr_return", to_string=True).splitlines() if "iret" in line]
        self.run_to(f"*{returns[0]:#x}", f"$rsp == {top:#x}")
        self.say("the handler is done, the EOI is written, softirqs have run, the registers are "
                 "back: at IRETQ")
        gdb.execute("stepi", to_string=True)
        self.say(f"IRETQ: at {symbol(self.register('rip'))} again, IF "
                 f"{'on' if self.register('eflags') & 0x200 else 'OFF'}, "
                 f"{'as if nothing had been' if self.register('rip') == rip else 'LOST'}")


for command in (Tophalf, Attach, Irqs, Idt, Cpus, Threads, Stops, Walk):
    command()
