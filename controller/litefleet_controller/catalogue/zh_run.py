"""Chinese articles: what the model did when it ran."""

from __future__ import annotations

from collections.abc import Mapping

from .entry import Zh

ZH_RUN: Mapping[str, Zh] = {
    "LF401": Zh(
        "运行时崩溃",
        "运行模型的进程被信号终止。litefleet 让它在子进程中运行，因此不会影响到别的东西。",
        "检查所加载的文件：`litefleet doctor model.nb --for aarch64`（或该设备上 `uname -m` 的输出）。SIGSEGV 多半是文件面向另一种机器，SIGILL 是缺少 CPU 特性。",
        "模型在子进程中运行；读取终止它的信号，以及它在 stderr 上最后的几行输出。",
        (
            "先把文件与机器对照：`litefleet inspect model.nb --for aarch64`。",
            "也把运行库与机器对照：`litefleet probe --limit NAME`。",
            "让 litefleet 解释它最后的输出：`your-program 2>&1 | litefleet doctor --log -`。",
            "如果文件和运行库都合适，请设置另一个 `toolchain.paddlelite` 并重新转换：`litefleet convert`。",
        ),
    ),
    "LF402": Zh(
        "运行库中止",
        "Paddle-Lite 或其下的 C 库在一项没有通过的检查处停止了进程。",
        "请看它最后的几行输出：其中写明了不符的算子或形状。若提到堆或栈（double free、invalid pointer、stack smashing），则此前有内容写到了自己的内存之外：请比较输入与模型的大小，并用 valgrind 运行该程序。",
        "子进程以 SIGABRT 结束，或其最后的输出是 Paddle-Lite 某项未通过的检查。",
        (
            "看最后一行：其中写明了算子、Paddle-Lite 源码中的文件，以及不相符的两个值。",
            "让 litefleet 解释整份日志：`litefleet doctor --log crash.log`。",
            "把传入的内容与模型要求的比较：`litefleet inspect model.nb`。",
        ),
    ),
    "LF403": Zh(
        "输出有偏差",
        "模型运行了，但其输出与参考输出的差异超过了容差。",
        "请比较内核和精度：可能是某种 CPU 型号上的内核缺陷、文件弄错，或容差对这种精度来说太严。",
        "把每组参考数据的每个输出与参考输出比较：形状、最大差异、平均差异、余弦，以及最大值所在的位置，以文件精度"
        "对应的容差为准。",
        (
            "查看各项数值：`litefleet verify --limit NAME --json`。",
            "查看是否只有某一种 CPU 型号有偏差：`litefleet status`。",
            "转换时不用 fp16 和量化，再验证：`litefleet convert`，然后 `litefleet verify --limit NAME`。",
            "如果差异正是这种精度所致，请放宽 `models.NAME.tolerance`。",
        ),
    ),
    "LF404": Zh(
        "输出含 NaN",
        "输出中有 NaN 或 Inf：在 x86 上使用 int8 文件、fp16 溢出、输入为垃圾值，或内核有缺陷。",
        "为这台设备转换时不要量化，也不要使用 fp16。",
        "每个输出的每个元素都必须是有限值。转换为 fp16 之前，若有权重超出其范围（65504），会给出提示。",
        (
            "查看是否在 x86 上用了量化，以及是否用了 fp16：`litefleet inspect model.nb --for x86_64`。",
            "在 `models.NAME.options` 下为此架构去掉它们，然后 `litefleet convert`。",
            "再次验证：`litefleet verify --limit NAME`。如果在 fp32 下仍为 NaN，请试用另一个 `toolchain.paddlelite`。",
        ),
    ),
    "LF405": Zh(
        "输出恒定",
        "不同的输入给出相同的输出，说明模型没有用到输入：内核被跳过了。",
        "为这台设备的架构转换模型，并用 `litefleet inspect FILE --for ARCH` 检查。",
        "两组输入不同、参考输出也不同的参考数据，得到了相同的字节。",
        (
            "把文件与机器对照：`litefleet inspect model.nb --for x86_64`。",
            "为此架构转换：`litefleet convert --for x86_64`。",
            "在您自己的程序中检查 numpy 的版本：必须低于 2（`litefleet explain LF304`）。",
        ),
    ),
    "LF406": Zh(
        "输出不稳定",
        "同样的输入在各次运行中给出不同的输出：输出来自从未写入过的内存。",
        "为这台设备的架构转换模型；在 ARM 上可试用一个线程。",
        "同样的输入运行多次，并把各次的输出相互比较。",
        (
            "把文件与机器对照：`litefleet inspect model.nb --for aarch64`。",
            "在您自己的程序中，请在下一次运行之前复制输出：`numpy()` 给出的是下一次 `run()` 会改写的内存。",
            "在 ARM 上可试用一个线程：创建 predictor 之前调用 `config.set_threads(1)`。",
        ),
    ),
    "LF407": Zh(
        "输出形状不符",
        "某个输出的形状或类型与参考输出不同。",
        "用生成这个 .nb 的同一源模型生成参考输出。",
        "在比较任何数值之前，先把每个输出的形状和元素类型与参考输出比较。",
        (
            "用同一个模型生成参考输出：不写 `models.NAME.golden.files`，litefleet 就会从 `source:` 生成。",
            "查看文件给出什么：`litefleet inspect model.nb`。",
        ),
    ),
    "LF408": Zh(
        "超过时限",
        "模型没有在时限内完成，其进程已被结束。",
        "提高 verify.time_limit_s，或查看设备还在做什么。",
        "到 `verify.time_limit_s` 时子进程仍在运行，因而被结束。",
        (
            "在 litefleet.yaml 中提高 `verify.time_limit_s`；在 GPU 上首次运行时会编译内核，可能需要几分钟。",
            "模型较大时，请调低 `verify.runs` 和 `verify.warmup`。",
            "查看设备还在做什么：`ssh USER@HOST uptime`。",
        ),
    ),
    "LF409": Zh(
        "延迟超限",
        "测得的延迟高于配置的上限。",
        "提高上限，或使用更快的设备或更小的模型。",
        "在设备上测量预热之后各次运行的时间；把 p50、p90 和 p99 与 `models.NAME.gates` 比较。",
        (
            "在设备空闲时重新测量：`litefleet verify --limit NAME`。",
            "查看温度和频率："
            "`cat /sys/class/thermal/thermal_zone*/temp /sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq`。",
            "提高 `models.NAME.gates` 下的上限，或使用更小的模型。",
        ),
    ),
    "LF410": Zh(
        "内存超限",
        "测得的内存峰值高于配置的上限。",
        "提高上限，或使用更小的模型。",
        "把模型进程常驻内存的最大值与 `models.NAME.gates.peak_rss_mb` 比较。",
        (
            "查看各项数值：`litefleet verify --limit NAME --json`。",
            "提高 `models.NAME.gates.peak_rss_mb`，或使用更小的模型。量化的权重在加载时会展开，因此没有帮助。",
        ),
    ),
    "LF411": Zh(
        "内存耗尽",
        "进程被杀死，多半是内核因内存不足所为；或者无法分配内存。",
        "在设备上腾出内存，或使用更小的模型。",
        "子进程因达到内存上限或因 SIGKILL 被杀死，或其最后的输出说明无法得到内存。",
        (
            "询问内核：在设备上运行 `dmesg | grep -i 'killed process'`。",
            "先查看文件：其中的大小若无意义，就会要求无意义的内存量（`litefleet inspect model.nb`），其他版本的文"
            "件也可能如此（`litefleet explain LF108`）。",
            "在设备上腾出内存，或使用更小的模型。",
        ),
    ),
    "LF412": Zh(
        "参考数据与模型不符",
        "参考数据的输入或输出，与模型的名称、形状或类型不符。",
        "用这个模型重新生成参考数据。",
        "在加载模型之前，把参考数据文件中的名称、形状、类型与 .nb 所写的输入和输出比较，并检查数值是否有限。",
        (
            "查看模型要求什么：`litefleet inspect model.nb`。",
            "由 litefleet 生成：不写 `models.NAME.golden.files`，并用 `models.NAME.inputs` 给出未固定的尺寸。",
            "您自己的 .npz：每个输入和输出各一个数组，以其名称命名，类型与模型相同。",
        ),
    ),
    "LF413": Zh(
        "延迟变差",
        "在同一台设备上，之前的发布更快：选用了别的内核，模型变大了，或者设备繁忙或过热。",
        "`litefleet retry --failed` 会重新测量；如果新的速度符合预期，请提高 rollout.gates.regression.latency 并"
        "重新部署。",
        "把最快的一次运行与同一台设备上之前的发布比较，看是否超出 `rollout.gates.regression.latency`。",
        (
            "重新测量：`litefleet retry --failed`。",
            "比较两个文件的内核：`litefleet inspect old.nb`、`litefleet inspect new.nb`。",
            "如果新的速度符合预期，请提高 `rollout.gates.regression.latency` 并重新运行 `litefleet rollout`。",
        ),
    ),
    "LF414": Zh(
        "内存占用变大",
        "在同一台设备上，之前的发布占用的内存较少。",
        "`litefleet retry --failed` 会重新测量；如果增长符合预期，请提高 rollout.gates.regression.memory 并重新部署。",
        "把内存峰值与同一台设备上之前的发布比较，看是否超出 `rollout.gates.regression.memory`。",
        (
            "重新测量：`litefleet retry --failed`。",
            "如果增长符合预期，请提高 `rollout.gates.regression.memory` 并重新运行 `litefleet rollout`。",
        ),
    ),
    "LF415": Zh(
        "多线程",
        "predictor 不是线程安全的，而且有些内核在多线程下会崩溃。",
        "每个进程一个 predictor（litefleet 就是这样做的）；若仍然发生，请只用一个线程。",
        "日志或崩溃报告中涉及多个线程，或多个线程共用一个 predictor。",
        (
            "在主线程上为每个线程各创建一个 predictor，且只在该线程中使用；或每个 predictor 使用一个进程。",
            "试用一个线程：创建 predictor 之前调用 `config.set_threads(1)`。",
            "在单独的进程中只验证这个模型：`litefleet verify --limit NAME`。",
        ),
    ),
    "LF416": Zh(
        "输入未设置",
        "在 run() 之前，模型的某个输入没有设置，因此被形状检查或空指针中止。",
        "按 `litefleet inspect FILE` 列出的顺序，设置其中的每一个输入。",
        "日志中未通过的检查，是空张量会引起的那一种。litefleet 自己运行时，按文件所写设置全部输入。",
        (
            "列出输入：`litefleet inspect model.nb`；检测模型最多有三个（image、im_shape、scale_factor）。",
            "逐个设置：按列出的顺序取 `predictor.get_input(i)`，用 `resize` 设置大小并填入数据，然后 `run()`。",
            "请使用输入的准确名称：名称不存在时，`get_input_by_name` 返回一个空对象。",
        ),
    ),
    "LF417": Zh(
        "输入形状不符",
        "某个输入的维度与模型所要求的不同。",
        "把输入调整为 `litefleet inspect FILE` 显示的维度；`?` 表示可为任意大小。",
        "日志中未通过的检查比较的是维度；参考数据自身的形状在运行之前已检查（LF412）。",
        (
            "查看模型要求的维度：`litefleet inspect model.nb`；`?` 表示可为任意大小。",
            "在 `from_numpy` 之前把图像调整为这些维度，顺序为 N、C、H、W。",
            "通道数错误可能给出看似可信的错误结果而不报错：请用 `litefleet verify` 验证。",
        ),
    ),
    "LF418": Zh(
        "输入类型不符",
        "某个输入的类型与模型的不同（把 uint8 或 float64 传给 float32）：Paddle-Lite 最多给出警告，然后输出垃圾值。",
        "先转换数组：`x.astype('float32')`；`litefleet inspect FILE` 会写明类型。",
        "日志中有 Paddle-Lite 自己的警告；litefleet 运行时不做任何类型转换，事先检查参考数据的类型（LF412）。",
        (
            "先转换：`x = x.astype('float32')`；在 C++ 中，向 `mutable_data<float>()` 填入数据。",
            "查看类型：`litefleet inspect model.nb`。",
        ),
    ),
    "LF420": Zh(
        "输入尺寸改变",
        "同一个 predictor 运行第二种输入尺寸（另一个高或宽）时，可能不声不响地给出错误结果，或因堆损坏而中止；只改变批大小则无害。litefleet 为每种尺寸重新加载模型。",
        "把输入填充到同一尺寸，或为每种尺寸各保留一个 predictor。",
        "各参考用例的输入尺寸在第一维之外不同；验证时在它们之间重新加载模型。",
        (
            "把每个输入缩放或填充到 `models.NAME.inputs` 所写的那一种尺寸。",
            "需要多种尺寸时，为每种尺寸各保留一个 predictor。",
            "不要改变已用另一个高或宽运行过的 predictor 的输入尺寸。",
        ),
    ),
    "LF422": Zh(
        "输入被拒绝",
        "输入与设备所运行的模型不符（名称、类型、大小、NaN）：Paddle-Lite 会崩溃或给出无意义的结果，因此没有运行任何内容。",
        "用 `litefleet inspect` 查看该文件并加以比较；如果设备运行的发布与 litefleet.yaml 不同，请先部署。",
        "在 Paddle-Lite 看到请求之前，把每个请求与设备上 .nb 文件声明的输入相比较。",
        (
            "查看文件所需的输入：`litefleet inspect FILE.nb`。",
            "查看设备运行的发布：`litefleet status`。",
        ),
    ),
    "LF419": Zh(
        "内存持续增长",
        "进程每运行一次就多占用一些内存：OpenCL 内存泄漏，或每次请求都新建 predictor。",
        "只保留一个 predictor；更新 Paddle-Lite；使用 OpenCL 时，每运行若干次就重启工作进程。",
        "基准测试发现一个进程的常驻内存在后一半运行中持续增长；或者日志中先后出现的常驻内存值不断增长。",
        (
            "测得更久：`litefleet bench --seconds 3600` 给出每 1000 次运行和每小时的增长。",
            "只创建一次 predictor，用于所有请求。",
            "使用 OpenCL 时，每运行若干次就重启工作进程，并使用更新的 Paddle-Lite。",
        ),
    ),
    "LF421": Zh(
        "降频",
        "模型运行期间 CPU 变慢了：过热，或供电不足，因此内核或主板降低了时钟频率。此前测得的延迟不代表现场的日常情况。",
        "改善散热或更换更强的电源；否则按稳定之后的延迟来规划：`litefleet bench --seconds 1800` 会显示出来。",
        "基准测试发现，与前四分之一时间相比，时钟频率下降、p50 上升，且各达十分之一以上。",
        (
            "用 `litefleet bench --seconds 1800 --html report.html` 的图查看温度和时钟频率随时间的变化。",
            "改善散热，并检查电源：供电不足时主板也会降频。",
            "如果无法消除，就把降频之后的 p90 用于 `models.NAME.gates`，或者换用更小的模型。",
        ),
    ),
    "LF423": Zh(
        "运行出错",
        "Paddle-Lite 在加载模型、设置输入或运行时抛出错误，或以错误代码结束了进程：它不支持该模型或这些输入，或者其 Python 绑定有问题。",
        "阅读消息，然后单独运行同一个文件（`litefleet infer`），并用另一个版本转换（`litefleet convert --try VERSION`）。",
        "运行模型的进程把 Paddle-Lite 的绑定抛出的内容，或其进程结束时的错误代码原样交出。",
        (
            "单独运行同样的输入：`litefleet infer FILE.npz --limit NAME`。",
            "同时更换转换器和运行时的版本：`litefleet convert --try VERSION`。",
            "查看进程输出的末尾：`litefleet verify --limit NAME --json`。",
        ),
    ),
    "LF430": Zh(
        "精度下降",
        "在 `golden.dataset` 的有标注数据上，设备的得分低于 `golden.min`，或比参考引擎低得超过 `golden.drop` 所允许的幅度。",
        "用 `litefleet evaluate --json` 查看哪些类别下降；然后使用更高的精度、更好的量化方法，或调整限值。",
        "litefleet 在操作者的机器上用参考引擎、在设备上用该发布分别运行数据集，并把得分与 `golden.min` 和 `golden.drop` 相比较。",
        (
            "查看下降最多的类别：`litefleet evaluate --limit NAME`。",
            "在 `models.NAME.options` 中去掉 fp16 和量化再转换，然后运行 `litefleet evaluate --limit NAME`。",
            "用自己的图片做训练后量化（PaddleSlim），损失小于只量化权重。",
            "如果这种损失可以接受，就调高 `golden.drop` 或调低 `golden.min`。",
        ),
    ),
    "LF431": Zh(
        "数据集说明力不足",
        "有标注的数据说明不了多少：参考引擎自己在上面的得分就很低，或者单个样本的分量超过了允许的下降幅度。",
        "检查 `preprocess:`、标注和类别的顺序；使用更多样本，或放宽 `golden.drop`。",
        "litefleet 把参考引擎自己的得分与 `golden.min`、与随机猜测相比较，并把单个样本的分量与 `golden.drop` 相比较。",
        (
            "把 `preprocess:` 与模型训练时的设置相比较：颜色、mean、std、尺寸（`litefleet docs infer`）。",
            "检查类别的编号：文件夹按名称的顺序编号，除非 `classes.txt` 给出另一种顺序。",
            "使用更多样本：有 1000 个样本时，每个样本占 0.001。",
        ),
    ),
    "LF432": Zh(
        "参考引擎失败",
        "操作者机器上的参考引擎（PaddlePaddle，或 x86 的 Paddle-Lite）无法用参考数据的输入运行源模型，因此没有可与设备比较的结果。",
        "检查源模型和 `inputs:`（尺寸、编号的范围），或给出参考数据文件（`golden: {files: [a.npz, b.npz]}`）。",
        "litefleet 在为该模型联系任何设备之前，在受限的进程中用参考引擎运行源模型；引擎报错结束、崩溃，或没有及时完成。",
        (
            "单独查看错误：`litefleet convert -m NAME`。",
            "写明模型接受的尺寸和范围，`inputs: {ids: {range: [0, 18000]}}`（docs/configuration.zh.md），或给出自己的文件，`golden: {inputs: [a.npz]}`。",
            "在别处算出结果并给出：`golden: {files: [a.npz, b.npz]}`。",
        ),
    ),
    "LF425": Zh(
        "参考数据较弱",
        "该参考数据只能把正确的模型与一部分错误的模型区分开：各用例的结果几乎没有差别，或者它会接受受损的权重。",
        "使用现场的输入（`golden: {files: [a.npz, b.npz]}`）或更多用例（`golden: {cases: N}`）。",
        "制作参考数据时，参考引擎用以已知方式受损的权重再次运行（某一层乘以 1.01、1 % 噪声、舍入到 8 位、交换两个类别）；并按设备所用的比较方式，"
        "把各用例互相比较，再与常数结果和打乱的结果比较。",
        (
            "查看每个输出如何比较：`litefleet plan` 会写明比较方式和理由。",
            "使用结果互不相同的输入：`golden: {files: [cat.npz, dog.npz]}`。",
            "收紧某个输出的比较：`outputs: {NAME: {compare: topk, score: 0.001}}`。",
        ),
    ),
    "LF426": Zh(
        "用例几乎不能证明什么",
        "对该用例，参考引擎和模型都没有找到任何东西，因此没有可比较的内容。",
        "使用模型能找到东西的用例（`golden: {files: [a.npz, b.npz]}`）。",
        "参考数据的输出与设备的输出都为空，或者只含处于检测器自身阈值处的行。",
        (
            "检查参考数据的输入：随机数对检测器来说什么也不是。",
            "使用模型能从中找到东西的图片：`golden: {files: [a.npz, b.npz]}`。",
        ),
    ),
}
