"""LF1xx: the .nb file and the machine it is for.  Data only; see the package."""

from typing import Tuple

ROWS: Tuple[Tuple[str, str, str, str, str, str], ...] = (
    (
        "LF101",
        "target-mismatch",
        "error",
        "refused",
        "A .nb holds kernels for one kind of hardware. On any other CPU Paddle-Lite either segfaults or skips the kernels and "
        "returns zeros or garbage with exit code 0. `valid_targets=arm,x86` gives an ARM file, not one for both.",
        "Convert the model for this device's architecture (`litefleet convert`); one .nb per architecture.",
    ),
    (
        "LF102",
        "mixed-cpu-isas",
        "error",
        "refused",
        "opt takes the first target that has a kernel, op by op: `arm,x86` gives an ARM file, `x86,arm` a mixture that returns NaN, "
        "and both say 'successfully'.",
        "Name one CPU target per conversion: x86 or arm. litefleet makes one file per architecture by itself.",
    ),
    (
        "LF103",
        "accelerator-missing",
        "error",
        "refused",
        "The file has kernels, or the release settings, for an accelerator that this device or its Paddle-Lite runtime does not have.",
        "Convert for the CPU only, or name a runtime built for that accelerator.",
    ),
    (
        "LF104",
        "fp16-unsupported",
        "error",
        "refused",
        "fp16 kernels need ARMv8.2 half-precision arithmetic (asimdhp) and a Paddle-Lite built with fp16; elsewhere they crash with "
        "SIGILL, or the load aborts at 'calib'.",
        "Convert this model without fp16 for this device.",
    ),
    (
        "LF105",
        "nb-not-whole",
        "error",
        "refused",
        "The file is truncated, was read while it was being written, or has bytes that its own table of contents does not account for.",
        "Convert or copy the model again and compare its SHA-256.",
    ),
    (
        "LF106",
        "not-an-nb",
        "error",
        "refused",
        "The file does not begin with a Paddle-Lite naive-buffer header, so the runtime would abort at load.",
        "Give the file that `litefleet convert` (or `opt --optimize_out_type=naive_buffer`) wrote, not the source model.",
    ),
    (
        "LF107",
        "nb-meta-version",
        "error",
        "refused",
        "This .nb has a layout version that the runtime refuses (0, dropped in Paddle-Lite 2.7) or does not know yet.",
        "Convert the model again with the Paddle-Lite version that runs on the device.",
    ),
    (
        "LF108",
        "version-difference",
        "warning",
        "",
        "The file was written by another Paddle-Lite version than the one that runs it. That mostly works; where an operator changed, "
        "it does not.",
        "Convert with the device's Paddle-Lite version; the golden comparison says whether this pair works.",
    ),
    (
        "LF109",
        "version-unknown",
        "note",
        "",
        "An untagged build of Paddle-Lite carries a commit hash or nothing as its version, so the versions cannot be compared.",
        "Nothing, if the golden comparison passes; else convert with the opt of the same build.",
    ),
    (
        "LF110",
        "hash-mismatch",
        "error",
        "failed",
        "The bytes that arrived or are stored on the device are not the bytes that were sent: a single flipped bit in the weights gives a "
        "slightly wrong answer with exit code 0.",
        "Run the same command again: the file is sent again. If that repeats, check the device's storage.",
    ),
    (
        "LF111",
        "int8-on-x86",
        "warning",
        "",
        "Weight-quantised (int8/int16) files are right on ARM; on x86 they convert, load and run, and return wrong outputs: NaN, or the same for every input.",
        "Convert without quantisation for x86.",
    ),
    (
        "LF112",
        "fp16-with-int8",
        "error",
        "refused",
        "Paddle-Lite does not support fp16 and int8 kernels in one file.",
        "Choose one of the two.",
    ),
    (
        "LF113",
        "extra-ops-missing",
        "error",
        "refused",
        "The file uses operators that this Paddle-Lite was built without (the small build leaves the extra operators out); the load aborts, or another operator's kernel is missing.",
        "Use a runtime built with `--with_extra=ON`, or a full build.",
    ),
    (
        "LF114",
        "int8-threads",
        "note",
        "",
        "On 32-bit ARM, int8 files are known to segfault with three or four threads.",
        "Run this model with one thread if it crashes now and then.",
    ),
    (
        "LF115",
        "file-not-opened",
        "error",
        "failed",
        "The program that loads the .nb could not open it: another path or working folder than was meant, or no permission to read it.",
        "Give the file's absolute path, and make sure that the program's user may read it.",
    ),
)
