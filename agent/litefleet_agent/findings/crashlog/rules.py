"""Messages that programs write before they end, and the finding behind each.  Data only.

A pattern never crosses a line, has no nested repeats, and bounds what it scans from each place at which it may begin, so that
no log makes it slow (tests/agent/findings/test_crashlog_linear.py).  `word` is searched first.
The `source` says which program writes the message, since which version, and where it was reported.
"""

import enum
import re
from typing import Dict, NamedTuple, Optional, Pattern, Tuple

from .. import Certainty

_SURE, _LIKELY, _MAYBE = Certainty.CERTAIN, Certainty.LIKELY, Certainty.POSSIBLE


class LogSource(enum.Enum):
    """The program that must have written a message."""

    ANYBODY = ""
    CONVERTER = "converter"
    RUNTIME = "runtime"


_OPT, _LITE = LogSource.CONVERTER, LogSource.RUNTIME


class Rule(NamedTuple):
    """One message; `code` and `certainty` apply where the log also matches `needs` and does not match `unless`."""

    word: str  # part of every line that the pattern matches
    pattern: Pattern[str]
    code: str
    certainty: Certainty
    source: str
    needs: Optional[Pattern[str]] = None
    unless: Optional[Pattern[str]] = None
    log_source: LogSource = LogSource.ANYBODY
    quiet: bool = False  # whether it also applies to lines that Paddle-Lite marks as information


def _rule(
    word: str,
    code: str,
    certainty: Certainty,
    source: str,
    pattern: str = "",
    needs: str = "",
    unless: str = "",
    log_source: LogSource = LogSource.ANYBODY,
    quiet: bool = False,
) -> Rule:
    """Make a rule; the pattern is the word itself where none is given."""
    return Rule(
        word,
        re.compile(pattern or re.escape(word)),
        code,
        certainty,
        source,
        re.compile(needs) if needs else None,
        re.compile(unless) if unless else None,
        log_source,
        quiet,
    )


_LOADING = r"create_paddle_predictor|CreatePaddlePredictor|LoadModel|createPaddlePredictor"
_BASIC = (
    r"conv2d|depthwise_conv2d|fc|mul|pool2d|batch_norm|relu|softmax|scale|concat|elementwise_add|reshape2|transpose2"
)
_BASIC_MISSING = r"kernel for '(?:%s)' is not supported" % _BASIC
_OTHER_MISSING = (
    r"kernel for '(?!(?:%s|io_copy|io_copy_once|calib\w{0,8}|layout|layout_once)')\w+' is not supported" % _BASIC
)
_OTHER_VERSION = r"version of opt: ?v\d[^\n]{0,40}\n[^\n]{0,200}current Paddle-Lite: ?v\d"  # two tagged versions; LF108 comes first then
_WORKER = r"\((?:pool-\d|Thread-|GLThread|DefaultDispatch|OkHttp|AsyncTask)"

_HAL = r"[Ff]ailed to load the nnadapter device HAL library"
_API = r"(?:CxxConfig|MobileConfig|Place|TargetType|PrecisionType|DataLayoutType|PowerMode|MLUCoreVersion|Opt|create_paddle_predictor)"

_FILES = (  # the .nb file
    _rule("upgraded", "LF107", _SURE, "2.7 and later, small builds; Paddle-Lite#4560", r"naive-buffer model .{0,40}upgraded|upgraded the naive-buffer model"),
    _rule("meta_version", "LF107", _SURE, "2.8 and later, model_parser.cc", r"Unspported model meta_version \d+"),
    _rule("format cannot be recognized", "LF106", _LIKELY, "2.6 and later; Paddle-Lite#5842, #7684, #9007"),
    _rule("format cannot be recognized", "LF107", _MAYBE, "a runtime that does not know the file's layout yet; Paddle-Lite#5842"),
    _rule("Failed to read", "LF105", _SURE, "2.8 and later, io.cc; Paddle-Lite#10501", r"Failed to read \d+ bytes", log_source=_LITE),
    _rule("Nothing to read", "LF105", _LIKELY, "2.8 and later; Paddle-Lite#6218", r"ReachEnd\(\).{0,20}Nothing to read", log_source=_LITE),
    _rule("mallocing", "LF105", _LIKELY, "2.12 and later, target_wrapper.cc: a size that is garbage", r"no enough for mallocing \d{13,}"),
    _rule("bad_alloc", "LF105", _MAYBE, "a size that is garbage, read at load; Paddle-Lite#5733", needs=_LOADING, log_source=_LITE),
    _rule("free_size()", "LF106", _LIKELY, "set_model_dir with a folder or file of another kind, naive_buffer.cc", r"bytes <= free_size\(\)"),
    _rule("free_size()", "LF107", _MAYBE, "the same with a file of a layout that was dropped", r"bytes <= free_size\(\)"),
    _rule("FileNotFoundException", "LF115", _LIKELY, "Java; PaddleOCR#455", r"FileNotFoundException: .{0,200}\.nb\b"),
    _rule("Unable to open file", "LF115", _SURE, "2.9 and later, io.cc", r"Unable to open file: \S+\.nb\b", log_source=_LITE),
)  # fmt: skip

