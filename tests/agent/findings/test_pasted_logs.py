"""Logs that people paste: each kind of end, in the words of C libraries, shells, kernels, drivers and the converter.

The inputs are our own, made after public reports; each row is (code that must be an error, text).  Codes that would be a wrong
cause are named in the second list.
"""

from __future__ import annotations

import time

import pytest
from litefleet_agent.findings import Severity
from litefleet_agent.findings.crashlog.decode import decode_log
from litefleet_agent.findings.crashlog.words import WORDS

SETUP = "[I  2/ 3 10:11:12.100 .../lite/core/device_info.cc:1055 Setup] ARM multiprocessors number: 4\n"
PASS = "[I  9/14  5:42: 3. 33 .../lite/core/optimizer.h:229 RunPasses] == Running pass: {}\n"
COMMAND = "$ ./opt --model_file=a.pdmodel --param_file=a.pdiparams --valid_targets=arm --optimize_out=a\n"
HAL = "Failed to load the nnadapter device HAL library for '{0}' from lib{0}.so, {1}"

CASES = {
    # the C library about the heap and the stack, with and without a word about the end
    "fasttop": ("LF402", SETUP + "double free or corruption (fasttop)"),
    "invalid pointer": ("LF402", "free(): invalid pointer\n已放弃"),
    "munmap_chunk": ("LF402", "munmap_chunk(): invalid pointer\nAborted (core dumped)"),
    "top size": ("LF402", "malloc(): corrupted top size"),
    "stack": ("LF402", "*** stack smashing detected ***: terminated"),
    "glibc 2.23": ("LF402", "*** glibc detected *** ./grader: double free or corruption (top): 0x0123ab40 ***"),
    "tcache": ("LF402", "free(): double free detected in tcache 2"),
    "next size": ("LF402", SETUP + "realloc(): invalid next size"),
    "unaligned": ("LF402", "malloc(): unaligned tcache chunk detected\nAborted"),
    "prev_size": ("LF402", "corrupted size vs. prev_size while consolidating"),
    "list": ("LF402", "corrupted double-linked list (not small)"),
    "sysmalloc": ("LF402", "grader: malloc.c:2617: sysmalloc: Assertion `(old_top == initial_top (av))' failed."),
    "buffer overflow": ("LF402", "*** buffer overflow detected ***: terminated"),
    "Android heap": (
        "LF402",
        "@@@ ABORTING: HEAP MEMORY CORRUPTION: invalid address or address of corrupt block 0xb8 passed to dlfree",
    ),
    "scudo": ("LF402", "Scudo ERROR: corrupted chunk header at address 0x7b5c"),
    "sanitizer": ("LF402", "==12==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x602"),
    # signals in other languages, and as shells write them
    "bash, Chinese": ("LF401", "./start.sh：行 14:  8121 浮点数例外              LD_LIBRARY_PATH=$LIBS ./kiosk"),
    "German": ("LF401", "pi@cam:~ $ ./kiosk model.nb\nSpeicherzugriffsfehler (Speicherabzug geschrieben)"),
    "French": ("LF401", "Erreur de segmentation (core dumped)"),
    "Japanese": ("LF401", "セグメンテーション違反 (コアダンプ)"),
    "Taiwan": ("LF401", "程式記憶體區段錯誤 (核心已傾印)"),
    "Chinese abort": ("LF402", "中止"),
    "Spanish": ("LF401", "run.sh: línea 3:  4411 Violación de segmento  (`core' generado) ./kiosk"),
    "Russian": ("LF401", "Ошибка сегментирования (образ памяти сброшен на диск)"),
    "Korean bus": ("LF401", "버스 오류 (core dumped)"),
    "Polish": ("LF310", "Błędna instrukcja"),
    "Portuguese killed": ("LF411", "./run.sh: linha 2:  777 Morto                   ./kiosk"),
    # kernels
    "arm64": ("LF401", "kiosk[812]: unhandled level 2 translation fault (11) at 0x00000008, esr 0x92000006"),
    "arm32": ("LF401", "kiosk: unhandled page fault (11) at 0x00000000, code 0x017"),
    "alignment": ("LF401", "Unhandled fault: alignment exception (0x801) at 0x00012345"),
    "fatal": ("LF401", "potentially unexpected fatal signal 7."),
    "audit": (
        "LF401",
        "audit: type=1701 audit(1700.1:22): auid=0 uid=0 pid=812 comm=\"kiosk\" exe=\"/opt/kiosk\" sig=11 res=1",
    ),
    "coredumpctl": ("LF401", "        Signal: 11 (SEGV)"),
    "divide": ("LF401", "traps: kiosk[4] trap divide error ip:55d sp:7ff error:0 in kiosk[55d+1]"),
    # loaders that are missing, mappings that are refused
    "bash 5.2": ("LF309", "bash: ./kiosk: cannot execute: required file not found"),
    "interpreter": ("LF309", "-bash: ./kiosk: /lib/ld-linux-armhf.so.3: bad ELF interpreter: No such file or directory"),
    "qemu": ("LF309", "qemu-aarch64: Could not open '/lib/ld-linux-aarch64.so.1': No such file or directory"),
    "noexec": (
        "LF315",
        "ImportError: /mnt/rt/paddlelite/lite.so: failed to map segment from shared object: Operation not permitted",
    ),
    "execstack": ("LF315", "ImportError: lite.so: cannot enable executable stack as shared object requires: Invalid argument"),
    "openblas": (
        "LF315",
        "ImportError: libopenblas_armv6p.so: cannot enable executable stack as shared object requires: Invalid argument",
    ),
    "relocation": ("LF315", "lite.so: cannot restore segment prot after reloc: Permission denied"),
    "text relocations": ("LF315", 'dlopen failed: "/data/libkiosk.so" has text relocations'),
    # vendors' layers
    "NNAdapter": (
        "LF306",
        "[4  3/24  2:56:11.989 .../nnadapter_wrapper.cc:54 Initialize] Failed to load the NNAdapter library from libnnadapter.so,"
        "libnnadapter.so: cannot open shared object file: No such file or directory",
    ),
    "HAL in 2.10": (
        "LF306",
        "[I  1/ 1  0:47:29.609 .../runtime/device.cc:122 Find] "
        + HAL.format("amlogic_npu", "libnnsdk_lite.so: cannot open shared object file: No such file or directory"),
    ),
    "HAL": (
        "LF306",
        "[F  1/ 1  0:47:29.609 device.cc:512 Find] " + HAL.format("fake", "libfake.so: cannot open shared object file"),
    ),
    "vendor symbol": ("LF315", HAL.format("verisilicon_timvx", "/opt/kiosk/libtim-vx.so: undefined symbol: vxSomethingLayer")),
    "vendor's Python": (
        "LF315",
        HAL.format("huawei_ascend_npu", "libhuawei_ascend_npu.so: undefined symbol: PyExc_ValueError"),
    ),
    "lookup": (
        "LF315",
        "./kiosk: symbol lookup error: ./kiosk: undefined symbol: _ZN6paddle8lite_api12MobileConfig9somethingEv",
    ),
    "image size": (
        "LF321",
        "[F  8/ 3 10:37:36.740 target_wrapper.cc:98 ImageValid] malloc image is out of max image "
        "size(w,h):8192,8192\nAborted",
    ),
    "kernel name": (
        "LF321",
        "[F  5/ 8 19:29:11.527 cl_context.cc:66 AddKernel] OpenCL error with code CL_INVALID_KERNEL_NAME happened in file x",
    ),
    "buffer size": (
        "LF321",
        "[F  2/15 19:29:11.527 t.cc:70 Malloc] OpenCL error with code CL_INVALID_BUFFER_SIZE happened in file x",
    ),
    "work group": (
        "LF321",
        "F0919 18:10:01.225000 5774 cl_utility.h:60] OpenCL error with code CL_INVALID_WORK_GROUP_SIZE happened",
    ),
    "old OpenCL": ("LF321", "fail to load opencl runtime(expected version 1.1+)"),
    "Mali": ("LF321", "arm_release_ver: g13p0\nERROR: open /dev/mali0 failed: Permission denied"),
    "Adreno": ("LF321", "Failed to open /dev/kgsl-3d0: No such file or directory"),
    "build": (
        "LF321",
        "[F  5/ 8 19:29:11.527 cl_runtime.cc:300 BuildProgram] OpenCL program build error: CL_BUILD_PROGRAM_FAILURE",
    ),
    "GPU memory": ("LF411", "[F  5/ 8 1:2:3.4 t.cc:7 Malloc] OpenCL error with code CL_OUT_OF_RESOURCES happened in file x"),
    "NPU, precision": (
        "LF329",
        "[F  4/ 8  8:41:23.415 utility.cc:177 CreateRknnTensor] Can not add a rk::nn::Tensor with precision=FLOAT32 !\n"
        "[F  4/ 8  8:41:23.416 compilation.cc:75 ~Compilation] Check failed: device_context: No device found.\nAborted",
    ),
    "NPU, graph": ("LF329", "1203 RKNPU Build(79): Build graph fail!"),
    "NPU, tensor": ("LF329", "77 RKNPU Setup(175): create tensor fail\n77 RKNPU Setup(175): create tensor fail"),
    # shapes, in operators that say so in words of their own
    "broadcast": ("LF417", "[F 11/ 1 18: 0:58.555 elementwise_op_func.h:339 Update] Wrong broadcast type\nAborted"),
    "old concat": (
        "LF417",
        "[I  1/ 4  0:28: 2.711 /lite/operators/concat_op.cc InferShape:44] out_dims[j] == input_dims[i][j] check failed!",
    ),
    # the converter's own marks
    "model_optimize_tool, operator": (
        "LF206",
        "Check failed: op: no Op found for erf\nrun.sh: line 2: 54 Aborted   "
        "./model_optimize_tool --model_dir=./m --optimize_out=o",
    ),
    "model_optimize_tool, segfault": (
        "LF205",
        "[W 12/ 4  1:48:12.240 api/model_optimize_tool.cc:121 RunOptimize] Load combined-param model.\nSegmentation fault",
    ),
    "opt for macOS": ("LF205", "./opt_mac_m1 --model_file=a --param_file=b --valid_targets=arm\nSegmentation fault: 11"),
    "calib": ("LF206", "Can't find a 'calib' kernel to trans: Tensor<arm,float,NCHW,0>:x. Tensor<arm,int32,NCHW,0>: y_v2"),
    "argument": (
        "LF205",
        PASS.format("variable_place_inference_pass")
        + "[F  9/14  5:42: 3. 49 ...mir/variable_place_inference_pass.h:138] Check failed: Can not find the argument\nAborted",
    ),
    "cast": (
        "LF206",
        PASS.format("type_precision_cast_pass")
        + "[F  2/27 11:55: 5.352 mir/type_precision_cast_pass.cc:133 AddCastInst] Check failed: is_found: Can't "
        "find a Cast kernel for Cast op: Tensor<host,int64_t,NCHW,0>:counter->Tensor<arm,float,NCHW,0>:less\nAborted",
    ),
    "glog": ("LF205", COMMAND + "F1031 15:26:58.518849  8184 some_fuse_pass.h:138] Check failed: w \nAborted (core dumped)"),
    "segfault in a pass": ("LF205", COMMAND + PASS.format("sparse_conv_detect_pass") + "Segmentation fault (core dumped)"),
    "converter, SIGILL": ("LF205", COMMAND + "Illegal instruction (core dumped)"),
    # programs, builds and files that are others than was meant
    "asset": ("LF115", "Caused by: java.io.FileNotFoundException: lite_model_opt.nb/PaxHeader"),
    "old linker": ("LF309", "ld: libx.so: undefined reference to `log@GLIBC_2.29'\ncollect2: error: ld returned 1 exit status"),
    "linker": ("LF315", "../lib/libpaddle_full_api_shared.so: undefined reference to `PyTuple_SetItem'"),
    "linker of the NDK": ("LF315", "../cxx/lib/libpaddle_light_api_shared.so: error: undefined reference to 'stdout'"),
    "Android's stack alone": (
        "LF401",
        "  A   #00 pc 000000000005e2b0  /apex/com.android.runtime/lib64/bionic/libc.so (ifree+88)\n"
        "  A   #01 pc 0000000000080640  /data/app/kiosk/base.apk!libNative.so (offset 0x1225000)",
    ),
    "Xbyak": ("LF315", "terminating due to uncaught exception of type Xbyak::Error: can't alloc"),
    "package without libs": ("LF315", "FileNotFoundError: [WinError 2] : 'D:\\\\py\\\\site-packages\\\\paddlelite\\\\libs'"),
    "tiny": ("LF324", "    from paddlelite.lite import *\n    a = CxxConfig()\nNameError: name 'CxxConfig' is not defined"),
    "tiny import": ("LF324", "ImportError: cannot import name 'CxxConfig' from 'paddlelite.lite' (/opt/paddlelite/lite.so)"),
    "folder": (
        "LF106",
        "[F  7/ 5 20:29:41.596 naive_buffer.cc:30 Consume] Check failed: (bytes <= free_size()): 8!<=6 No free memory",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("code", "text"), CASES.values(), ids=CASES)
def test_a_pasted_log_gives_its_cause(code: str, text: str) -> None:
    severe = [f.code for f in decode_log(text).findings if f.severity is Severity.ERROR]
    assert severe == [code] or (code == "LF401" and severe == ["LF101"]), severe


WRONG = {
    "a segfault of the converter": (COMMAND + PASS.format("x_pass") + "Segmentation fault", {"LF101", "LF401"}),
    "numpy's own SIGILL": ('$ python3 -c "import numpy"\nIllegal instruction (core dumped)', {"LF310", "LF104"}),
    "openblas in a dump": (
        'Fatal Python error: Illegal instruction\n\nCurrent thread 0x1 (most recent call first):\n  File "/usr/lib/python3/'
        'dist-packages/numpy/__init__.py", line 1 in <module>\nIllegal instruction',
        {"LF310", "LF104"},
    ),
    "x86 has no fp16 kernels": ("lite/kernels/x86/fc_compute.cc\nIllegal instruction", {"LF104"}),
    "PaddlePaddle's own SIGILL": (">>> import paddle\n非法指令 (核心已转储)", {"LF310", "LF104"}),
    "a vendor's library is no wheel": (CASES["vendor's Python"][1], {"LF307"}),
    "a full build runs passes too": (
        PASS.format("memory_optimize_pass") + "[I  1/ 1 1:1:1.1 light_api.cc:9 Run] x\nSegmentation fault",
        {"LF205", "LF209"},
    ),
    "no cache of an NPU's model yet": (
        "[W  4/ 8 22:11:36.647 kernels/nnadapter/engine.cc:149 LoadFromCache] Warning: Build model failed(3) !\n"
        "[W  4/ 8 22:11:36.725 runtime/model.cc:86 GetSupportedOperations] Warning: Failed to get the supported operations",
        {"LF329", "LF306", "LF402"},
    ),
    "a driver that builds": (
        "117 RKNPU Build(79): Build graph success\n117 RKNPU AddOperator(211): Add node:x, op=POOL",
        {"LF329"},
    ),
    "Spanish SIGTERM": ("[1]+  Terminado              ./kiosk", {"LF411", "LF402", "LF401"}),
    "a word in a sentence": ("La copia fue Abortado por el usuario, ver el manual", {"LF402"}),
    "a word in information": ("[INFO] Zustand: Abgebrochen", {"LF402"}),
    "heap, as information": ("2024-05-01 10:00:00 INFO handler for double free or corruption is set", {"LF402"}),
}


@pytest.mark.parametrize(("text", "codes"), WRONG.values(), ids=WRONG)
def test_a_wrong_cause_is_no_error(text: str, codes: set[str]) -> None:
    assert not codes & {f.code for f in decode_log(text).findings if f.severity is Severity.ERROR}


def test_what_is_only_known_not_to_be_on_path_is_a_warning_with_the_remedy() -> None:
    for text in (
        COMMAND + "bash: paddle_lite_opt: command not found",
        "sh: 1: opt: not found",
        "bash: opt: 未找到命令",
    ):
        (found,) = decode_log(text).findings
        assert (found.code, found.severity) == ("LF709", Severity.WARNING)
        assert "PATH" in found.entry.do


@pytest.mark.parametrize("name", WORDS)
def test_each_word_of_a_shell_is_found_in_each_form(name: str) -> None:
    for word in WORDS[name]:
        for form in ("{}", "{} (core dumped)", "run.sh: 14:  8121 {}      ./kiosk", "行 3：  77 {} （核心已转储） x"):
            codes = {f.code for f in decode_log(form.format(word)).findings}
            assert codes & {"LF401", "LF402", "LF411", "LF101", "LF310"}, (word, form)


def test_words_make_no_log_slow() -> None:
    text = "中止 " * (1 << 18)
    begun = time.process_time()
    decode_log(text)
    assert time.process_time() - begun < 10
