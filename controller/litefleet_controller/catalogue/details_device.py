"""Details: the device's environment."""

from __future__ import annotations

from collections.abc import Mapping

from litefleet_agent.findings import Certainty

from .details_entry import Details, Where

__all__ = ["DEVICE"]

_FACTS = (Where.DEVICE,)
_RUNTIME = (Where.FILE, Where.DEVICE)
_READ_OR_TOLD = (Certainty.CERTAIN, Certainty.LIKELY)

DEVICE: Mapping[str, Details] = {
    "LF301": Details(
        "The first line that runs on the device is plain sh: it looks for python3.7 to python3 on PATH and asks each for its version.",
        (Where.CONTACT,),
        "no Python 3.7 or later on PATH; sh reports armv7l, libc glibc, Linux",
        (
            "Look by hand: `ssh USER@HOST 'command -v python3 && python3 --version'`.",
            "Install it: `sudo apt-get install python3` (Debian, Ubuntu, Raspberry Pi OS).",
            "If it lies elsewhere, name it in the inventory: `python: /opt/python/bin/python3`.",
        ),
        ("sh: python3: not found", "python3: command not found"),
    ),
    "LF302": Details(
        "The device's architecture, CPython version and libc are compared with the runtime that is named, or with the published "
        "wheels, before anything is downloaded or sent.",
        (Where.DEVICE, Where.LOG),
        "paddlelite is published for x86_64 only; this device has aarch64 with CPython 3.11: name a wheel or a folder built for aarch64 under `runtimes: {aarch64: ...}` in litefleet.yaml.",
        (
            "See what the device is: `litefleet probe --limit NAME`.",
            "Build Paddle-Lite with its Python package on such a device: `./lite/tools/build_linux.sh --arch=armv8 --with_extra=ON --with_python=ON --python_version=3.9`.",
            "Name the result under `runtimes:` in litefleet.yaml: `{aarch64: {wheel: FILE}}` or `{aarch64: {folder: FOLDER}}`.",
            "If the device has it installed already: `{aarch64: system}`.",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement paddlelite (from versions: none)",
            "ERROR: No matching distribution found for paddlelite",
        ),
        (
            "PaddlePaddle/Paddle-Lite#4195: Raspberry Pi; it has to be built there",
            "PaddlePaddle/Paddle-Lite#9828: a wish for ARM wheels",
            "PaddlePaddle/Paddle-Lite#10458: which version is published for which Python",
            "PaddlePaddle/Paddle-Lite#10687: none for Python 3.10 in 2.14",
        ),
    ),
    "LF303": Details(
        "What `uname -m` says and the word size of the userland's interpreter give the architecture; Paddle-Lite's CPU backends are x86 and ARM.",
        (Where.CONTACT, Where.DEVICE),
        "this device is riscv64",
        (
            "Leave it out: `litefleet rollout --limit '!NAME'`.",
            "If the board can run an ARM userland, install that.",
        ),
        ("ERROR: No matching distribution found for paddlelite",),
    ),
    "LF304": Details(
        "The version of the numpy that the runtime would import is read from its metadata, and Paddle-Lite's library is searched for "
        "the mark of a binding that knows numpy 2. In the run, a tensor must give back what was put into it.",
        (Where.FILE, Where.DEVICE, Where.RUN),
        "The runtime would use numpy 2.2.6; this build of Paddle-Lite needs numpy < 2.",
        (
            "On a device with its own Paddle-Lite: `python3 -m pip install 'numpy<2'`.",
            "Or let litefleet bring the runtime: leave `runtimes:` out, or name a wheel there; it comes with numpy < 2.",
            "Prove it: `litefleet verify --limit NAME`.",
        ),
        ("outputs are NaN or plain wrong, exit code 0, no warning",),
        (
            "measured with Paddle-Lite 2.13rc0 on x86_64: with numpy 2, Tensor.from_numpy copies garbage; with numpy 1.26 results match PaddlePaddle to 3e-6",
        ),
    ),
    "LF305": Details(
        "Before the model runs, a known pattern is put into an input tensor and read back.",
        (Where.RUN,),
        "An input tensor read back differs from what was set (numpy absent).",
        (
            "See which numpy the runtime has: `litefleet probe --limit NAME`.",
            "Name a runtime with a numpy of its own under `runtimes:`: `{aarch64: {wheel: FILE, numpy: '<2'}}`.",
            "Prove it: `litefleet verify --limit NAME`.",
        ),
        ("outputs are NaN or plain wrong, exit code 0, no warning",),
    ),
    "LF306": Details(
        "The names of the libraries that lite.so needs are read from its ELF header and looked up in the device's library folders.",
        (Where.DEVICE, Where.RUN, Where.LOG),
        "Paddle-Lite needs libgomp.so.1, which this device does not have.",
        (
            "Debian and its kin: `sudo apt-get install libstdc++6 libgomp1 libgcc-s1`.",
            "Alpine's musl does not do: see `litefleet explain LF309`.",
            "Ask the loader by hand: `ldd lite.so | grep 'not found'`.",
        ),
        (
            "ImportError: libgomp.so.1: cannot open shared object file: No such file or directory",
            "ImportError: libstdc++.so.6: cannot open shared object file: No such file or directory",
            "error while loading shared libraries: libpaddle_full_api_shared.so: cannot open shared object file",
        ),
        (
            "PaddlePaddle/Paddle-Lite#4160: libpaddle_full_api_shared.so: cannot open shared object file",
            "measured with Paddle-Lite 2.13rc0 on aarch64: a minimal Debian lacks these three",
        ),
        _READ_OR_TOLD,
    ),
    "LF307": Details(
        "The CPython tags of the wheel (its name, or its metadata) are compared with the device's interpreter.",
        (Where.FILE, Where.DEVICE, Where.RUN, Where.LOG),
        "The runtime is for cp38; this device's interpreter is CPython 3.11.2 (cp311).",
        (
            "Use the interpreter that fits, if the device has it: `python: /usr/bin/python3.8` in the inventory.",
            "Or build a wheel for this one: `./lite/tools/build_linux.sh --with_python=ON --python_version=3.11`, and name it under `runtimes:`.",
            "Look at a wheel: `litefleet doctor FILE.whl`.",
        ),
        (
            "ImportError: lite.so: undefined symbol: PyCMethod_New",
            "ImportError: lite.so: undefined symbol: _PyThreadState_UncheckedGet",
            "ERROR: paddlelite-2.13rc0-cp38-cp38-manylinux1_x86_64.whl is not a supported wheel on this platform.",
        ),
        ("PaddlePaddle/Paddle-Lite#10072: undefined symbol: PyCMethod_New",),
        _READ_OR_TOLD,
    ),
    "LF308": Details(
        "The machine in lite.so's ELF header is compared with the device's architecture.",
        (Where.FILE, Where.DEVICE, Where.RUN, Where.LOG),
        "The runtime's lite.so is for x86_64; this device is aarch64.",
        (
            "Look at the library: `litefleet doctor lite.so`.",
            "Take one built for this architecture, and name it under `runtimes:`.",
            "On a 64-bit kernel with a 32-bit userland, the userland counts: `getconf LONG_BIT` prints 32.",
        ),
        (
            "ImportError: lite.so: cannot open shared object file: No such file or directory, though it is there",
            "wrong ELF class: ELFCLASS64",
            "cannot execute binary file: Exec format error",
        ),
        ("PaddlePaddle/Paddle-Lite#4036: a wheel copied from a server to a board",),
        _READ_OR_TOLD,
    ),
    "LF309": Details(
        "The newest GLIBC_ and GLIBCXX_ symbol versions that lite.so asks for are compared with the device's glibc and libstdc++.",
        (Where.FILE, Where.DEVICE, Where.RUN, Where.LOG),
        "The runtime needs a libstdc++ with GLIBCXX_3.4.26; this device's ends at GLIBCXX_3.4.25.",
        (
            "See what the library needs: `litefleet doctor lite.so`; what the device has: `litefleet probe --limit NAME`.",
            "Build Paddle-Lite on this device's own system, or in a container of the same release, and name it under `runtimes:`.",
            "Or bring the device's system up to date. A single newer libc.so.6 copied by hand breaks the system.",
        ),
        (
            "version `GLIBC_2.28' not found (required by lite.so)",
            "version `GLIBCXX_3.4.21' not found",
            "undefined reference to `std::__cxx11::basic_string",
        ),
        (
            "PaddlePaddle/Paddle-Lite#10589: an old toolchain on an i.MX6",
            "PaddlePaddle/Paddle-Lite-Demo#205: std::__cxx11 and GLIBCXX_3.4.21",
        ),
        _READ_OR_TOLD,
    ),
    "LF310": Details(
        "The flags in /proc/cpuinfo are compared with what Paddle-Lite's kernels are known to use: NEON and VFPv4 on 32-bit ARM; the "
        "published wheels' instructions on x86.",
        (Where.DEVICE, Where.RUN, Where.LOG),
        "cortex-a8 has no vfpv4.",
        (
            "Ask the device: `grep -m1 -E '^(flags|Features)' /proc/cpuinfo`.",
            "In a virtual machine, hand the host's CPU through (QEMU: `-cpu host`).",
            "Else build Paddle-Lite on this device without these instructions, or leave it out: `litefleet rollout --limit '!NAME'`.",
        ),
        ("Illegal instruction (core dumped)", "signal 4 (SIGILL)", "exit code 132"),
        (
            "PaddlePaddle/Paddle-Lite#4952: ARMv7 boards without vfpv4",
            "PaddlePaddle/Paddle-Lite#10693: some x86 operators need AVX",
            "PaddlePaddle/FastDeploy#1834: Illegal instruction on a Raspberry Pi Zero 2 W",
        ),
        _READ_OR_TOLD,
    ),
    "LF311": Details(
        "The memory that the file's tensors take at run time is estimated from their shapes (quantised weights are expanded at load) "
        "and compared with MemAvailable.",
        _FACTS,
        "The model needs about 412 MiB of memory; 230 MiB of 512 MiB are free.",
        (
            "See who has it: `ps aux --sort=-rss | head` on the device.",
            "End what need not run, or add swap for slow devices: `sudo fallocate -l 512M /swapfile` and so on.",
            "Use a smaller model; quantised weights make the file smaller, not the memory.",
        ),
        ("Killed", "exit code 137", "terminate called after throwing an instance of 'std::bad_alloc'"),
        ("PaddlePaddle/Paddle-Lite#3050: std::bad_alloc with a model of 400 MB",),
    ),
    "LF312": Details(
        "The bytes that are to be sent are compared with what is free under the agent's root, before anything is sent; a write that "
        "fails for want of room says so too.",
        (Where.CONTACT, Where.DEVICE),
        "310 MB would be stored under /var/lib/litefleet, where 120 MB are free",
        (
            "Look: `df -h /var/lib/litefleet` on the device.",
            "Keep fewer releases: lower `rollout.keep.releases`, or unpin some of `rollout.keep.pinned`.",
            "Or put the agent's folder elsewhere: `root: /data/litefleet` in the inventory.",
        ),
        ("No space left on device", "OSError: [Errno 28] No space left on device"),
    ),
    "LF313": Details(
        "The agent makes its folder and writes into it when it starts; what the system answers is the finding.",
        (Where.CONTACT,),
        "/var/lib/litefleet: Read-only file system",
        (
            "Look: `ls -ld /var/lib/litefleet; mount | grep ' / '` on the device.",
            "Hand it to the login user: `sudo install -d -o USER /var/lib/litefleet`.",
            "Or name a folder that can be written: `root: ~/litefleet` in the inventory.",
        ),
        ("Permission denied", "Read-only file system"),
    ),
    "LF314": Details(
        "`arch:` in the inventory is compared with what the device says of its userland.",
        (Where.CONTACT,),
        "the inventory says aarch64, the device is armv7l",
        (
            "Ask the device: `uname -m; getconf LONG_BIT`.",
            "Correct `arch:` in the inventory, or take it out.",
            "If it is the wrong board, check host and jump host of this entry.",
        ),
    ),
    "LF315": Details(
        "lite.so's ELF structure is read before anything is loaded; in the run, the import happens in a child process whose error is kept.",
        (Where.FILE, Where.DEVICE, Where.RUN, Where.LOG),
        "The runtime cannot be loaded: lite.so ends in the middle of its section headers.",
        (
            "Look at the package: `litefleet doctor FOLDER`.",
            "Try it by hand on the device: `python3 -c 'from paddlelite.lite import *'`.",
            "Build or download it again, and name it under `runtimes:`.",
        ),
        (
            "ImportError: lite.so: file too short",
            "ImportError: lite.so: invalid ELF header",
            "ModuleNotFoundError: No module named 'paddlelite'",
        ),
        ("PaddlePaddle/PaddleOCR#525: the import itself crashes",),
        _READ_OR_TOLD,
    ),
    "LF316": Details(
        "The CPU parts that /proc/cpuinfo describes are counted and compared with the CPUs under /sys/devices/system/cpu.",
        (Where.DEVICE, Where.LOG),
        "/proc/cpuinfo describes 2 CPU parts, /sys has 4 CPUs (in a docker container).",
        (
            "Count both: `grep -c 'CPU part' /proc/cpuinfo; ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l`.",
            "Run outside the container, or give it all CPUs (Docker: without `--cpuset-cpus`).",
            "Newer Paddle-Lite versions check the bounds: use one for this device.",
        ),
        ("std::out_of_range", "paddle::lite::get_cpu_arch(std::vector<paddle::lite::ARMArch>*, int)"),
        (
            "PaddlePaddle/Paddle-Lite#9321: out of range in get_cpu_arch, v2.11",
            "PaddlePaddle/Paddle-Lite#10449: the two counts disagree",
            "PaddlePaddle/Paddle-Lite#9449: a bounds check",
        ),
    ),
    "LF317": Details(
        "There is no numpy beside the runtime's paddlelite package.",
        (Where.DEVICE, Where.RUN),
        "The runtime has no numpy.",
        (
            "Nothing: lists work, and the proof compares the same outputs.",
            "For speed: `runtimes: {aarch64: {wheel: FILE, numpy: '<2'}}`.",
        ),
        ("ModuleNotFoundError: No module named 'numpy'",),
    ),
    "LF318": Details(
        "The smallest alignment of lite.so's loadable segments is compared with the kernel's page size (`getconf PAGESIZE`).",
        (*_RUNTIME, Where.LOG),
        "The runtime's library is aligned to pages of 4096 bytes; this device's kernel has pages of 65536.",
        (
            "Ask both: `getconf PAGESIZE` on the device, `readelf -lW lite.so | grep LOAD` (last column).",
            "Link again with `-Wl,-z,max-page-size=65536`; an old patchelf may have spoilt the alignment: use a newer one.",
            "Or boot a kernel with 4 KiB pages (Raspberry Pi 5: `kernel=kernel8.img` in config.txt).",
        ),
        ("ELF load command alignment not page-aligned", "ELF load command address/offset not page-aligned"),
        ("PaddlePaddle/Paddle-Lite#6799: lite.so on Kylin, aarch64",),
        (Certainty.CERTAIN, Certainty.LIKELY, Certainty.POSSIBLE),
    ),
    "LF319": Details(
        "A folder, a wheel or a listing holds files whose names begin with `._`, beside the real ones.",
        (*_RUNTIME, Where.LOG),
        "The runtime holds ._libpaddle_full_api_shared.so.",
        (
            "Remove them: `find FOLDER -name '._*' -delete`.",
            "Pack again on macOS with `COPYFILE_DISABLE=1 tar czf runtime.tgz runtime`.",
        ),
        ("AssertionError: patchelf .../._libpaddle_full_api_shared.so failed", "not an ELF executable"),
        ("PaddlePaddle/FastDeploy#2556: ._libpaddle_full_api_shared.so in a published archive",),
        _READ_OR_TOLD,
    ),
    "LF320": Details(
        "The library is searched for the interfaces and kernels of the full build, for fp16 kernels and for OpenCL, without loading it.",
        _RUNTIME,
        "This is a small build: it runs .nb files only.",
        (
            "Nothing, if the proof passes.",
            "To load source models directly, or operators outside the small set, take the full build with extra operators.",
        ),
        ("Check failed: op: no Op found for",),
    ),
    "LF321": Details(
        "An OpenCL library was found; the known device nodes of GPUs are tried with the login user's rights. In a log, the runtime's "
        "own words about OpenCL tell it.",
        (Where.DEVICE, Where.LOG),
        "/usr/lib/aarch64-linux-gnu/libOpenCL.so.1 is here, but this user may not open /dev/mali0.",
        (
            "Look: `ls -l /dev/mali0 /dev/kgsl-3d0 /dev/dri/*; clinfo | head`.",
            "Give the user the node's group: `sudo usermod -aG video,render USER`, then log in anew.",
            "In a container, hand the node in: `--device /dev/mali0`. A loader alone (ocl-icd) without the vendor's driver does not do.",
            "Or convert for the CPU: take `opencl` out of `models.NAME.targets`, then `litefleet convert`.",
        ),
        ("opencl_valid:0", "[I ... cl_runtime.cc:69 Init] opencl_lib_found:0", "clGetPlatformIDs: -1001"),
        (
            "PaddlePaddle/Paddle-Lite#10253: opencl_valid:0 in a container, fine on its host",
            "PaddlePaddle/Paddle-Lite#8461: Paddle-Lite brings no driver",
        ),
        (Certainty.LIKELY, Certainty.POSSIBLE),
    ),
    "LF322": Details(
        "The wheel is opened as a zip, its checksums are tried, and its members are compared with what a paddlelite package has.",
        (Where.FILE,),
        "paddlelite-2.13rc0-cp310-cp310-manylinux1_x86_64.whl can't be unpacked: File is not a zip file.",
        (
            "Compare: `sha256sum FILE.whl` with the index's page of that file.",
            "Download again: `pip download --no-deps paddlelite==2.13rc0`.",
            "Look again: `litefleet doctor FILE.whl`.",
        ),
        ("zipfile.BadZipFile: File is not a zip file", "ERROR: Wheel 'paddlelite' located at ... is invalid."),
    ),
    "LF323": Details(
        "The library's first bytes say PE (Windows), Mach-O (macOS) or an ELF that asks for Android's libraries.",
        _RUNTIME,
        "The runtime's library is for Android.",
        (
            "Look at the library: `litefleet doctor FILE`.",
            "Take the release whose name says armlinux or linux, not android, ios or windows.",
        ),
        ('library "libc++_shared.so" not found', "invalid ELF header"),
        ("PaddlePaddle/Paddle-Lite#6222: libc++_shared.so not found",),
        _READ_OR_TOLD,
    ),
    "LF324": Details(
        "Python's own message in a log, about a class of the module `paddlelite.lite`.",
        (Where.LOG,),
        "Line 4 says: AttributeError: 'paddlelite.lite.LightPredictor' object has no attribute 'get_input_names'",
        (
            "See which version it is: `python -c 'import paddlelite.lite as l; print(l.create_paddle_predictor.__doc__)'`, or `pip show paddlelite`.",
            "Ask before you call: `hasattr(predictor, 'get_input_names')`; names also stand in the file: `litefleet inspect FILE.nb`.",
        ),
        ("AttributeError: 'paddlelite.lite.Tensor' object has no attribute 'from_numpy'",),
        ("PaddlePaddle/Paddle-Lite#5838: no from_numpy", "measured with Paddle-Lite 2.10 and 2.13rc0 on x86_64"),
        (Certainty.CERTAIN,),
    ),
    "LF325": Details(
        "Python's own message in a log: numpy is imported, and is not there.",
        (Where.LOG,),
        "Line 3 says: ModuleNotFoundError: No module named 'numpy'",
        (
            "See which interpreter runs the program: `python3 -c 'import sys; print(sys.executable)'`, by the name that it is started with.",
            "Install numpy for it, below 2 (LF304 says why): `python3 -m pip install 'numpy<2'`; on Debian `apt-get install python3-numpy`.",
        ),
        ("ModuleNotFoundError: No module named 'numpy'",),
        ("measured with Paddle-Lite 2.13rc0 on x86_64",),
        (Certainty.CERTAIN,),
    ),
}
