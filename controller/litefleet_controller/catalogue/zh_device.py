"""Chinese articles: the device's environment."""

from __future__ import annotations

from collections.abc import Mapping

from .zh_entry import Zh

__all__ = ["ZH_DEVICE"]

ZH_DEVICE: Mapping[str, Zh] = {
    "LF301": Zh(
        "没有 Python",
        "agent 需要设备上有 Python 3.7 或更高版本；PATH 中没有找到。",
        "在设备上安装 python3，或在设备清单中用 `python:` 指明其路径。",
    ),
    "LF302": Zh(
        "没有运行库",
        "没有适合这台设备的架构、Python 和 libc 的 Paddle-Lite 运行库。",
        "上面的文字说明了什么样的才适合；请在 `runtimes:` 下指定一个 wheel、一个含有已编译的 paddlelite/ 包的文件"
        "夹，或 `system`。",
    ),
    "LF303": Zh(
        "架构不受支持",
        "Paddle-Lite 没有面向这种架构的 CPU 后端。",
        "把这台设备排除在本次部署之外（`--limit '!name'`）。",
    ),
    "LF304": Zh(
        "numpy 2",
        "Paddle-Lite 的 Python 绑定早于 numpy 2：与它一起使用时，每个输入张量都会被填入垃圾值，而没有任何错误提示。",
        "使用 numpy < 2 的运行库；litefleet 自己的运行库包就是如此。",
    ),
    "LF305": Zh(
        "numpy 往返不一致",
        "从张量中取回的不是放进去的内容，因此模型的所有输入都会是垃圾值。",
        "使用 numpy 与这次编译的 Paddle-Lite 相配的运行库（numpy < 2）。",
    ),
    "LF306": Zh(
        "缺少共享库",
        "这台设备上没有 Paddle-Lite 需要的某个共享库。",
        "安装它（Debian：libstdc++6、libgomp1、libgcc-s1），或指定自带它的运行库。",
    ),
    "LF307": Zh(
        "wheel 与 Python 版本不符",
        "二进制 wheel 只能用于编译它时所针对的 CPython 版本。",
        "为这个解释器指定一个 wheel，或在设备清单中用 `python:` 指定另一个解释器。",
    ),
    "LF308": Zh(
        "运行库与机器架构不符",
        "运行库的二进制文件面向另一种 CPU 架构。",
        "指定为这台设备的架构编译的运行库。",
    ),
    "LF309": Zh(
        "libc 过旧",
        "运行库需要比这台设备更新的 glibc（或另一种 libc）。",
        "指定针对这台设备的 libc 编译的运行库。",
    ),
    "LF310": Zh(
        "缺少 CPU 特性",
        "Paddle-Lite 的内核用到这个 CPU 没有的指令（ARM 上的 NEON/VFPv4，x86 上的 AVX）；运行会因 SIGILL 终止。",
        "使用编译时不带这些指令的运行库，或排除这台设备。",
    ),
    "LF311": Zh(
        "内存不足",
        "模型需要的内存多于设备的可用内存；运行到一半就会被杀死。",
        "在设备上腾出内存，或使用更小的模型。",
    ),
    "LF312": Zh(
        "磁盘已满",
        "agent 的根文件夹所在之处放不下要发送的内容。",
        "在设备上腾出空间，或在设备清单中设置另一个 `root:`。没有留下写了一半的内容。",
    ),
    "LF313": Zh(
        "根文件夹不可写",
        "无法写入 agent 的根文件夹（只读文件系统，或没有权限）。",
        "使其可写，或在设备清单中设置另一个 `root:`。",
    ),
    "LF314": Zh(
        "架构与预期不符",
        "设备清单中预期的架构与设备报告的不同：弄错了板子，或在 64 位内核上使用 32 位用户空间。",
        "改正设备清单中的 `arch:`，或检查板子。",
    ),
    "LF315": Zh(
        "运行库无法导入",
        "在设备上无法导入 Paddle-Lite 的 Python 包。",
        "请看最后的几行输出；在 `runtimes:` 下指定另一个运行库。",
    ),
    "LF316": Zh(
        "CPU 数量不一致",
        "/proc/cpuinfo 与 /sys 给出的 CPU 数量不同（容器中会这样）；ARM 上的 Paddle-Lite 可能在 get_cpu_arch 中失败。",
        "在容器之外运行，或把所有 CPU 都分配给容器。",
    ),
    "LF317": Zh(
        "没有 numpy",
        "运行库中没有 numpy；输入以列表传入，较慢但结果正确。",
        "无需处理，或在运行库中加入 numpy < 2。",
    ),
    "LF318": Zh(
        "内存页大小不符",
        "库的各段按比此内核更小的页对齐；加载器会拒绝它（“ELF load command alignment not page-aligned”）。",
        "使用以 `-Wl,-z,max-page-size=65536` 链接的版本，或使用 4 KiB 页的内核。",
    ),
    "LF319": Zh(
        "macOS 附带的 ._ 文件",
        "macOS 的打包程序在真正的文件旁边放了自己的 `._` 文件；会加载文件夹中所有文件的工具会因此出错。",
        "用 `COPYFILE_DISABLE=1 tar ...` 重新打包，或删除 `._*` 文件。",
    ),
    "LF320": Zh(
        "运行库的种类",
        "Paddle-Lite 编译为精简版（只运行 .nb 文件）或完整版（还能读取源模型），可带或不带 extra 算子、fp16 和 "
        "OpenCL；.nb 用到什么，运行库就必须有什么。",
        "模型的验证若通过，则无需处理。",
    ),
    "LF321": Zh(
        "OpenCL 不可用",
        "有 OpenCL 库，但无法使用：背后没有驱动、不在加载器的搜索路径中，或没有访问设备节点的权限。",
        "安装 GPU 厂商的驱动，确认用户可以打开 /dev/mali0、/dev/kgsl-3d0 或 /dev/dri/*，或只面向 CPU 转换。",
    ),
    "LF322": Zh(
        "wheel 已损坏",
        "这个 wheel 不是完整的 zip 压缩包，或缺少构成 Paddle-Lite 包的文件。",
        "重新下载或编译，并将其 SHA-256 与软件包索引中的比较。",
    ),
    "LF323": Zh(
        "不是 Linux 的库",
        "这个库面向的操作系统（Windows、macOS 或 Android）与设备的不同。",
        "指定面向 Linux 和这台设备的 libc 的版本。",
    ),
}