_KERNELS = (  # the file's kernels and the runtime's
    _rule("io_copy", "LF103", _SURE, "2.6 and later, program.cc; Paddle-Lite#9295, #8846, #9524",
          r"(?:kernels?(?:\.size\(\)| for| found for)|not supported).{0,60}'?\b(?:io_copy|io_copy_once)\b"),
    _rule("layout", "LF103", _SURE, "the same with images", r"kernels? (?:found )?for '?layout(?:_once)?\b"),
    _rule("calib", "LF104", _LIKELY, "2.9 and later; Paddle-Lite#9386, #10361, #10189", r"kernels? (?:found )?for '?calib\w{0,8}\b"),
    _rule("kernel for '", "LF101", _LIKELY, "a basic operator is in every build; Paddle-Lite#8130, #8435",
          _BASIC_MISSING, unless=_OTHER_VERSION, log_source=_LITE),
    _rule("kernel for '", "LF101", _MAYBE, "the same, with another version", _BASIC_MISSING, needs=_OTHER_VERSION, log_source=_LITE),
    _rule("kernel for '", "LF113", _LIKELY, "2.7 and later; Paddle-Lite#4739, #4962, #10439",
          _OTHER_MISSING, unless=_OTHER_VERSION, log_source=_LITE),
    _rule("kernel for '", "LF113", _MAYBE, "the same, with another version", _OTHER_MISSING, needs=_OTHER_VERSION, log_source=_LITE),
    _rule("valid_kernels_.empty()", "LF113", _LIKELY, "to 2.8, op_lite.cc: no kernel for an operator; Paddle-Lite#4963"),
    _rule("with_extra", "LF113", _SURE, "program.cc", r"Please use Paddle-Lite lib with all ops", log_source=_LITE),
    _rule("operator '", "LF113", _LIKELY, "2.7 and later; Paddle-Lite#4962, #6476", r"operator '\w+' is not supported", log_source=_LITE),
    _rule("no Op found for", "LF113", _LIKELY, "all versions", r"no Op found for \w+", log_source=_LITE),
    _rule("No kernels found for", "LF113", _LIKELY, "2.8; PaddleOCR#2214",
          r"No kernels found for (?!io_copy|calib|layout)\w+", log_source=_LITE),
    _rule("it != kernels.end()", "LF108", _LIKELY, "2.6 to 2.8: file and runtime of different builds; PaddleOCR#1343, #1266, Paddle-Lite#5644"),
    _rule("opencl_valid:0", "LF321", _LIKELY, "2.8 and later, program.cc and program.h; Paddle-Lite#8579, #8807, #10253",
          r"(?<![a-z_])opencl_valid:0"),
    _rule("OpenCL runtime init failed", "LF321", _LIKELY, "2.6 and later, context.h; Paddle-Lite#9295"),
    _rule("clGetPlatformIDs", "LF321", _LIKELY, "the OpenCL loader finds no driver", r"clGetPlatformIDs.{0,20}-1001\b"),
    _rule("libOpenCL", "LF321", _SURE, "the loader; Paddle-Lite#8807",
          r"libOpenCL[\w.]{0,20}[\"”]?:? (?:cannot open shared object|.{0,200}not accessible for the namespace)|denied .{0,60}libOpenCL"),
    _rule("OpenCL error", "LF321", _LIKELY, "2.6 and later, cl_utility.h: the driver refuses a kernel, a buffer or a work group",
          r"OpenCL error.{0,40}CL_(?!MEM_OBJECT_ALLOCATION_FAILURE|OUT_OF_RESOURCES|OUT_OF_HOST_MEMORY)[A-Z]"),
    _rule("out of max image size", "LF321", _SURE, "2.8 and later, target_wrapper.cc: an image is larger than the GPU allows"),
    _rule("opencl runtime", "LF321", _LIKELY, "to 2.9: no OpenCL of 1.1 or later", r"[Ff]ail(?:ed)? to (?:load|init\w{0,7}) opencl runtime"),
    _rule("rogram", "LF321", _LIKELY, "2.6 and later, cl_runtime.cc: the driver cannot compile the kernels",
          r"(?:OpenCL|opencl|CL) [Pp]rogram build (?:error|failed)|\bProgram build error|CL_BUILD_PROGRAM_FAILURE"),
    _rule("/dev/", "LF321", _LIKELY, "Mali's, Adreno's and Mesa's drivers: the user may not open the GPU",
          r"(?:/dev/(?:mali\d|kgsl-3d0|dri/\w{1,20})\b.{0,60}(?:[Pp]ermission denied|No such (?:file|device)|errno|[Ff]ailed))"
          r"|[Ff]ailed to open .{0,20}/dev/(?:mali\d|kgsl-3d0|dri/)"),
    _rule("::Tensor with precision=", "LF329", _LIKELY, "2.9 and later, NNAdapter for Rockchip's NPU; Paddle-Lite#8792",
          r"Can not add a \w{1,20}::nn::Tensor with precision="),
    _rule("RKNPU ", "LF329", _LIKELY, "Rockchip's driver; Paddle-Lite#6522, #8437", r"RKNPU (?:Build\(\d+\): Build graph|Setup\(\d+\): create tensor) fail"),
    _rule("OpenCL error", "LF411", _LIKELY, "cl_utility.h", r"OpenCL error.{0,40}CL_(?:MEM_OBJECT_ALLOCATION_FAILURE|OUT_OF_RESOURCES|OUT_OF_HOST_MEMORY)"),
)  # fmt: skip

