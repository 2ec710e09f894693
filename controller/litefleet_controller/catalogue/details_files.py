"""Details: the .nb file and the machine it is for."""

from __future__ import annotations

from collections.abc import Mapping

from litefleet_agent.findings import Certainty

from .entry import Details, Where

_GATES = (Where.FILE, Where.DEVICE)

FILES: Mapping[str, Details] = {
    "LF101": Details(
        "Each operator in the file records the target of its kernel; litefleet counts the targets and compares them with the instruction "
        "set of the device's userland (or of `--for`), without loading the file.",
        _GATES,
        "85 of 90 kernels are for arm; this device is x86_64.",
        (
            "Inspect the file: `litefleet inspect model.nb --for x86_64`.",
            "Convert for the device's actual architecture: `litefleet convert --for x86_64`.",
            "Let the rollout choose: name `source:` instead of `nb:` in litefleet.yaml, and each architecture gets its own file.",
        ),
        (
            "Segmentation fault (core dumped)",
            "exit code 139, and nothing on stderr",
            "exit code 0, outputs all zeros or around 1e34",
            "Error: This model is not supported, because kernel for 'conv2d' is not supported by Paddle-Lite.",
        ),
        (
            "PaddlePaddle/PaddleOCR#2962: the demo's ARM files on x86",
            "PaddlePaddle/Paddle-Lite#6195: the same crash, reported to Paddle-Lite",
            "measured with Paddle-Lite 2.13rc0 on x86_64: PP-OCR det answers zeros with exit code 0, rec and cls segfault",
        ),
    ),
    "LF102": Details(
        "The targets of the file's kernels include both x86 and arm; litefleet refuses a conversion for both before it starts.",
        (Where.CONVERSION, *_GATES),
        "90 of its 99 kernels are for x86 and 9 for arm: no CPU runs both.",
        (
            "Name one CPU per conversion: `litefleet convert --targets arm` or `litefleet convert --targets x86`.",
            "By hand: `paddle_lite_opt --valid_targets=arm ...` once, and once more with `x86`, into another file.",
            "Combine an accelerator with its own CPU: `litefleet convert --targets opencl,arm`.",
        ),
        (
            "outputs are NaN, exit code 0",
            "2. Model is optimized and saved into model.nb successfully",
            "These unsupported ops are: 'io_copy'.",
        ),
        (
            "PaddlePaddle/Paddle-Lite#10249: 'x86,arm' and io_copy",
            "measured with Paddle-Lite 2.13rc0 on x86_64: `x86,arm` gives NaN, `arm,x86` an ARM file",
        ),
    ),
    "LF103": Details(
        "litefleet checks kernel targets other than host, x86 and arm against the device: an OpenCL library must exist, and the runtime "
        "must have been built with OpenCL. In a log, the text of the failed check shows the cause.",
        (*_GATES, Where.LOG),
        "62 of 71 kernels are for opencl; this device has no OpenCL library.",
        (
            "Compare the file's needs with the device's facts: `litefleet inspect model.nb`, then `litefleet probe --limit NAME`.",
            "For the CPU only: remove the device's architecture from `models.NAME.targets` and convert again: `litefleet convert`.",
            "To use the GPU: install its vendor's OpenCL driver, and name a runtime built with OpenCL under `runtimes:`.",
        ),
        (
            "Check failed: (kernels.size() > 0): 0!>0",
            "Error: This model is not supported, because kernel for 'io_copy' is not supported by Paddle-Lite.",
            "[I ... cl_runtime.cc:69 Init] opencl_lib_found:0",
        ),
        (
            "PaddlePaddle/Paddle-Lite#9295: 'io_copy' is not supported",
            "PaddlePaddle/Paddle-Lite#8846: an OpenCL file, and a CPU-only library",
            "PaddlePaddle/Paddle-Lite#9524: the same on Android",
        ),
        (Certainty.CERTAIN, Certainty.LIKELY),
    ),
    "LF104": Details(
        "litefleet compares fp16 kernels in the file with /proc/cpuinfo (`asimdhp`) and the architecture; it refuses fp16 for x86 "
        "before conversion. In a log, 'calib' among the unsupported kernels shows the cause.",
        (Where.CONVERSION, *_GATES, Where.LOG),
        "100 of 104 kernels are for fp16; this CPU lacks asimdhp.",
        (
            "Check on the device: `grep -c asimdhp /proc/cpuinfo` prints 0 if fp16 cannot work (Cortex-A53, A72, A73 and older).",
            "Set `fp16: false` for this architecture under `models.NAME.options`, then `litefleet convert`.",
            "If the CPU supports fp16, name a runtime built with `--with_arm82_fp16=ON` under `runtimes:`.",
        ),
        (
            "Illegal instruction",
            "signal 4 (SIGILL)",
            "Error: This model is not supported, because kernel for 'calib' is not supported by Paddle-Lite.",
        ),
        (
            "PaddlePaddle/Paddle-Lite#8707: Cortex-A53 has no fp16",
            "PaddlePaddle/Paddle-Lite#9386: 'calib' with a library that is no fp16 build",
            "PaddlePaddle/Paddle-Lite#9639: fp16 works on armv8 and fails on armv7",
        ),
        (Certainty.CERTAIN, Certainty.LIKELY),
    ),
    "LF105": Details(
        "litefleet reads the file from start to end by its own sizes: header, topology, every tensor. It reports missing or surplus bytes "
        "with their offset. It loads nothing.",
        (*_GATES, Where.LOG),
        "The file is not whole: parameter 12 of 64 needs 262288 bytes; 1024 are left.",
        (
            "Compare both sides: `sha256sum model.nb` here and on the device.",
            "Convert again into a new file and move it into place when it is complete: `litefleet convert`, or `mv` after `scp`.",
            "If a program read the file while it was being written, write to another name first and rename it.",
        ),
        (
            "Check failed: (fread(dst, 1, size, file_) == size): 0!==262288 Failed to read 262288 bytes.",
            "Check failed: !reader->ReachEnd(): Nothing to read",
            "MemoryError: std::bad_alloc",
        ),
        (
            "PaddlePaddle/Paddle-Lite#10501: Failed to read 262288 bytes, under load",
            "PaddlePaddle/Paddle-Lite#6218: Nothing to read",
            "PaddlePaddle/Paddle-Lite#5733: std::bad_alloc when the predictor is made",
        ),
        (Certainty.CERTAIN, Certainty.LIKELY),
    ),
    "LF106": Details(
        "A .nb file begins with a layout number and a printable version text; the first bytes are neither.",
        (*_GATES, Where.LOG),
        "The file begins with 08 00 12 0b 0a 04 66 65, which is no .nb header.",
        (
            "Identify the file: `litefleet doctor FILE`.",
            "Convert the source model: name its folder as `source:` in litefleet.yaml, then `litefleet convert`.",
            "By hand, opt needs `--optimize_out_type=naive_buffer`, and a program loads the result with `set_model_from_file`.",
        ),
        (
            "The model format cannot be recognized. Please make sure you use the correct interface and model file.",
            "Check failed: block_size: No block found!",
        ),
        (
            "PaddlePaddle/Paddle-Lite#9007: The model format cannot be recognized",
            "PaddlePaddle/Paddle-Lite#5798: the same with a file made by another opt",
            "PaddlePaddle/Paddle-Lite#10671: the same on a phone",
        ),
        (Certainty.CERTAIN, Certainty.LIKELY),
    ),
    "LF107": Details(
        "The first two bytes of the file are the layout version; litefleet supports 1 and 2.",
        (*_GATES, Where.LOG),
        "The file has layout version 0; versions 1 and 2 are known.",
        (
            "Convert from the source model with the device's Paddle-Lite version: set `toolchain.paddlelite`, then `litefleet convert`.",
            "A .nb file cannot be upgraded: if the source model is lost, export it again.",
        ),
        (
            "Paddle-Lite v2.7 has upgraded the naive-buffer model format. Please use the OPT to generate a new model. Thanks!",
        ),
        ("PaddlePaddle/Paddle-Lite#4763: what to do with a model from before v2.7",),
        (Certainty.CERTAIN, Certainty.LIKELY),
    ),
    "LF108": Details(
        "litefleet compares the version text in the file's header with the version that the loaded runtime reports.",
        (Where.DEVICE, Where.LOG),
        "The file was written by Paddle-Lite v2.12; the runtime is v2.13-rc.",
        (
            "If the proof on the device passes, this combination works: `litefleet verify --limit NAME`.",
            "For equal versions, set `toolchain.paddlelite` to the devices' version and convert again: `litefleet convert`.",
        ),
        (
            "warning: the version of opt that transformed this model is not consistent with current Paddle-Lite version.",
            "Check failed: it != kernels.end():",
            "std::bad_alloc",
        ),
        (
            "PaddlePaddle/PaddleOCR#1343: it != kernels.end(), then a segmentation fault",
            "PaddlePaddle/Paddle-Lite#4725: std::bad_alloc, because the versions differ",
            "measured with Paddle-Lite 2.12 and 2.13rc0 on x86_64: each runs the other's PP-OCR cls and rec correctly, with the warning",
        ),
    ),
    "LF109": Details(
        "One of the two version texts is empty or a commit hash, so litefleet cannot compare them.",
        (Where.DEVICE, Where.LOG),
        "The file says it was written by v2.10, the runtime calls itself 30fe065bc.",
        (
            "If the proof on the device passes, nothing to do: `litefleet verify --limit NAME`.",
            "Build Paddle-Lite from a tag (`git checkout v2.13-rc`) so that the build has its version, and convert with the opt of that build.",
        ),
        ("version of current Paddle-Lite:30fe065bc",),
        (
            "PaddlePaddle/Paddle-Lite#10606: a build of release/v2.10 reports its commit as its version",
            "PaddlePaddle/PaddleOCR#1654: two commit hashes",
        ),
    ),
    "LF110": Details(
        "The controller sends every file with its SHA-256, and the device hashes the received bytes before it gives the file its name.",
        (Where.CONTACT, Where.RELEASE),
        "models/cls.nb became shorter while it was sent",
        (
            "Run the same command again; complete files are not sent twice.",
            "If it recurs, check the storage: `dmesg | grep -iE 'mmc|ext4|i/o error'` on the device.",
            "If a file changed on this machine during the transfer, first finish converting or copying it.",
        ),
        ("a slightly wrong answer, exit code 0", "Check failed: ... Failed to read N bytes."),
        (
            "measured with Paddle-Lite 2.13rc0 on x86_64: one flipped bit in the weights changes the answer and nothing else",
        ),
    ),
    "LF111": Details(
        "litefleet reads the element types of the file's weights and the precision of its kernels, and reports int8 or int16 on an x86 device.",
        _GATES,
        "It has int8 weights in 38 of 64 parameters; this device is x86_64.",
        (
            "Disable quantisation for x86: `options: {quant: int8, x86_64: {quant: none}}`, then `litefleet convert`.",
            "Check the file on this machine: `litefleet doctor model.nb --for x86_64`.",
        ),
        ("outputs are NaN, exit code 0",),
        (
            "PaddlePaddle/Paddle-Lite#10249: a maintainer says that x86 has no quantisation",
            "measured with Paddle-Lite 2.13rc0 on x86_64: PP-OCR cls with QUANT_INT8 answers NaN; the same file is right on aarch64",
        ),
    ),
    "LF112": Details(
        "litefleet counts fp16 kernels and int8 kernels or weights in one file; it refuses a conversion to both before it starts.",
        (Where.CONVERSION, *_GATES),
        "It has 100 fp16 kernels and int8 weights in 38 of 64 parameters.",
        ("Choose one under `models.NAME.options`: either `fp16: true` or `quant: int8`.", "Then `litefleet convert`."),
        ("Error: This model is not supported, because kernel for 'calib' is not supported by Paddle-Lite.",),
        ("PaddlePaddle/Paddle-Lite#6603: fp16 together with int8 is not supported",),
    ),
    "LF113": Details(
        "litefleet compares the file's operators with those that the runtime's library registers, if it can read these without loading "
        "the library. A log names the missing operator.",
        (*_GATES, Where.LOG),
        "The file uses an operator that this build of Paddle-Lite does not have: hard_sigmoid.",
        (
            "Inspect the runtime: `litefleet doctor lite.so`.",
            "Use the `with_extra` library of the same release, or build with `./lite/tools/build_linux.sh --with_extra=ON`.",
            "Name the new runtime under `runtimes:` and prove it: `litefleet verify --limit NAME`.",
        ),
        (
            "Check failed: op: no Op found for hard_sigmoid",
            "Error: Please use Paddle-Lite lib with all ops, which is marked with `with_extra`",
        ),
        (
            "PaddlePaddle/Paddle-Lite#4739: no Op found for hard_sigmoid",
            "PaddlePaddle/Paddle-Lite#9256: a demo's library without extra operators",
            "PaddlePaddle/Paddle-Lite#9769: the same on x86",
        ),
        (Certainty.CERTAIN, Certainty.LIKELY),
    ),
    "LF114": Details(
        "The device is 32-bit ARM and the file has int8 kernels.",
        _GATES,
        "38 of 60 kernels are int8; this device is armv7l.",
        (
            "Nothing to do if the proof passes; litefleet uses the runtime's default number of threads.",
            "In your own program, call `config.set_threads(1)` before you create the predictor.",
        ),
        ("Segmentation fault", "with 3 or 4 threads only"),
        ("PaddlePaddle/Paddle-Lite#10179: PP-OCRv3 slim on armv7hf with 3 or 4 threads",),
    ),
    "LF115": Details(
        "A log contains Paddle-Lite's own line that names the file which it could not open.",
        (Where.LOG,),
        "Line 1 says: Check failed: file_: Unable to open file: models/cls.nb",
        (
            "Check that the file exists, from the folder in which the program runs: `ls -l model.nb`.",
            "Give an absolute path; a service does not run in your test folder.",
            "Check that the program's user can read the file and enter every folder above it.",
        ),
        ("Check failed: file_: Unable to open file: models/cls.nb",),
        (),
    ),
}
