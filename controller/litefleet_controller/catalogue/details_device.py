"""Details: the device's environment."""

from __future__ import annotations

from collections.abc import Mapping

from litefleet_agent.findings import Certainty

from .entry import Details, Where

_FACTS = (Where.DEVICE,)
_RUNTIME = (Where.FILE, Where.DEVICE)
_READ_OR_TOLD = (Certainty.CERTAIN, Certainty.LIKELY)

DEVICE: Mapping[str, Details] = {
    "LF301": Details(
        "The first command on the device is plain sh: it searches PATH for python3.7 to python3 and asks each for its version.",
        (Where.CONTACT,),
        "no Python 3.7 or later on PATH; sh reports armv7l, libc glibc, Linux",
        (
            "Check by hand: `ssh USER@HOST 'command -v python3 && python3 --version'`.",
            "Install it: `sudo apt-get install python3` (Debian, Ubuntu, Raspberry Pi OS).",
            "If Python is installed elsewhere, name it in the inventory: `python: /opt/python/bin/python3`.",
            "Without any, litefleet brings one by itself (`python: auto`, the default): the finding says why it could not. It needs apt on this "
            "machine, or a mirror or an archive under `python:` in litefleet.yaml.",
        ),
        ("sh: python3: not found", "python3: command not found"),
    ),
    "LF302": Details(
        "litefleet compares the device's architecture, CPython version and libc with the configured runtime, or with the published "
        "wheels, before it downloads or sends anything.",
        (Where.DEVICE, Where.LOG),
        "paddlelite is published for x86_64 only; this device has aarch64 with CPython 3.11: name Paddle-Lite's C++ library with `litefleet runtime add FILE`, or a wheel or a folder built for aarch64 under `runtimes: {aarch64: ...}`.",
        (
            "Show the device's facts: `litefleet probe --limit NAME`.",
            "Download the release archive for the device from Paddle-Lite's releases page (`inference_lite_lib.armlinux.armv8.gcc.with_extra.tar.gz`) and name it: `litefleet runtime add FILE`.",
            "Or build Paddle-Lite: `./lite/tools/build_linux.sh --arch=armv8 --with_extra=ON`, and name its folder: `litefleet runtime add inference_lite_lib.armlinux.armv8`.",
            "If Paddle-Lite is already installed on the device: `{aarch64: system}`.",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement paddlelite (from versions: none)",
            "ERROR: No matching distribution found for paddlelite",
        ),
        (
            "PaddlePaddle/Paddle-Lite#4195: Raspberry Pi; Paddle-Lite must be built there",
            "PaddlePaddle/Paddle-Lite#9828: a request for ARM wheels",
            "PaddlePaddle/Paddle-Lite#10458: which version is published for which Python",
            "PaddlePaddle/Paddle-Lite#10687: none for Python 3.10 in 2.14",
        ),
    ),
    "LF303": Details(
        "litefleet derives the architecture from `uname -m` and the word size of the userland's interpreter; Paddle-Lite's CPU backends are x86 and ARM.",
        (Where.CONTACT, Where.DEVICE),
        "this device is riscv64",
        (
            "Exclude the device: `litefleet rollout --limit '!NAME'`.",
            "If the board can run an ARM userland, install one.",
        ),
        ("ERROR: No matching distribution found for paddlelite",),
    ),
    "LF304": Details(
        "litefleet reads the version of the numpy that the runtime would import from its metadata, and searches Paddle-Lite's library for "
        "the mark of a binding that supports numpy 2. In the run, a tensor must return the values that were written to it.",
        (Where.FILE, Where.DEVICE, Where.RUN),
        "The runtime would use numpy 2.2.6; this build of Paddle-Lite needs numpy < 2.",
        (
            "On a device with its own Paddle-Lite: `python3 -m pip install 'numpy<2'`.",
            "Or let litefleet bring the runtime: omit `runtimes:`, or name a wheel there; litefleet then calls its C++ library, or brings numpy < 2.",
            "Prove it: `litefleet verify --limit NAME`.",
        ),
        ("outputs are NaN or plain wrong, exit code 0, no warning",),
        (
            "measured with Paddle-Lite 2.13rc0 on x86_64: with numpy 2, Tensor.from_numpy copies garbage; with numpy 1.26 results match PaddlePaddle to 3e-6",
        ),
    ),
    "LF305": Details(
        "Before the model runs, the worker writes a known pattern to an input tensor and reads it back.",
        (Where.RUN,),
        "An input tensor read back differs from what was set (numpy absent).",
        (
            "Show the runtime's numpy: `litefleet probe --limit NAME`.",
            "Name a runtime with its own numpy under `runtimes:`: `{aarch64: {wheel: FILE, numpy: '<2'}}`.",
            "Prove it: `litefleet verify --limit NAME`.",
        ),
        ("outputs are NaN or plain wrong, exit code 0, no warning",),
    ),
    "LF306": Details(
        "litefleet reads the names of the libraries that lite.so needs from its ELF header and searches the device's library folders for them.",
        (Where.DEVICE, Where.RUN, Where.LOG),
        "Paddle-Lite needs libgomp.so.1, which this device does not have.",
        (
            "Debian and its derivatives: `sudo apt-get install libstdc++6 libgomp1 libgcc-s1`.",
            "Alpine's musl cannot load them: see `litefleet explain LF309`.",
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
        "litefleet compares the CPython tags of the wheel (from its name or its metadata) with the device's interpreter.",
        (Where.FILE, Where.DEVICE, Where.RUN, Where.LOG),
        "The runtime is for cp38; this device's interpreter is CPython 3.11.2 (cp311).",
        (
            "Use a matching interpreter, if the device has one: `python: /usr/bin/python3.8` in the inventory.",
            "Or build a wheel for the device's interpreter: `./lite/tools/build_linux.sh --with_python=ON --python_version=3.11`, and name it under `runtimes:`.",
            "Inspect a wheel: `litefleet doctor FILE.whl`.",
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
        "litefleet compares the machine in lite.so's ELF header with the device's architecture.",
        (Where.FILE, Where.DEVICE, Where.RUN, Where.LOG),
        "The runtime's lite.so is for x86_64; this device is aarch64.",
        (
            "Inspect the library: `litefleet doctor lite.so`.",
            "Use a library that was built for this architecture, and name it under `runtimes:`.",
            "On a 64-bit kernel with a 32-bit userland, the userland determines the architecture: `getconf LONG_BIT` prints 32.",
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
        "litefleet compares the newest GLIBC_ and GLIBCXX_ symbol versions that lite.so requires with the device's glibc and libstdc++.",
        (Where.FILE, Where.DEVICE, Where.RUN, Where.LOG),
        "The runtime needs a libstdc++ with GLIBCXX_3.4.26; this device's ends at GLIBCXX_3.4.25.",
        (
            "Show the library's requirements: `litefleet doctor lite.so`; show the device's libraries: `litefleet probe --limit NAME`.",
            "Build Paddle-Lite on this device's own system, or in a container of the same release, and name it under `runtimes:`.",
            "Or upgrade the device's system. Do not copy a newer libc.so.6 by hand: that breaks the system.",
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
        "litefleet compares the flags in /proc/cpuinfo with the instructions that Paddle-Lite's kernels use: NEON and VFPv4 on 32-bit ARM; "
        "the published wheels' instructions on x86.",
        (Where.DEVICE, Where.RUN, Where.LOG),
        "cortex-a8 has no vfpv4.",
        (
            "Show the device's CPU flags: `grep -m1 -E '^(flags|Features)' /proc/cpuinfo`.",
            "In a virtual machine, pass the host's CPU through (QEMU: `-cpu host`).",
            "Otherwise build Paddle-Lite on this device without these instructions, or exclude the device: `litefleet rollout --limit '!NAME'`.",
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
        "litefleet estimates the memory that the file's tensors need at run time from their shapes (quantised weights are expanded at load) "
        "and compares it with MemAvailable.",
        _FACTS,
        "The model needs about 412 MiB of memory; 230 MiB of 512 MiB are free.",
        (
            "Show the largest processes: `ps aux --sort=-rss | head` on the device.",
            "Stop unneeded processes, or add swap on slow devices: `sudo fallocate -l 512M /swapfile` and so on.",
            "Use a smaller model; quantised weights reduce the file size, not the memory.",
        ),
        ("Killed", "exit code 137", "terminate called after throwing an instance of 'std::bad_alloc'"),
        ("PaddlePaddle/Paddle-Lite#3050: std::bad_alloc with a model of 400 MB",),
    ),
    "LF312": Details(
        "litefleet compares the bytes to send with the free space under the agent's root before it sends anything; a write that "
        "fails because the disk is full is also reported.",
        (Where.CONTACT, Where.DEVICE),
        "310 MB would be stored under /var/lib/litefleet, where 120 MB are free",
        (
            "Check: `df -h /var/lib/litefleet` on the device.",
            "Keep fewer releases: lower `rollout.keep.releases`, or unpin some of `rollout.keep.pinned`.",
            "Or move the agent's folder: `root: /data/litefleet` in the inventory.",
        ),
        ("No space left on device", "OSError: [Errno 28] No space left on device"),
    ),
    "LF313": Details(
        "The agent creates its folder and writes into it when it starts; the finding contains the system's error.",
        (Where.CONTACT,),
        "/var/lib/litefleet: Read-only file system",
        (
            "Check: `ls -ld /var/lib/litefleet; mount | grep ' / '` on the device.",
            "Make the login user its owner: `sudo install -d -o USER /var/lib/litefleet`.",
            "Or name a writable folder: `root: ~/litefleet` in the inventory.",
        ),
        ("Permission denied", "Read-only file system"),
    ),
    "LF314": Details(
        "litefleet compares `arch:` in the inventory with the architecture that the device reports for its userland.",
        (Where.CONTACT,),
        "the inventory says aarch64, the device is armv7l",
        (
            "Check on the device: `uname -m; getconf LONG_BIT`.",
            "Correct `arch:` in the inventory, or remove it.",
            "If the address leads to the wrong board, check host and jump host of this entry.",
        ),
    ),
    "LF315": Details(
        "litefleet reads lite.so's ELF structure before it loads anything; in the run, a child process imports the library, and its error is recorded.",
        (Where.FILE, Where.DEVICE, Where.RUN, Where.LOG),
        "The runtime cannot be loaded: lite.so ends in the middle of its section headers.",
        (
            "Inspect the package, archive or library: `litefleet doctor PATH`.",
            "Try it by hand on the device: `python3 -c 'from paddlelite.lite import *'`.",
            "Build or download it again, and name it under `runtimes:`.",
        ),
        (
            "ImportError: lite.so: file too short",
            "ImportError: lite.so: invalid ELF header",
            "ModuleNotFoundError: No module named 'paddlelite'",
            "ImportError: lite.so: failed to map segment from shared object",
            "lite.so: cannot enable executable stack as shared object requires: Invalid argument",
            "symbol lookup error: undefined symbol",
        ),
        ("PaddlePaddle/PaddleOCR#525: the import itself crashes",),
        _READ_OR_TOLD,
    ),
    "LF316": Details(
        "litefleet counts the CPU parts in /proc/cpuinfo and compares the count with the CPUs under /sys/devices/system/cpu.",
        (Where.DEVICE, Where.LOG),
        "/proc/cpuinfo describes 2 CPU parts, /sys has 4 CPUs (in a docker container).",
        (
            "Count both: `grep -c 'CPU part' /proc/cpuinfo; ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l`.",
            "Run outside the container, or give the container all CPUs (Docker: without `--cpuset-cpus`).",
            "Newer Paddle-Lite versions check the bounds: use a newer version for this device.",
        ),
        ("std::out_of_range", "paddle::lite::get_cpu_arch(std::vector<paddle::lite::ARMArch>*, int)"),
        (
            "PaddlePaddle/Paddle-Lite#9321: out of range in get_cpu_arch, v2.11",
            "PaddlePaddle/Paddle-Lite#10449: the two counts disagree",
            "PaddlePaddle/Paddle-Lite#9449: a bounds check",
        ),
    ),
    "LF317": Details(
        "The runtime contains the paddlelite package but no numpy.",
        (Where.DEVICE, Where.RUN),
        "The runtime has no numpy.",
        (
            "Nothing to do: lists work, and the proof compares the same outputs.",
            "For speed: `runtimes: {aarch64: {wheel: FILE, numpy: '<2'}}`.",
        ),
        ("ModuleNotFoundError: No module named 'numpy'",),
    ),
    "LF318": Details(
        "litefleet compares the smallest alignment of lite.so's loadable segments with the kernel's page size (`getconf PAGESIZE`).",
        (*_RUNTIME, Where.LOG),
        "The runtime's library is aligned to pages of 4096 bytes; this device's kernel has pages of 65536.",
        (
            "Compare both: `getconf PAGESIZE` on the device, `readelf -lW lite.so | grep LOAD` (last column).",
            "Link again with `-Wl,-z,max-page-size=65536`; an old patchelf may have broken the alignment: use a newer one.",
            "Or boot a kernel with 4 KiB pages (Raspberry Pi 5: `kernel=kernel8.img` in config.txt).",
        ),
        ("ELF load command alignment not page-aligned", "ELF load command address/offset not page-aligned"),
        ("PaddlePaddle/Paddle-Lite#6799: lite.so on Kylin, aarch64",),
        (Certainty.CERTAIN, Certainty.LIKELY, Certainty.POSSIBLE),
    ),
    "LF319": Details(
        "A folder, a wheel or a listing contains files whose names begin with `._`, beside the real files.",
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
        "litefleet searches the library for the interfaces and kernels of the full build, for fp16 kernels and for OpenCL, without loading it.",
        _RUNTIME,
        "This is a small build: it runs .nb files only.",
        (
            "Nothing to do if the proof passes.",
            "To load source models directly, or to use operators outside the small set, use the full build with extra operators.",
        ),
        ("Check failed: op: no Op found for",),
    ),
    "LF321": Details(
        "An OpenCL library was found; the agent tries to open the known GPU device nodes as the login user. In a log, the runtime's "
        "own messages about OpenCL show the failure.",
        (Where.DEVICE, Where.LOG),
        "/usr/lib/aarch64-linux-gnu/libOpenCL.so.1 is here, but this user may not open /dev/mali0.",
        (
            "Check: `ls -l /dev/mali0 /dev/kgsl-3d0 /dev/dri/*; clinfo | head`.",
            "Add the user to the node's group: `sudo usermod -aG video,render USER`, then log in again.",
            "In a container, pass the node in: `--device /dev/mali0`. A loader alone (ocl-icd) is not sufficient without the vendor's driver.",
            "Or convert for the CPU: remove `opencl` from `models.NAME.targets`, then `litefleet convert`.",
        ),
        (
            "opencl_valid:0",
            "[I ... cl_runtime.cc:69 Init] opencl_lib_found:0",
            "clGetPlatformIDs: -1001",
            "OpenCL error with code CL_INVALID_WORK_GROUP_SIZE",
            "malloc image is out of max image size(w,h)",
        ),
        (
            "PaddlePaddle/Paddle-Lite#10253: opencl_valid:0 in a container, fine on its host",
            "PaddlePaddle/Paddle-Lite#8461: Paddle-Lite includes no driver",
        ),
        (Certainty.LIKELY, Certainty.POSSIBLE),
    ),
    "LF322": Details(
        "litefleet unpacks the wheel or archive within bounds, verifies its checksums, and looks for the paddlelite package or the C++ library.",
        (Where.FILE,),
        "paddlelite-2.13rc0-cp310-cp310-manylinux1_x86_64.whl can't be unpacked: File is not a zip file.",
        (
            "Compare: `sha256sum FILE` with the page that it was downloaded from.",
            "Download a wheel again: `pip download --no-deps paddlelite==2.13rc0`.",
            "Check again: `litefleet doctor FILE`.",
        ),
        ("zipfile.BadZipFile: File is not a zip file", "ERROR: Wheel 'paddlelite' located at ... is invalid."),
    ),
    "LF323": Details(
        "The library's first bytes identify PE (Windows), Mach-O (macOS) or an ELF file that requires Android's libraries.",
        _RUNTIME,
        "The runtime's library is for Android.",
        (
            "Inspect the library: `litefleet doctor FILE`.",
            "Use the release whose name contains armlinux or linux, not android, ios or windows.",
        ),
        ('library "libc++_shared.so" not found', "invalid ELF header"),
        ("PaddlePaddle/Paddle-Lite#6222: libc++_shared.so not found",),
        _READ_OR_TOLD,
    ),
    "LF324": Details(
        "A log contains Python's own message about a class of the module `paddlelite.lite`.",
        (Where.LOG,),
        "Line 4 says: AttributeError: 'paddlelite.lite.LightPredictor' object has no attribute 'get_input_names'",
        (
            "Show the version: `python -c 'import paddlelite.lite as l; print(l.create_paddle_predictor.__doc__)'`, or `pip show paddlelite`.",
            "Check before you call: `hasattr(predictor, 'get_input_names')`; the file also contains the names: `litefleet inspect FILE.nb`.",
        ),
        (
            "AttributeError: 'paddlelite.lite.Tensor' object has no attribute 'from_numpy'",
            "NameError: name 'CxxConfig' is not defined",
        ),
        ("PaddlePaddle/Paddle-Lite#5838: no from_numpy", "measured with Paddle-Lite 2.10 and 2.13rc0 on x86_64"),
        (Certainty.CERTAIN,),
    ),
    "LF325": Details(
        "A log contains Python's own message that the program imports numpy, and numpy is missing.",
        (Where.LOG,),
        "Line 3 says: ModuleNotFoundError: No module named 'numpy'",
        (
            "Show the interpreter that runs the program: `python3 -c 'import sys; print(sys.executable)'`, with the name that starts the program.",
            "Install numpy below 2 for it (LF304 gives the reason): `python3 -m pip install 'numpy<2'`; on Debian `apt-get install python3-numpy`.",
        ),
        ("ModuleNotFoundError: No module named 'numpy'",),
        ("measured with Paddle-Lite 2.13rc0 on x86_64",),
        (Certainty.CERTAIN,),
    ),
    "LF326": Details(
        "A script of plain sh tries whether the folder can be written and runs programs, before anything is sent; after the transfer it "
        "compares the SHA-256 and starts the Python once, before it gets its final name.",
        (Where.CONTACT,),
        "no program can be started from /var/lib/litefleet/python: its file system is mounted noexec",
        (
            "noexec: `mount | grep noexec` on the device; name a folder on another file system as `root:` in the inventory.",
            "Read-only: name a folder that can be written as `root:`, or make the system writable for the first contact.",
            "It does not start: the text contains the loader's own words and the kernel's release. glibc needs Linux 3.2 or later; name a "
            "Python that was built for this board as `python: {own: {ARCH: PATH}}` in litefleet.yaml.",
            "No tar: install one (busybox's is enough).",
        ),
        ("FATAL: kernel too old", "Exec format error", "Permission denied"),
    ),
    "LF327": Details(
        "The agent reads the mount flags of its root folder; a runtime's libraries would be loaded from there.",
        (Where.DEVICE,),
        "/home/edge/.local/share/litefleet is on a file system that is mounted noexec (tmpfs at /home/edge)",
        (
            "Show the mount: `findmnt -T ~/.local/share/litefleet` on the device.",
            "Name a folder elsewhere in the inventory: `root: /var/lib/litefleet`.",
            "Or remount it: `mount -o remount,exec /home` (and /etc/fstab).",
        ),
        ("failed to map segment from shared object", "Operation not permitted"),
    ),
}
