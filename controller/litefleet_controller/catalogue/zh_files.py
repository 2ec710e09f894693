"""Chinese articles: the .nb file and the machine it is for."""

from __future__ import annotations

from collections.abc import Mapping

from .zh_entry import Zh

__all__ = ["ZH_FILES"]

ZH_FILES: Mapping[str, Zh] = {
    "LF101": Zh(
        "目标硬件不符",
        "一个 .nb 文件只含面向一种硬件的内核。在其他 CPU 上，Paddle-Lite 要么段错误，要么跳过这些内核，以退出码 0"
        " 给出全零或垃圾值。`valid_targets=arm,x86` 得到的是 ARM 文件，而不是两者通用的文件。",
        "为这台设备的架构转换模型（`litefleet convert`）；每种架构一个 .nb。",
    ),
    "LF102": Zh(
        "混用两种 CPU 指令集",
        "opt 逐个算子地选用第一个有内核的目标：`arm,x86` 得到 ARM 文件，`x86,arm` 得到一个会输出 NaN 的混合文件，"
        "而两者都报告“成功”（successfully）。",
        "每次转换只写一个 CPU 目标：x86 或 arm。litefleet 会自行为每种架构生成一个文件。",
    ),
    "LF103": Zh(
        "缺少加速器",
        "文件中含有某种加速器的内核，而这台设备或其 Paddle-Lite 运行库没有这种加速器。",
        "只面向 CPU 转换，或指定一个为该加速器编译的运行库。",
    ),
    "LF104": Zh(
        "不支持 fp16",
        "fp16 内核需要 ARMv8.2 的半精度运算（asimdhp），以及编译时打开了 fp16 的 Paddle-Lite；否则会因 SIGILL 崩"
        "溃，或在加载到 'calib' 时中止。",
        "为这台设备转换不带 fp16 的模型。",
    ),
    "LF105": Zh(
        ".nb 文件不完整",
        "文件被截断，或在写入途中被读取，或含有其自身目录没有记载的字节。",
        "重新转换或复制模型，并比较 SHA-256。",
    ),
    "LF106": Zh(
        "不是 .nb 文件",
        "文件开头不是 Paddle-Lite 的 naive buffer 文件头，运行库加载时会中止。",
        "请给出 `litefleet convert`（或 `opt --optimize_out_type=naive_buffer`）写出的文件，而不是源模型。",
    ),
    "LF107": Zh(
        ".nb 格式版本不被接受",
        "这个 .nb 的格式版本，要么是运行库拒绝的（0，Paddle-Lite 2.7 起不再支持），要么是它还不认识的。",
        "用设备上运行的 Paddle-Lite 版本重新转换模型。",
    ),
    "LF108": Zh(
        "Paddle-Lite 版本不同",
        "写出文件的 Paddle-Lite 与运行它的不是同一版本。多数情况下可以工作；算子有改动之处则不行。",
        "用设备上的 Paddle-Lite 版本转换；这一组合是否可行，由与参考输出的比较来判断。",
    ),
    "LF109": Zh(
        "Paddle-Lite 版本未知",
        "不是从标签（tag）编译的 Paddle-Lite，其版本是一个提交哈希或为空，因此无法比较版本。",
        "与参考输出的比较若通过，则无需处理；否则请用同一次编译得到的 opt 转换。",
    ),
    "LF110": Zh(
        "哈希不符",
        "到达设备或存放在设备上的字节，不是发送的字节：权重中翻转一个比特，就会以退出码 0 给出略有偏差的结果。",
        "再次运行同一命令：文件会重新发送。若再次出现，请检查设备的存储。",
    ),
    "LF111": Zh(
        "x86 上的 int8",
        "量化了权重（int8/int16）的文件在 ARM 上结果正确；在 x86 上能转换、能加载、能运行，但输出 NaN。",
        "面向 x86 时不要量化。",
    ),
    "LF112": Zh(
        "fp16 与 int8 并用",
        "Paddle-Lite 不支持在同一个文件中并用 fp16 与 int8 内核。",
        "两者选其一。",
    ),
    "LF113": Zh(
        "缺少 extra 算子",
        "文件用到的算子，没有编译进这个 Paddle-Lite（精简版不含 extra 算子）；加载会中止，或提示缺少另一个算子的内核。",
        "使用编译时带 `--with_extra=ON` 的运行库，或完整版。",
    ),
    "LF114": Zh(
        "int8 与线程数",
        "在 32 位 ARM 上，已知 int8 文件用三个或四个线程时会段错误。",
        "如果偶尔崩溃，请用一个线程运行这个模型。",
    ),
}
