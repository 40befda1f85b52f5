"""The emulated machine: a CPU with shadow stacks, memory, a serial port, and no BIOS."""

from __future__ import annotations

from pathlib import Path

from shstk.kernel import memory

# Bochs's own unit of memory, in KiB; as few as it allows.
BLOCK_KIB = 8192
# Seconds since 1970 that the machine's clock starts at: every boot sees the same time.
STARTED = 1_700_000_000
# Instructions per second of the machine's own time.
SPEED = 100_000_000

# Parts of Debian's kernel that take half of its boot here and have nothing to do with tasks or
# memory: certificates, self-tests of random numbers, tracing, BPF.  Others ignore what they lack.
LEFT_OUT = (
    *("load_system_certificate_list", "jent_mod_init", "init_kprobe_trace", "init_blk_tracer"),
    *("bpf_tcp_ca_kfunc_init", "bpf_dummy_struct_ops_init"),
)
COMMAND_LINE = " ".join(
    (
        *("console=ttyS0,115200", "quiet", "nosmp", "acpi=off", "pci=off"),
        # A kernel that panics ends the machine: a reset would start it on used memory.
        *("panic=-1", "reboot=triple"),
        # Addresses are the same in every boot; forced indirect-branch tracking is not modelled.
        *("nokaslr", "norandmaps", "mitigations=off", "ibt=off"),
        # Bochs 3.0's compacted XRSTORS lays out only what it restores, not all that XCOMP_BV
        # names.  Linux restores without PKRU: SSP would be read 8 bytes off.
        "nopku",
        # The CPU's CPUID promises more: what the kernel takes for a millisecond would be 24.
        f"tsc_early_khz={SPEED // 1000}",
        *("lsm=", "cryptomgr.notests", f"initcall_blacklist={','.join(LEFT_OUT)}"),
    )
)


def settings(folder: Path) -> str:
    """The text of a bochsrc whose files are all in ``folder``."""
    return "\n".join(
        (
            f"cpu: model=tigerlake, count=1, ips={SPEED}, reset_on_triple_fault=0, "
            # They would draw from the host's clock.
            'exclude_features="rdrand, rdseed"',
            f"memory: guest={memory.SIZE >> 20}, host={memory.SIZE >> 20}, block_size={BLOCK_KIB}",
            f'romimage: file="{folder / "firmware"}"',
            # Never run, but Bochs wants one.
            f'vgaromimage: file="{folder / "firmware"}"',
            f'optramimage1: file="{folder / "memory"}", address=0x0',
            "display_library: nogui",
            "vga: extension=none, update_freq=1, realtime=0",
            "pci: enabled=0",
            f'com1: enabled=1, mode=file, dev="{folder / "console"}"',
            f"clock: sync=none, time0={STARTED}",
            "port_e9_hack: enabled=1",
            f'log: "{folder / "log"}"',
            "panic: action=fatal",
            "error: action=ignore",
            "info: action=ignore",
            "debug: action=ignore",
            "",
        )
    )