_SOURCES = (  # the source model, in the converter
    _rule("is not existed", "LF201", _SURE, "2.7 and later, model_parser.cc", r"the (?:model|param) file '.{0,300}' is not existed"),
    _rule("weight file is not existed", "LF201", _SURE, "2.10 and later"),
    _rule("Unsupported model format", "LF202", _LIKELY, "PaddlePaddle 3's format; PaddleOCR#15363, Paddle-Lite#10662, #10666",
          needs=r"inference\.json|PP-OCRv5|paddle3\.|\bpir\b"),
    _rule("Unsupported model format", "LF201", _LIKELY, "2.7 and later", unless=r"inference\.json|PP-OCRv5|paddle3\.|\bpir\b"),
    _rule("idx >= blocks.size()", "LF202", _SURE, "2.9 and later: a program without blocks", needs=r"\.json\b"),
    _rule("idx >= blocks.size()", "LF207", _LIKELY, "2.9 and later: a program without blocks", unless=r"\.json\b"),
    _rule("ParseFromString", "LF207", _LIKELY, "2.6 and later, model_parser.cc", r"Check failed: pb_prog->ParseFromString"),
    _rule("Only version 0 is supported", "LF203", _SURE, "to 2.8; Paddle-Lite#4302, #4763"),
    _rule("The version of tensor", "LF203", _SURE, "2.9 and later, tensor_io.cc", r"The version of tensor \d+ is not supported"),
    _rule("load partial data", "LF203", _SURE, "all versions; Paddle-Lite#10370"),
    _rule("Nothing to read", "LF203", _LIKELY, "the converter reads the parameters", r"ReachEnd\(\).{0,20}Nothing to read", log_source=_OPT),
    _rule("Failed to read", "LF203", _LIKELY, "the converter reads the parameters", r"Failed to read \d+ bytes", log_source=_OPT),
    _rule("ops are not supported on '", "LF206", _SURE, "2.6 and later; Paddle-Lite#6600, #9188", r"\d{1,6} ops are not supported on '[\w,]+'",
          unless=r"unsupported ops are:[^\n:]{0,2000}\w_grad\b"),
    _rule("_grad", "LF212", _SURE, "2.6 and later; Paddle-Lite#8069, #4884", r"unsupported ops are:[^\n:]{0,2000}\w_grad\b"),
    _rule("no Op found for", "LF206", _SURE, "the converter", r"no Op found for \w+", log_source=_OPT),
    _rule("No kernels found for", "LF206", _SURE, "the converter", r"No kernels found for \w+", log_source=_OPT),
    _rule("'moving_average_abs_max_scale'", "LF208", _SURE, "PaddleOCR#7921, #911, Paddle-Lite#9036", r"unsupported ops are:.{0,2000}'moving_average_abs_max_scale'"),
    _rule("No attributes called", "LF204", _LIKELY, "2.9 and later, op_desc.h; Paddle-Lite#10531, #10641, #10240", r"No attributes called \w+ found for \w+"),
    _rule("outputs_.end()", "LF204", _LIKELY, "2.9 and later; PaddleOCR#10752", r"it != outputs_?(?:\(\))?\.end\(\)"),
    _rule("no type registered", "LF204", _LIKELY, "to 2.8, kernel.cc: an output that the converter does not know; Paddle-Lite#4466",
          r"no type registered for kernel \["),
    _rule("Can't find a ", "LF206", _LIKELY, "2.6 and later, core/mir: no kernel converts between two places or types; Paddle-Lite#9620",
          r"Can't find a '?\w{1,40}'? kernel (?:for \w{1,40} op|to trans)"),
    _rule("Wrong target '", "LF205", _SURE, "2.9 and later: unknown word in valid_targets", r"Wrong target '.{0,80}' found"),
    _rule("BinaryFileWriter", "LF205", _SURE, "the output can't be written", r"BinaryFileWriter\].{0,80}Unable to open file"),
    _rule("valid_targets'", "LF205", _SURE, "no target was named", r"should set the command argument 'valid_targets'"),
)  # fmt: skip

