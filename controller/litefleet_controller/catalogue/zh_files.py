"""Chinese articles: the .nb file and the machine it is for."""

from __future__ import annotations

from collections.abc import Mapping

from .entry import Zh

ZH_FILES: Mapping[str, Zh] = {
    "LF101": Zh(
        "目标硬件不符",
        "一个 .nb 文件只含面向一种硬件的内核。在其他 CPU 上，Paddle-Lite 要么段错误，要么跳过这些内核，以退出码 0"
        " 给出全零或垃圾值。`valid_targets=arm,x86` 得到的是 ARM 文件，而不是两者通用的文件。",
        "为这台设备的架构转换模型（`litefleet convert`）；每种架构一个 .nb。",
        "文件中的每个算子都写明了其内核的目标；不加载文件，统计这些目标，并与设备用户空间（或 `--for`）的指令集比较。",
        (
            "查看文件：`litefleet inspect model.nb --for x86_64`。",
            "为设备真正的架构转换：`litefleet convert --for x86_64`。",
            "让部署自行选择：在 litefleet.yaml 中用 `source:` 代替 `nb:`，每种架构就会得到各自的文件。",
        ),
    ),
    "LF102": Zh(
        "混用两种 CPU 指令集",
        "opt 逐个算子地选用第一个有内核的目标：`arm,x86` 得到 ARM 文件，`x86,arm` 得到一个会输出 NaN 的混合文件，"
        "而两者都报告“成功”（successfully）。",
        "每次转换只写一个 CPU 目标：x86 或 arm。litefleet 会自行为每种架构生成一个文件。",
        "文件中内核的目标既有 x86 又有 arm；同时要求两者的转换，在开始之前就被拒绝。",
        (
            "每次转换只写一种 CPU：`litefleet convert --targets arm` 或 `litefleet convert --targets x86`。",
            "手工转换时：运行一次 `paddle_lite_opt --valid_targets=arm ...`，再用 `x86` 运行一次，写到另一个文件。",
            "加速器要与它自己的 CPU 一起写：`litefleet convert --targets opencl,arm`。",
        ),
    ),
    "LF103": Zh(
        "缺少加速器",
        "文件中含有某种加速器的内核，而这台设备或其 Paddle-Lite 运行库没有这种加速器。",
        "只面向 CPU 转换，或指定一个为该加速器编译的运行库。",
        "对于 host、x86 和 arm 以外的内核目标，在设备上查找：必须有 OpenCL 库，且运行库编译时必须打开了 OpenCL。"
        "在日志中，由未通过的检查的文字得知。",
        (
            "查看文件需要什么、设备有什么：`litefleet inspect model.nb`，然后 `litefleet probe --limit NAME`。",
            "只用 CPU：从 `models.NAME.targets` 中去掉该设备的架构，重新转换：`litefleet convert`。",
            "要使用 GPU：安装其厂商的 OpenCL 驱动，并在 `runtimes:` 下指定一个编译时打开了 OpenCL 的运行库。",
        ),
    ),
    "LF104": Zh(
        "不支持 fp16",
        "fp16 内核需要 ARMv8.2 的半精度运算（asimdhp），以及编译时打开了 fp16 的 Paddle-Lite；否则会因 SIGILL 崩"
        "溃，或在加载到 'calib' 时中止。",
        "为这台设备转换不带 fp16 的模型。",
        "把文件中的 fp16 内核与 /proc/cpuinfo（`asimdhp`）和架构对照；在 x86 上要求 fp16，在转换之前就被拒绝。在"
        "日志中，由不受支持的内核中出现 'calib' 得知。",
        (
            "在设备上查询：`grep -c asimdhp /proc/cpuinfo` 输出 0 时，fp16 无法工作（Cortex-A53、A72、A73 及更早"
            "的型号）。",
            "在 `models.NAME.options` 下为该架构设置 `fp16: false`，然后 `litefleet convert`。",
            "如果 CPU 支持，请在 `runtimes:` 下指定以 `--with_arm82_fp16=ON` 编译的运行库。",
        ),
    ),
    "LF105": Zh(
        ".nb 文件不完整",
        "文件被截断，或在写入途中被读取，或含有其自身目录没有记载的字节。",
        "重新转换或复制模型，并比较 SHA-256。",
        "按文件自身写明的大小，从头到尾走一遍：文件头、拓扑、每个张量。缺少或多余之处连同其偏移量一并指出。不加载"
        "其中任何内容。",
        (
            "比较两边：在本机和设备上分别运行 `sha256sum model.nb`。",
            "重新转换到一个新文件，完成之后再移到位：`litefleet convert`，或在 `scp` 之后用 `mv`。",
            "如果是在写入途中被读取，请先写到另一个名称，再重命名。",
        ),
    ),
    "LF106": Zh(
        "不是 .nb 文件",
        "文件开头不是 Paddle-Lite 的 naive buffer 文件头，运行库加载时会中止。",
        "请给出 `litefleet convert`（或 `opt --optimize_out_type=naive_buffer`）写出的文件，而不是源模型。",
        ".nb 以格式编号和可打印的版本文字开头；文件最初的字节两者都不是。",
        (
            "查看文件到底是什么：`litefleet doctor FILE`。",
            "转换源模型：在 litefleet.yaml 中把其文件夹写为 `source:`，然后 `litefleet convert`。",
            "手工转换时，opt 需要 `--optimize_out_type=naive_buffer`，结果用 `set_model_from_file` 加载。",
        ),
    ),
    "LF107": Zh(
        ".nb 格式版本不被接受",
        "这个 .nb 的格式版本，要么是运行库拒绝的（0，Paddle-Lite 2.7 起不再支持），要么是它还不认识的。",
        "用设备上运行的 Paddle-Lite 版本重新转换模型。",
        "文件的前两个字节是格式版本；已知的是 1 和 2。",
        (
            "用设备的 Paddle-Lite 版本从源模型转换：设置 `toolchain.paddlelite`，然后 `litefleet convert`。",
            "如果只剩下 .nb，则无法升级：请重新导出源模型。",
        ),
    ),
    "LF108": Zh(
        "Paddle-Lite 版本不同",
        "写出文件的 Paddle-Lite 与运行它的不是同一版本。多数情况下可以工作；算子有改动之处则不行。",
        "用设备上的 Paddle-Lite 版本转换；这一组合是否可行，由与参考输出的比较来判断。",
        "把文件头中的版本文字，与加载的运行库自报的版本比较。",
        (
            "如果设备上的验证通过，这一组合就可行：`litefleet verify --limit NAME`。",
            "要使版本一致，请把 `toolchain.paddlelite` 设为设备的版本，再重新转换：`litefleet convert`。",
        ),
    ),
    "LF109": Zh(
        "Paddle-Lite 版本未知",
        "不是从标签（tag）编译的 Paddle-Lite，其版本是一个提交哈希或为空，因此无法比较版本。",
        "与参考输出的比较若通过，则无需处理；否则请用同一次编译得到的 opt 转换。",
        "两个版本文字之一为空或是提交哈希，因此无从比较。",
        (
            "如果设备上的验证通过，则无需处理：`litefleet verify --limit NAME`。",
            "从标签编译 Paddle-Lite（`git checkout v2.13-rc`），使它知道自己的版本，并用这次编译得到的 opt 转换。",
        ),
    ),
    "LF110": Zh(
        "哈希不符",
        "到达设备或存放在设备上的字节，不是发送的字节：权重中翻转一个比特，就会以退出码 0 给出略有偏差的结果。",
        "再次运行同一命令：文件会重新发送。若再次出现，请检查设备的存储。",
        "每个文件都连同其 SHA-256 一起发送；设备先计算收到内容的哈希，之后文件才得到名称。",
        (
            "再次运行同一命令；已完整到达的内容不会重新发送。",
            "若再次出现，请检查存储：在设备上运行 `dmesg | grep -iE 'mmc|ext4|i/o error'`。",
            "如果文件在发送途中于本机发生了变化，请先完成转换或复制。",
        ),
    ),
    "LF111": Zh(
        "x86 上的 int8",
        "量化了权重（int8/int16）的文件在 ARM 上结果正确；在 x86 上能转换、能加载、能运行，但结果错误：NaN，或对任何输入都给出同样的输出。",
        "面向 x86 时不要量化。",
        "读取文件中权重的元素类型和内核的精度；x86 设备上出现 int8 或 int16 即为此项。",
        (
            "面向 x86 时不要量化：`options: {quant: int8, x86_64: {quant: none}}`，然后 `litefleet convert`。",
            "在本机检查该文件：`litefleet doctor model.nb --for x86_64`。",
        ),
    ),
    "LF112": Zh(
        "fp16 与 int8 并用",
        "Paddle-Lite 不支持在同一个文件中并用 fp16 与 int8 内核。",
        "两者选其一。",
        "统计同一个文件中的 fp16 内核与 int8 内核或权重；同时要求两者的转换，在开始之前就被拒绝。",
        (
            "在 `models.NAME.options` 下选择其一：`fp16: true` 或 `quant: int8`。",
            "然后 `litefleet convert`。",
        ),
    ),
    "LF113": Zh(
        "缺少 extra 算子",
        "文件用到的算子，没有编译进这个 Paddle-Lite（精简版不含 extra 算子）；加载会中止，或提示缺少另一个算子的内核。",
        "使用编译时带 `--with_extra=ON` 的运行库，或完整版。",
        "把文件的算子与运行库注册的算子对照，前提是不加载运行库就能得知。在日志中，由没有找到的算子的名称得知。",
        (
            "查看运行库是哪一种：`litefleet doctor lite.so`。",
            "使用同一发行版本的 `with_extra` 库，或用 `./lite/tools/build_linux.sh --with_extra=ON` 编译。",
            "在 `runtimes:` 下指定新的运行库，并加以验证：`litefleet verify --limit NAME`。",
        ),
    ),
    "LF114": Zh(
        "int8 与线程数",
        "在 32 位 ARM 上，已知 int8 文件用三个或四个线程时会段错误。",
        "如果偶尔崩溃，请用一个线程运行这个模型。",
        "设备是 32 位 ARM，且文件含有 int8 内核。",
        (
            "只要验证通过，就无需处理；litefleet 用运行库自身的线程数运行它。",
            "在您自己的程序中：创建 predictor 之前调用 `config.set_threads(1)`。",
        ),
    ),
    "LF115": Zh(
        "无法打开 .nb 文件",
        "加载 .nb 的程序无法打开它：路径或工作目录与预期不同，或没有读取权限。",
        "请给出文件的绝对路径，并确认运行程序的用户可以读取它。",
        "日志中 Paddle-Lite 自身的一行，指出它无法打开的文件。",
        (
            "在程序运行的目录中查看文件是否存在：`ls -l model.nb`。",
            "使用绝对路径；服务并不在您测试时所在的目录中运行。",
            "确认运行程序的用户可以读取它，并可进入其上的每一级文件夹。",
        ),
    ),
}
