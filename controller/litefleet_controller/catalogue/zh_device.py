"""Chinese articles: the device's environment."""

from __future__ import annotations

from collections.abc import Mapping

from .entry import Zh

ZH_DEVICE: Mapping[str, Zh] = {
    "LF301": Zh(
        "没有 Python",
        "agent 需要设备上有 Python 3.7 或更高版本及其完整的标准库；PATH 中没有找到，或 `python:` 所指的路径不是。",
        "上面的文字说明了为什么没有带去 Python。在设备上安装 python3（系统把它拆成几个包时，请全部安装），在设备清单中用 `python:` 指明其路径，或让 litefleet 带去一个：`python: bring`。",
        "在设备上最先运行的是纯 sh：它在 PATH 中查找 python3.7 至 python3，并逐个询问版本；设备清单指定的解释器是唯一的一个。",
        (
            "手动查看：`ssh USER@HOST 'command -v python3 && python3 --version'`。",
            "安装：`sudo apt-get install python3`（Debian、Ubuntu、Raspberry Pi OS）。",
            "如果位于别处，请在设备清单中写明：`python: /opt/python/bin/python3`。",
            "一个都没有时，litefleet 自己带去一个（`python: auto`，默认）：这条发现说明了为什么没能做到。它需要本机有 apt，"
            "或在 litefleet.yaml 的 `python:` 下写明镜像或归档文件。",
        ),
    ),
    "LF302": Zh(
        "没有运行库",
        "没有适合这台设备的架构、Python 和 libc 的 Paddle-Lite 运行库。",
        "上面的文字说明了什么样的才适合；请在 `runtimes:` 下指定一个 Paddle-Lite C++ 库的发布包、一个 wheel、一个含有"
        "已编译的 paddlelite/ 包的文件夹，或 `system`。",
        "在下载或发送任何东西之前，把设备的架构、CPython 版本和 libc，与指定的运行库或已发布的 wheel 比较。",
        (
            "查看设备的情况：`litefleet probe --limit NAME`。",
            "从 Paddle-Lite 的发布页下载适合该设备的发布包（`inference_lite_lib.armlinux.armv8.gcc.with_extra.tar.gz`），"
            "并指定它：`litefleet runtime add FILE`。",
            "或自行编译 Paddle-Lite：`./lite/tools/build_linux.sh --arch=armv8 --with_extra=ON`，并指定得到的文件夹："
            "`litefleet runtime add inference_lite_lib.armlinux.armv8`。",
            "如果设备上已经安装：`{aarch64: system}`。",
        ),
    ),
    "LF303": Zh(
        "架构不受支持",
        "Paddle-Lite 没有面向这种架构的 CPU 后端。",
        "把这台设备排除在本次部署之外（`--limit '!name'`）。",
        "架构由 `uname -m` 的结果和用户空间中解释器的字长得出；Paddle-Lite 的 CPU 后端只有 x86 和 ARM。",
        (
            "将其排除：`litefleet rollout --limit '!NAME'`。",
            "如果板子能运行 ARM 用户空间，请安装它。",
        ),
    ),
    "LF304": Zh(
        "numpy 2",
        "Paddle-Lite 的 Python 绑定早于 numpy 2：与它一起使用时，每个输入张量都会被填入垃圾值，而没有任何错误提示。",
        "与 Paddle-Lite 的 Python 包一起使用 numpy < 2。litefleet 自己在 C++ 库导出接口时直接调用它，此时 numpy 版本无关紧要。",
        "从元数据读取运行库会导入的 numpy 的版本，并在 Paddle-Lite 的库中查找其绑定支持 numpy 2 的标记。运行时，"
        "放进张量的内容必须能原样取回。",
        (
            "设备使用自带的 Paddle-Lite 时：`python3 -m pip install 'numpy<2'`。",
            "或由 litefleet 带去运行库：不写 `runtimes:`，或在其中指定一个 wheel；它直接调用其 C++ 库，或附带 numpy < 2。",
            "加以验证：`litefleet verify --limit NAME`。",
        ),
    ),
    "LF305": Zh(
        "numpy 往返不一致",
        "从张量中取回的不是放进去的内容，因此模型的所有输入都会是垃圾值。",
        "使用 numpy 与这次编译的 Paddle-Lite 相配的运行库（numpy < 2）。",
        "运行模型之前，把一组已知的数值放进输入张量，再读回来。",
        (
            "查看运行库带的是哪个 numpy：`litefleet probe --limit NAME`。",
            "在 `runtimes:` 下指定自带 numpy 的运行库：`{aarch64: {wheel: FILE, numpy: '<2'}}`。",
            "加以验证：`litefleet verify --limit NAME`。",
        ),
    ),
    "LF306": Zh(
        "缺少共享库",
        "这台设备上没有 Paddle-Lite 需要的某个共享库。",
        "安装它（Debian：libstdc++6、libgomp1、libgcc-s1；加速器的库来自其厂商，其文件夹须在 LD_LIBRARY_PATH 中），或指定自带它的运行库。",
        "从 lite.so 的 ELF 头读取它需要的库的名称，并在设备的库文件夹中查找。",
        (
            "Debian 及其同类：`sudo apt-get install libstdc++6 libgomp1 libgcc-s1`。",
            "Alpine 的 musl 不适用：见 `litefleet explain LF309`。",
            "手动询问加载器：`ldd lite.so | grep 'not found'`。",
        ),
    ),
    "LF307": Zh(
        "wheel 与 Python 版本不符",
        "二进制 wheel 只能用于编译它时所针对的 CPython 版本。",
        "为这个解释器指定一个 wheel，或指定导出 C++ 函数的构建（litefleet 可从任何解释器调用它），或在设备清单中用 `python:` 指定另一个解释器。",
        "把 wheel 的 CPython 标签（取自文件名或元数据）与设备的解释器比较。",
        (
            "如果设备上有相符的解释器，请使用它：在设备清单中写 `python: /usr/bin/python3.8`。",
            "或为现有的解释器编译 wheel：`./lite/tools/build_linux.sh --with_python=ON --python_version=3.11`，并"
            "在 `runtimes:` 下指定。",
            "查看 wheel：`litefleet doctor FILE.whl`。",
        ),
    ),
    "LF308": Zh(
        "运行库与机器架构不符",
        "运行库的二进制文件面向另一种 CPU 架构。",
        "指定为这台设备的架构编译的运行库。",
        "把 lite.so 的 ELF 头中的机器类型与设备的架构比较。",
        (
            "查看这个库：`litefleet doctor lite.so`。",
            "使用为此架构编译的库，并在 `runtimes:` 下指定。",
            "在 64 位内核上使用 32 位用户空间时，以用户空间为准：`getconf LONG_BIT` 输出 32。",
        ),
    ),
    "LF309": Zh(
        "libc 过旧",
        "运行库需要比这台设备更新的 glibc，或需要另一种 libc，而其加载器不在设备上。",
        "指定针对这台设备的 libc 编译的运行库。",
        "把 lite.so 要求的最新 GLIBC_ 和 GLIBCXX_ 符号版本，与设备的 glibc 和 libstdc++ 比较。",
        (
            "查看库需要什么：`litefleet doctor lite.so`；设备有什么：`litefleet probe --limit NAME`。",
            "在此设备自己的系统上，或在相同发行版本的容器中编译 Paddle-Lite，并在 `runtimes:` 下指定。",
            "或升级设备的系统。手动复制一个较新的 libc.so.6 会损坏系统。",
        ),
    ),
    "LF310": Zh(
        "缺少 CPU 特性",
        "Paddle-Lite 的内核用到这个 CPU 没有的指令（ARM 上的 NEON/VFPv4，x86 上的 AVX）；运行会因 SIGILL 终止。",
        "使用编译时不带这些指令的运行库，或排除这台设备。",
        "把 /proc/cpuinfo 中的标志，与已知 Paddle-Lite 内核会用到的指令比较：32 位 ARM 上的 NEON 和 VFPv4；x86 上"
        "已发布的 wheel 所用的指令。",
        (
            "在设备上查询：`grep -m1 -E '^(flags|Features)' /proc/cpuinfo`。",
            "在虚拟机中，请把宿主机的 CPU 直接提供给它（QEMU：`-cpu host`）。",
            "否则请在此设备上编译不带这些指令的 Paddle-Lite，或将其排除：`litefleet rollout --limit '!NAME'`。",
        ),
    ),
    "LF311": Zh(
        "内存不足",
        "模型需要的内存多于设备的可用内存；运行到一半就会被杀死。",
        "在设备上腾出内存，或使用更小的模型。",
        "根据形状估算文件中的张量在运行时占用的内存（量化的权重在加载时会展开），并与 MemAvailable 比较。",
        (
            "查看谁在占用内存：在设备上运行 `ps aux --sort=-rss | head`。",
            "结束不必运行的程序；设备可以慢一些时，也可增加交换空间：`sudo fallocate -l 512M /swapfile` 等等。",
            "使用更小的模型；量化权重只使文件变小，不减少内存占用。",
        ),
    ),
    "LF312": Zh(
        "磁盘已满",
        "agent 的根文件夹所在之处放不下要发送的内容。",
        "在设备上腾出空间，或在设备清单中设置另一个 `root:`。没有留下写了一半的内容。",
        "发送任何东西之前，把要发送的字节数与 agent 根文件夹所在之处的剩余空间比较；因空间不足而写入失败时，也会说明。",
        (
            "查看：在设备上运行 `df -h /var/lib/litefleet`。",
            "少保留一些发布：调低 `rollout.keep.releases`，或从 `rollout.keep.pinned` 中去掉一些。",
            "或把 agent 的文件夹放到别处：在设备清单中写 `root: /data/litefleet`。",
        ),
    ),
    "LF313": Zh(
        "根文件夹不可写",
        "无法写入 agent 的根文件夹（只读文件系统，或没有权限）。",
        "使其可写，或在设备清单中设置另一个 `root:`。",
        "agent 启动时创建其文件夹并写入内容；系统的回答就是这条发现。",
        (
            "查看：在设备上运行 `ls -ld /var/lib/litefleet; mount | grep ' / '`。",
            "把它交给登录用户：`sudo install -d -o USER /var/lib/litefleet`。",
            "或指定一个可写的文件夹：在设备清单中写 `root: ~/litefleet`。",
        ),
    ),
    "LF314": Zh(
        "架构与预期不符",
        "设备清单中预期的架构与设备报告的不同：弄错了板子，或在 64 位内核上使用 32 位用户空间。",
        "改正设备清单中的 `arch:`，或检查板子。",
        "把设备清单中的 `arch:` 与设备所报告的用户空间比较。",
        (
            "在设备上查询：`uname -m; getconf LONG_BIT`。",
            "改正设备清单中的 `arch:`，或将其去掉。",
            "如果弄错了板子，请检查该条目的主机和跳板机。",
        ),
    ),
    "LF315": Zh(
        "运行库无法导入",
        "在设备上无法加载 Paddle-Lite 的 Python 包、它的库，或它需要的某个库，或无法调用其 C++ 函数。",
        "请看最后的几行输出；在 `runtimes:` 下指定另一个运行库。出现 undefined symbol：这些库的版本不同。映射被拒绝：文件夹以 noexec 挂载，或系统拒绝可执行栈。",
        "在加载任何东西之前读取 lite.so 的 ELF 结构；运行时，在子进程中导入，并保留其错误信息。",
        (
            "查看这个包、发布包或库：`litefleet doctor PATH`。",
            "在设备上手动尝试：`python3 -c 'from paddlelite.lite import *'`。",
            "重新编译或下载，并在 `runtimes:` 下指定。",
        ),
    ),
    "LF316": Zh(
        "CPU 数量不一致",
        "/proc/cpuinfo 与 /sys 给出的 CPU 数量不同（容器中会这样）；ARM 上的 Paddle-Lite 可能在 get_cpu_arch 中失败。",
        "在容器之外运行，或把所有 CPU 都分配给容器。",
        "统计 /proc/cpuinfo 描述的 CPU 型号条目，并与 /sys/devices/system/cpu 下的 CPU 比较。",
        (
            "分别统计：`grep -c 'CPU part' /proc/cpuinfo; ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l`。",
            "在容器之外运行，或把所有 CPU 都分配给容器（Docker：不加 `--cpuset-cpus`）。",
            "较新的 Paddle-Lite 版本会检查边界：请为此设备使用这样的版本。",
        ),
    ),
    "LF317": Zh(
        "没有 numpy",
        "运行库中没有 numpy；输入以列表传入，较慢但结果正确。",
        "无需处理，或在运行库中加入 numpy < 2。",
        "运行库的 paddlelite 包旁边没有 numpy。",
        (
            "无需处理：列表可以使用，验证时比较的是同样的输出。",
            "若要更快：`runtimes: {aarch64: {wheel: FILE, numpy: '<2'}}`。",
        ),
    ),
    "LF318": Zh(
        "内存页大小不符",
        "库的各段按比此内核更小的页对齐；加载器会拒绝它（“ELF load command alignment not page-aligned”，“ELF "
        "load command address/offset not page-aligned”）。",
        "使用以 `-Wl,-z,max-page-size=65536` 链接的版本，或使用 4 KiB 页的内核（Raspberry Pi 5：在 config.txt 中"
        "写 `kernel=kernel8.img`）。",
        "把 lite.so 各可加载段的最小对齐，与内核的页大小（`getconf PAGESIZE`）比较。",
        (
            "两边分别查询：在设备上运行 `getconf PAGESIZE`，以及 `readelf -lW lite.so | grep LOAD`（最后一列）。",
            "用 `-Wl,-z,max-page-size=65536` 重新链接；旧的 patchelf 可能破坏了对齐：请使用更新的版本。",
            "或启动使用 4 KiB 页的内核（Raspberry Pi 5：在 config.txt 中写 `kernel=kernel8.img`）。",
        ),
    ),
    "LF319": Zh(
        "macOS 附带的 ._ 文件",
        "macOS 的打包程序在真正的文件旁边放了自己的 `._` 文件；会加载文件夹中所有文件的工具会因此出错。",
        "用 `COPYFILE_DISABLE=1 tar ...` 重新打包，或删除 `._*` 文件。",
        "文件夹、wheel 或清单中，真正的文件旁边有名称以 `._` 开头的文件。",
        (
            "删除它们：`find FOLDER -name '._*' -delete`。",
            "在 macOS 上重新打包：`COPYFILE_DISABLE=1 tar czf runtime.tgz runtime`。",
        ),
    ),
    "LF320": Zh(
        "运行库的种类",
        "Paddle-Lite 编译为精简版（只运行 .nb 文件）或完整版（还能读取源模型），可带或不带 extra 算子、fp16 和 "
        "OpenCL；.nb 用到什么，运行库就必须有什么。",
        "模型的验证若通过，则无需处理。",
        "不加载库，在其中查找完整版的接口和内核、fp16 内核以及 OpenCL。",
        (
            "验证若通过，则无需处理。",
            "要直接加载源模型，或使用精简版之外的算子，请使用带 extra 算子的完整版。",
        ),
    ),
    "LF321": Zh(
        "OpenCL 不可用",
        "OpenCL 在这里无法用于这个模型：没有驱动、不在加载器的搜索路径中、没有访问设备节点的权限，或驱动拒绝模型的某个 kernel、图像或缓冲区。",
        "只面向 CPU 转换（`targets: arm`）；或安装 GPU 厂商的驱动，并确认用户可以打开 /dev/mali0、/dev/kgsl-3d0 或 /dev/dri/*。",
        "找到了 OpenCL 库；以登录用户的权限逐个尝试已知的 GPU 设备节点。在日志中，由运行库自己关于 OpenCL 的文字得知。",
        (
            "查看：`ls -l /dev/mali0 /dev/kgsl-3d0 /dev/dri/*; clinfo | head`。",
            "把用户加入该节点的用户组：`sudo usermod -aG video,render USER`，然后重新登录。",
            "在容器中，请把该节点传进去：`--device /dev/mali0`。只有加载器（ocl-icd）而没有厂商的驱动是不够的。",
            "或面向 CPU 转换：从 `models.NAME.targets` 中去掉 `opencl`，然后 `litefleet convert`。",
        ),
    ),
    "LF322": Zh(
        "wheel 已损坏",
        "这个 wheel 或发布包不完整，或缺少构成 Paddle-Lite 包的文件。",
        "重新下载或编译，并将其 SHA-256 与下载页面上的比较。",
        "在限度内解开 wheel 或发布包，核对校验和，并查找 paddlelite 包或 C++ 库。",
        (
            "比较：把 `sha256sum FILE` 的结果与下载页面对照。",
            "重新下载 wheel：`pip download --no-deps paddlelite==2.13rc0`。",
            "再次查看：`litefleet doctor FILE`。",
        ),
    ),
    "LF323": Zh(
        "不是 Linux 的库",
        "这个库面向的操作系统（Windows、macOS 或 Android）与设备的不同。",
        "指定面向 Linux 和这台设备的 libc 的版本。",
        "库文件最初的字节表明是 PE（Windows）、Mach-O（macOS），或是需要 Android 库的 ELF。",
        (
            "查看这个库：`litefleet doctor FILE`。",
            "使用名称中有 armlinux 或 linux 的发行文件，而不是 android、ios 或 windows。",
        ),
    ),
    "LF324": Zh(
        "接口不存在",
        "程序调用了这个 Paddle-Lite 的 Python 接口所没有的内容：接口因版本而异，x86 与 ARM 也不同（较早的版本没有 from_numpy，2.10 没有 get_input_names，"
        "x86 上的 2.13 没有 set_threads，小体积的编译没有 CxxConfig）。",
        "调用之前用 hasattr 询问，或使用程序所针对的 Paddle-Lite；没有 from_numpy 时，用 resize 和 set_float_data 设置输入。",
        "日志中 Python 自己关于模块 `paddlelite.lite` 中某个类的消息。",
        (
            "查看版本：`python -c 'import paddlelite.lite as l; print(l.create_paddle_predictor.__doc__)'`，或 `pip show paddlelite`。",
            "调用之前先询问：`hasattr(predictor, 'get_input_names')`；名称也写在文件里：`litefleet inspect FILE.nb`。",
        ),
    ),
    "LF325": Zh(
        "没有安装 numpy",
        "程序使用 numpy，而运行它的解释器没有 numpy（litefleet 自己的 agent 没有它也能工作）。",
        "为该解释器安装低于 2 的版本：`python3 -m pip install 'numpy<2'`。",
        "日志中 Python 自己的消息：导入 numpy，而它不存在。",
        (
            "查看由哪个解释器运行程序：以启动它的那个名字执行 `python3 -c 'import sys; print(sys.executable)'`。",
            "为它安装低于 2 的 numpy（原因见 LF304）：`python3 -m pip install 'numpy<2'`；在 Debian 上 `apt-get install python3-numpy`。",
        ),
    ),
    "LF326": Zh(
        "无法带去 Python",
        "要带到这台设备上的 Python 无法存放在那里，或无法启动。",
        "在设备清单中用 `root:` 指定一个该用户可写、且所在文件系统允许运行程序的文件夹；或在设备上安装 python3。",
        "一段纯 sh 脚本在发送任何内容之前先试：文件夹是否可写、能否运行程序；传输之后比较 SHA-256，并启动一次这个 Python，然后才给它正式的名字。",
        (
            "noexec：在设备上运行 `mount | grep noexec`；在设备清单中用 `root:` 指定另一个文件系统上的文件夹。",
            "只读：用 `root:` 指定一个可写的文件夹，或在首次连接时让系统可写。",
            "无法启动：文字中有加载器自己的话和内核版本。glibc 需要 Linux 3.2 或更高版本；请在 litefleet.yaml 中用 "
            "`python: {own: {ARCH: PATH}}` 指定一个为这块板子构建的 Python。",
            "没有 tar：安装一个（busybox 的即可）。",
        ),
    ),
    "LF327": Zh(
        "根目录禁止执行",
        "代理的根目录在以 noexec 挂载的文件系统上：内核不会从那里加载运行时的任何库。",
        "请在设备清单中把 `root:` 设为另一个文件系统上的目录，或用 exec 重新挂载。",
        "代理读取其根目录的挂载标志；运行时的库会从那里加载。",
        (
            "查看挂载：在设备上运行 `findmnt -T ~/.local/share/litefleet`。",
            "在设备清单中指定别处的目录：`root: /var/lib/litefleet`。",
            "或重新挂载：`mount -o remount,exec /home`（以及 /etc/fstab）。",
        ),
    ),
}