_INPUTS = (  # what was put into the model
    _rule("test error!", "LF416", _LIKELY, "an operator that got nothing; Paddle-Lite#8991, #9337", r"in_dims\.size\(\).{0,60}test error!", needs=r"Check failed: op_->CheckShape"),
    _rule("op_->CheckShape", "LF416", _MAYBE, "all versions; Paddle-Lite#3982, #10188", r"Check failed: op_->CheckShape"),
    _rule("op_->CheckShape", "LF417", _MAYBE, "all versions; a wrong number of dimensions", r"Check failed: op_->CheckShape"),
    _rule("Invalid shape is given", "LF416", _LIKELY, "reshape_op.cc; Paddle-Lite#9917, #3829"),
    _rule("Invalid shape is given", "LF417", _MAYBE, "reshape_op.cc"),
    _rule("_dims[0]", "LF417", _LIKELY, "fc_compute; Paddle-Lite#9345, #4207, #10373, #10366", r"k_ ?== ?[wW]_dims\[0\]"),
    _rule("index of dimension in axes", "LF416", _MAYBE, "slice_op.cc"),
    _rule("index of dimension in axes", "LF417", _MAYBE, "slice_op.cc"),
    _rule("out_dims[j]", "LF417", _LIKELY, "concat_op.cc, to 2.2 in a line of information; Paddle-Lite#6308, #2724",
          r"out_dims\[j\] == input_dims(?:_i|\[i\])\[j\]", quiet=True),
    _rule("broadcast type", "LF417", _LIKELY, "2.10 and later, elementwise_op_func.h; Paddle-Lite#8683", r"Update\] Wrong broadcast type"),
    _rule("axis < max_dim", "LF416", _MAYBE, "compare_op.cc: a tensor without dimensions; Paddle-Lite#10553"),
    _rule("axis < max_dim", "LF417", _MAYBE, "compare_op.cc; Paddle-Lite#10553"),
    _rule("x_rank", "LF416", _MAYBE, "Paddle-Lite#10098", r"axis < static_cast<int>\(x_rank\)"),
    _rule("x_rank", "LF417", _MAYBE, "Paddle-Lite#10098", r"axis < static_cast<int>\(x_rank\)"),
    _rule("input tensor precision type", "LF418", _SURE, "2.10 and later, light_api.cc; Paddle-Lite#10183",
          r"Error input tensor precision type\..{0,200}Require precision type"),
    _rule("incompatible array data type", "LF418", _SURE, "2.9 and later, tensor_py.h", r"Input object type error or incompatible array data type"),
    _rule("nan", "LF404", _LIKELY, "printed outputs; Paddle-Lite#10402, #10632", r"(?<![\w-])nan[, ]{1,4}nan(?![\w-])"),
    _rule("get_cpu_arch", "LF316", _LIKELY, "to 2.13, device_info.cc; Paddle-Lite#9321, #10449", r"get_cpu_arch\(", needs=r"out_of_range"),
    _rule("paddle::lite::", "LF401", _LIKELY, "a debugger's stack; Paddle-Lite#6318", r"(?m)^#\d{1,3} +0x[0-9a-f]+ in paddle::lite::",
          unless=r"Check failed|SIG[A-Z]{3,4}|[Ss]egmentation fault"),
    _rule("#00 pc ", "LF401", _LIKELY, "Android: a stack without the line of its signal; Paddle-Lite-Demo#387",
          r"#00 pc [0-9a-f]{8,16} .{1,200}\.so", unless=r"Check failed|SIG[A-Z]{3,4}|abort"),
    _rule("kernel null", "LF415", _MAYBE, "2.9 and later; Paddle-Lite#10637", r"Check failed: kernel_: kernel null"),
    _rule("SIGSEGV", "LF415", _MAYBE, "a worker thread; Paddle-Lite#9886, #10698", r"SIGSEGV.{0,120}in tid \d+ " + _WORKER),
)  # fmt: skip

_MEMORY = (
    _rule("bad_alloc", "LF411", _LIKELY, "C++", r"std::bad_alloc"),
    _rule("MemoryError", "LF411", _LIKELY, "Python", r"(?m)(?:^|\.|: |_Array)MemoryError(?:$|: (?!std::bad_alloc))"),
    _rule("mallocing", "LF411", _LIKELY, "2.12 and later, target_wrapper.cc", r"no enough for mallocing \d{1,12}\b"),
    _rule("annot allocate memory", "LF411", _LIKELY, "errno ENOMEM", r"[Cc]annot allocate memory(?! in static TLS)"),
    _rule("out of memory", "LF411", _LIKELY, "several programs", r"(?:[:\]] |^|is |run )out of memory"),
    _rule("Out of memory", "LF411", _SURE, "Linux's log", r"Out of memory(?::| \(oom\)) ?(?:Killed?|Kill) process"),
    _rule("oom-kill", "LF411", _SURE, "Linux's log", r"oom-kill:|invoked oom-killer|oom-kill'"),
    _rule("oom_reaper", "LF411", _SURE, "Linux's log", r"oom_reaper: reaped process"),
    _rule("OOMKilled", "LF411", _SURE, "Docker, Kubernetes", r"OOMKilled(?!\"?: ?false)"),
    _rule("lowmemorykiller", "LF411", _SURE, "Android", r"lowmemorykiller: Kill(?:ing)? '"),
)  # fmt: skip

_LOADER = (  # the library and its surroundings
    _rule("undefined symbol: ", "LF307", _SURE, "CPython; Paddle-Lite#10072", r"undefined symbol: _?Py\w+", unless=_HAL),
    _rule("Python version mismatch", "LF307", _SURE, "pybind11", r"Python version mismatch: module was compiled for Python [\d.]+"),
    _rule("undefined symbol: ", "LF309", _LIKELY, "another C++ library; Paddle-Lite#10589", r"undefined symbol: \w*__cxx11\w*"),
    _rule("undefined reference to", "LF309", _LIKELY, "the linker; Paddle-Lite#10589",
          r"undefined reference to .{0,20}__cxx11|undefined reference to .{1,200}@GLIBC(?:XX)?_[\d.]"),
    _rule("undefined reference to", "LF315", _LIKELY, "the linker: a library of another build or toolchain; Paddle-Lite#4067, #9208, #1815",
          r"lib[\w.+-]{1,80}: (?:error: )?undefined reference to [`'‘](?!.{1,200}(?:@GLIBC|__cxx11))"),
    _rule("undefined symbol: ", "LF315", _LIKELY, "the loader: two libraries, or a program and its library, of different versions",
          r"[\w)]: undefined symbol: (?!_?Py)(?!\w*__cxx11)\w+"),
    _rule("undefined symbol: ", "LF315", _LIKELY, "a vendor's library that needs Python's, Paddle-Lite#10505", needs=_HAL),
    _rule("cannot locate symbol", "LF315", _LIKELY, "Android's loader; PaddleOCR#2970, Paddle-Lite#1982"),
    _rule("static TLS", "LF315", _SURE, "glibc to 2.21; Paddle#21760", r"cannot load any more object with static TLS"),
    _rule("static TLS block", "LF315", _SURE, "the loader", r"cannot allocate memory in static TLS block"),
    _rule("ailed to map segment", "LF315", _SURE, "the loader: its file system is mounted noexec, or the file is no library of this machine"),
    _rule("executable stack", "LF315", _SURE, "glibc 2.41, SELinux: the library asks for an executable stack", r"[Cc]annot enable executable stack"),
    _rule("memory protection", "LF315", _SURE, "the loader: SELinux or noexec", r"cannot (?:apply additional memory protection after|change memory protections)"),
    _rule("segment prot after reloc", "LF315", _SURE, "the loader: SELinux", r"cannot restore segment prot after reloc"),
    _rule("text relocations", "LF315", _SURE, "Android's loader", r"has text relocations"),
    _rule("couldn't map", "LF315", _LIKELY, "Android's loader", r"couldn't map .{1,200}(?:Permission denied|Operation not permitted|Out of memory)"),
    _rule("Xbyak::Error", "LF315", _LIKELY, "x86: the system refuses memory for generated code; Paddle-Lite#10652", r"Xbyak::Error: can't (?:alloc|protect)"),
    _rule("paddlelite", "LF315", _LIKELY, "Windows: an incomplete package; Paddle-Lite#9271", r"FileNotFoundError: .{0,200}paddlelite[\\/]{1,2}libs\b"),
    _rule("MKL FATAL ERROR", "LF315", _LIKELY, "MKL", r"MKL FATAL ERROR: Cannot load \S+"),
    _rule("lite.so: cannot open", "LF308", _LIKELY, "the loader says so of a file for another CPU; Paddle-Lite#4036",
          r"(?<![\w-])lite\.so: cannot open shared object file"),
    _rule("cannot open shared object file", "LF306", _SURE, "the loader; Paddle-Lite#4160",
          r"(?<![^\s:,'\"])(?<!dlerror: )lib(?!OpenCL)[\w.+-]{1,80}: cannot open shared object file"),
    _rule("HAL library", "LF306", _LIKELY, "2.10 and later, NNAdapter: the vendor's driver library; in 2.10 in a line of information",
          _HAL + r".{0,200}: cannot open shared object file", quiet=True),
    _rule("nadapter", "LF306", _LIKELY, "2.10 and later, nnadapter_wrapper.cc", r"Failed to load the NNAdapter library from", quiet=True),
    _rule("UnsatisfiedLinkError", "LF306", _SURE, "Android; Paddle-Lite#5009, #2093, PaddleOCR#5984",
          r"UnsatisfiedLinkError:(?:(?!UnsatisfiedLinkError:).){0,600}(?:couldn't find \"|library \"[^\"]{1,200}\" not found|no \w+ in java\.library\.path)"),
    _rule("CANNOT LINK EXECUTABLE", "LF306", _SURE, "Android's loader; PaddleOCR#1389", r"CANNOT LINK EXECUTABLE .{0,300}library \"[^\"]{1,200}\" not found"),
    _rule("Can not find library", "LF306", _SURE, "x86, dynamic_loader.cc; Paddle-Lite#9225", r"Can not find library: lib[\w.+-]+"),
    _rule("DLL load failed", "LF306", _LIKELY, "Windows; Paddle-Lite#9298", r"DLL load failed while importing lite"),
    _rule("libraries: ", "LF306", _SURE, "the loader", r"error while loading shared libraries: (?!libOpenCL)[\w./+-]{1,200}: cannot open"),
    _rule("wrong ELF class", "LF308", _SURE, "the loader"),
    _rule("instead of 32-bit", "LF308", _SURE, "Android's loader; Paddle-Lite#10113", r"is 64-bit instead of 32-bit"),
    _rule("instead of 64-bit", "LF308", _SURE, "Android's loader", r"is 32-bit instead of 64-bit"),
    _rule("unexpected e_machine", "LF308", _SURE, "Android's loader", r"has unexpected e_machine: \d+"),
    _rule("No such file or directory", "LF309", _LIKELY, "qemu, old shells: the program's loader is missing, so it is for another libc or float ABI",
          r"/(?:ld-linux|ld-musl|ld-uClibc|ld64|linker64|ld\.so)[\w.-]{0,40}['\"]?: No such file or directory"),
    _rule("bad ELF interpreter", "LF309", _LIKELY, "bash to 5.1"),
    _rule("required file not found", "LF309", _LIKELY, "bash 5.2 and later", r"cannot execute: required file not found"),
    _rule("xec format error", "LF308", _LIKELY, "Linux", r"[Ee]xec format error"),
    _rule("not executable: ", "LF308", _SURE, "Android's shell; Paddle-Lite#8446", r"not executable: (?:32|64)-bit ELF file"),
    _rule("incompatible architecture", "LF308", _SURE, "macOS", r"incompatible architecture \("),
    _rule("/._", "LF319", _SURE, "files that macOS's archiver added", r"/\._[^\s:/]+: (?:invalid ELF header|file too short)"),
    _rule("Wheel 'paddlelite'", "LF322", _SURE, "pip", r"Wheel 'paddlelite' located at .{0,300} is invalid"),
    _rule("/._", "LF319", _LIKELY, "a tool that took such a file for a library", r"patchelf .{0,300}/\._[\w.-]{1,80}\.so"),
    _rule("invalid ELF header", "LF322", _LIKELY, "the loader", r"(?<!/\._lite\.so): invalid ELF header"),
    _rule("file too short", "LF322", _LIKELY, "the loader", r"\.so[\d.]*: file too short"),
    _rule("page-aligned", "LF318", _SURE, "glibc", r"ELF load command (?:alignment|address/offset) not (?:properly )?(?:page-)?aligned"),
    _rule("system page size", "LF318", _SURE, "Android's loader", r"program alignment \(\d+\) cannot be smaller than system page size"),
    _rule("' not found", "LF309", _SURE, "the loader; Paddle-Lite#10589", r"version `(?:GLIBC|GLIBCXX|CXXABI|GCC|GOMP)_[\w.]+' not found"),
    _rule("Error relocating", "LF309", _LIKELY, "musl", r"Error relocating \S+: \w+: symbol not found"),
    _rule("paddlelite", "LF302", _SURE, "pip; Paddle-Lite#4195, #9828", r"No matching distribution found for paddlelite|satisfies the requirement paddlelite"),
    _rule("paddlelite", "LF302", _LIKELY, "Python", r"No module named '?paddlelite'?(?![.\w])"),
    _rule("paddlelite", "LF315", _LIKELY, "Python", r"No module named '?paddlelite\.|cannot import name '(?!" + _API + r")\w+' from '?paddlelite"),
    _rule("cannot import name", "LF324", _SURE, "Python: a build without it", r"cannot import name '(?:" + _API + r")' from '?paddlelite"),
    _rule("is not defined", "LF324", _LIKELY, "Python: a build without it, after `from paddlelite.lite import *`", r"name '(?:" + _API + r")' is not defined"),
    _rule("not a supported wheel", "LF302", _LIKELY, "pip", r"paddlelite\S{1,200} is not a supported wheel on this platform"),
    _rule("' object has no attribute '", "LF324", _SURE, "Python; Paddle-Lite#5838", r"'paddlelite\.lite\.\w+' object has no attribute '\w+'"),
    _rule("has no attribute", "LF324", _SURE, "Python", r"module 'paddlelite\.lite' has no attribute '\w+'"),
    _rule("numpy", "LF325", _SURE, "Python", r"No module named '?numpy'?"),
    _rule("patchelf: ", "LF709", _LIKELY, "a build of the Python package; Paddle-Lite#9058", r"patchelf: (?:command )?not found"),
    _rule("opt", "LF709", _LIKELY, "a shell: pip's folder of programs is not on PATH",
          r"\b(?:paddle_lite_opt|opt(?:_linux|_mac)?)(?:: command| ?:)? not found|(?:command not found|未找到命令)[:：] ?(?:paddle_lite_opt|opt)\b"
          r"|(?:paddle_lite_opt|\bopt)[:：] ?未找到命令|'(?:paddle_lite_opt|opt)' is not recognized"),
    _rule("compiled using NumPy 1.x", "LF304", _SURE, "numpy 2"),
    _rule("_ARRAY_API not found", "LF304", _SURE, "numpy 2"),
)  # fmt: skip

RULES: Tuple[Rule, ...] = _FILES + _KERNELS + _SOURCES + _INPUTS + _MEMORY + _LOADER


SIGNALS: Dict[int, str] = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV"}

# a group named "number" or "status" holds the signal's number, or that number + 128; "name" the signal's name
ENDINGS: Tuple[Tuple[str, Pattern[str], str], ...] = (
    # the word that the text must contain, the pattern, the signal where the pattern names none
    # Windows' exit codes, as numbers and as NTSTATUS names them
    ("3221225477", re.compile(r"\b3221225477\b"), "SIGSEGV"),
    ("3221226505", re.compile(r"\b3221226505\b"), "SIGABRT"),
    ("3221225501", re.compile(r"\b3221225501\b"), "SIGILL"),
    ("1073741819", re.compile(r"-1073741819\b"), "SIGSEGV"),
    ("C0000005", re.compile(r"\b0x[Cc]0000005\b"), "SIGSEGV"),
    ("1073740791", re.compile(r"-1073740791\b"), "SIGABRT"),
    ("C0000409", re.compile(r"\b0x[Cc]0000409\b"), "SIGABRT"),
    ("1073741795", re.compile(r"-1073741795\b"), "SIGILL"),
    ("C000001D", re.compile(r"\b0x[Cc]000001[Dd]\b"), "SIGILL"),
    ("egmentation fault", re.compile(r"[Ss]egmentation fault"), "SIGSEGV"),
    ("段错误", re.compile(r"段错误"), "SIGSEGV"),
    ("llegal instruction", re.compile(r"[Ii]llegal instruction(?! set)"), "SIGILL"),
    ("llegal hardware instruction", re.compile(r"[Ii]llegal hardware instruction"), "SIGILL"),
    ("非法指令", re.compile(r"非法指令"), "SIGILL"),
    ("us error", re.compile(r"(?<![^\s:])Bus error(?!\S)"), "SIGBUS"),
    ("总线错误", re.compile(r"总线错误"), "SIGBUS"),
    ("Killed", re.compile(r"(?:^|:  *\d+ |^\[\d+\][+-]? {1,4})Killed(?:\s|$)", re.MULTILINE), "SIGKILL"),
    ("已杀死", re.compile(r"已杀死"), "SIGKILL"),
    ("Aborted", re.compile(r"(?:^|:  *\d+ |: )Aborted(?:\s|$)", re.MULTILINE), "SIGABRT"),
    (" abort", re.compile(r"^\[\d{1,3}\] {1,4}[-+]? {0,2}\d+ abort\b", re.MULTILINE), "SIGABRT"),
    ("(abort+", re.compile(r"libc\.so ?\(abort\+\d+\)"), "SIGABRT"),
    ("已放弃", re.compile(r"已放弃"), "SIGABRT"),
    ("中止", re.compile(r"中止 ?\(核心已转储\)"), "SIGABRT"),
    ("Fatal Python error", re.compile(r"Fatal Python error: (?:Aborted)"), "SIGABRT"),
    ("zsh: bus error", re.compile(r"zsh: bus error\b"), "SIGBUS"),
    ("zsh: abort", re.compile(r"zsh: abort\b"), "SIGABRT"),
    ("zsh: killed", re.compile(r"zsh: killed\b"), "SIGKILL"),
    ("EXC_BAD_ACCESS", re.compile(r"EXC_BAD_ACCESS"), "SIGSEGV"),
    ("EXC_BAD_INSTRUCTION", re.compile(r"EXC_BAD_INSTRUCTION"), "SIGILL"),
    ("general protection", re.compile(r"general protection(?: fault)? ip:"), "SIGSEGV"),
    ("loating point exception", re.compile(r"[Ff]loating point exception"), "SIGFPE"),
    ("segfault at", re.compile(r"segfault at [0-9a-f]+ ip"), "SIGSEGV"),
    ("invalid opcode", re.compile(r"trap invalid opcode ip"), "SIGILL"),
    ("undefined instruction", re.compile(r"undefined instruction: pc="), "SIGILL"),
    ("divide error", re.compile(r"trap divide error ip"), "SIGFPE"),
    # kernels for ARM: "kiosk[81]: unhandled level 2 translation fault (11) at 0x…", "Unhandled fault: alignment exception (0x801) at 0x…"
    ("unhandled ", re.compile(r"unhandled [\w ]{3,60}\((?P<number>\d{1,2})\) at 0x"), ""),
    ("Unhandled fault: ", re.compile(r"Unhandled fault: (?:alignment|[\w -]{0,30}external abort)"), "SIGBUS"),
    ("Unhandled fault: ", re.compile(r"Unhandled fault: [\w ]{0,20}(?:domain|permission|translation|page) "), "SIGSEGV"),
    ("Alignment trap: ", re.compile(r"Alignment trap: not handling instruction"), "SIGBUS"),
    ("unexpected fatal signal", re.compile(r"potentially unexpected fatal signal (?P<number>\d{1,2})\b"), ""),
    ("type=1701", re.compile(r"type=1701 .{0,300}\bsig=(?P<number>\d{1,2})\b"), ""),
    ("Signal: ", re.compile(r"Signal: (?P<number>\d{1,2}) \((?:ILL|ABRT|BUS|FPE|KILL|SEGV)\)"), ""),
    ("signal", re.compile(r"[Ss]ignal (?P<number>\d{1,2}) \(SIG[A-Z]{2,5}\)"), ""),
    ("signal", re.compile(r"signal (?P<number>\d{1,2}): SIG[A-Z]{2,5}"), ""),
    ("on signal", re.compile(r"exited on signal (?P<number>\d{1,2})\b"), ""),
    ("received signal", re.compile(r"received signal (?P<name>SIG[A-Z]{2,5})"), ""),
    ("terminated with signal", re.compile(r"terminated with signal (?P<name>SIG[A-Z]{2,5})"), ""),
    ("Signals.SIG", re.compile(r"died with <Signals\.(?P<name>SIG[A-Z]{2,5})"), ""),
    # glog's and Java's own handlers
    ("(", re.compile(r"\b(?P<name>SIG[A-Z]{2,5}) \((?:@0x|0x[0-9a-f]{1,2}\) at pc=)"), ""),
    ("terminated by", re.compile(r"terminated by (?:signal )?(?P<name>SIG[A-Z]{2,5})"), ""),
    ("signal ", re.compile(r"(?:[Kk]illed|[Tt]erminated)(?: by| due to| with)? signal:? {0,2}(?P<number>\d{1,2})\b"), ""),
    ("Error 1", re.compile(r"make(?:\[\d{1,3}\])?: \*\*\* .{1,200} Error (?P<status>1[34]\d)\b"), ""),
    ("echo $?", re.compile(r"echo \$\?[\t ]{0,8}\n[\t ]{0,8}(?P<status>1[34]\d)\b"), ""),
    ("码", re.compile(r"(?:退出码|退出代码|返回码)(?:为|是)?[ :：=]{0,12}(?P<status>-\d{1,2}|1[34]\d)(?!\d)"), ""),
    ("status=", re.compile(r"status=(?P<number>\d{1,2})/(?:ILL|ABRT|BUS|FPE|KILL|SEGV)\b"), ""),
    ("SIG", re.compile(r"died with (?P<name>SIG[A-Z]{2,5})"), ""),
    ("signal SIG", re.compile(r"Thread \d{1,4}: signal (?P<name>SIG[A-Z]{2,5})"), ""),
    ("__kmp_abort_process", re.compile(r"\(__kmp_abort_process\+\d+\)"), "SIGABRT"),
    (
        "xit",
        re.compile(
            r"[Ee]xit(?:ed)?(?: with)?(?:[ _-]?(?:[Cc]ode|[Ss]tatus|value))?[ :=\"(]{1,12}(?P<status>-\d{1,2}|1[34]\d)\b"
        ),
        "",
    ),
)  # fmt: skip

# a program that stopped itself
CHECKS: Tuple[Pattern[str], ...] = (
    re.compile(r"Check failed|check failed(?:!|: \()"),
    re.compile(r"terminate called|terminating (?:with|due to) uncaught exception"),
    re.compile(r"^F\d{4} \d\d:|\[F +\d{1,2}/", re.MULTILINE),
    re.compile(r"Paddle-Lite C\+\+ Exception"),
    # the C library, Android's and the sanitizers: something wrote outside its memory, or freed it twice
    re.compile(
        r"(?:free|alloc|align|chunk|consolidate|realloc)\(\): [a-z]|double free or corruption|corrupted (?:size vs|double-linked)"
    ),
    re.compile(
        r"(?:stack smashing|buffer overflow|heap corruption) detected|corrupt block 0x|ERROR: AddressSanitizer|Scudo ERROR"
    ),
    re.compile(r"(?:malloc\.c:\d{1,6}: \w{1,40}|sysmalloc): Assertion|FORTIFY: \w{1,40}: |[Pp]ointer tag for 0x"),
)


class Hint(NamedTuple):
    """A possible cause of a signal."""

    code: str
    certainty: Certainty


HINTS: Dict[str, Tuple[Hint, ...]] = {
    "SIGSEGV": (Hint("LF101", Certainty.POSSIBLE),),
    "SIGILL": (Hint("LF310", Certainty.LIKELY), Hint("LF104", Certainty.POSSIBLE)),
}
