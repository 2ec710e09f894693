"""Chinese articles: the source model and its conversion."""

from __future__ import annotations

from collections.abc import Mapping

from .entry import Zh

ZH_SOURCE: Mapping[str, Zh] = {
    "LF201": Zh(
        "找不到源模型",
        "模型的程序文件或参数文件不存在，或为空。",
        "请给出含有 inference.pdmodel 和 inference.pdiparams 的文件夹，或分别指明两个文件。",
        "在运行转换器之前，先查看 `source:` 所指的文件夹或文件。",
        (
            "列出其中的内容：`ls -l models/cls`；inference.pdmodel 和 inference.pdiparams 的大小都不能为 0。",
            "两个文件都写明时，可以用其他名称：在 litefleet.yaml 中写 `source: {model: FILE, params: FILE}`。",
            "检查：`litefleet doctor models/cls`。",
        ),
    ),
    "LF202": Zh(
        "源模型为 PIR 格式",
        "PaddlePaddle 3 默认保存为 PIR 格式（inference.json），Paddle-Lite 的转换器无法读取。",
        "用旧格式重新导出：`export FLAGS_enable_pir_api=0`，然后运行同一条导出命令；文件夹中就会有 inference.pdmodel。",
        "文件夹中的模型文件或所给的文件，是标明为 PIR 的 JSON。",
        (
            "用旧格式重新导出：`export FLAGS_enable_pir_api=0`，然后运行同一个导出脚本。",
            "结果中有 inference.pdmodel 和 inference.pdiparams；两者都要。",
            "检查：`litefleet doctor models/cls`。",
        ),
    ),
    "LF203": Zh(
        "参数文件不匹配",
        "参数文件是别的东西，或属于另一个模型：其中的张量与程序不一致。",
        "请给出与这个 .pdmodel 一起保存的 .pdiparams。",
        "按顺序把参数文件中的每个张量，与程序声明的类型和维度比较。",
        (
            "两个文件要取自同一次导出；不要把一次导出的 .pdmodel 与另一次的 .pdiparams 混用。",
            ".pdparams 文件（训练的检查点）不是 .pdiparams 文件：请为推理导出模型。",
            "手工使用 opt 时，合并保存（combined）的模型需要 `--model_file` 和 `--param_file`，而不是 `--model_dir`。",
        ),
    ),
    "LF204": Zh(
        "PaddlePaddle 版本较新",
        "保存模型的 PaddlePaddle 比这个转换器新：较新的版本会省去转换器需要的属性和输出，或增加一些被它忽略的。",
        "试用另一个版本（`litefleet convert --try VERSION`），或用较旧的 PaddlePaddle 导出；以与参考输出的比较为准。",
        "查看算子是否缺少较新的 PaddlePaddle 会省去、而这个转换器需要的属性和输出；并把写出程序的版本，与该发行版"
        "本已知的版本比较。",
        (
            "试一试：`litefleet convert`。如果能转换且验证通过，则无需处理。",
            "如果中途停止，请设置更新的 `toolchain.paddlelite`，或用较旧的 PaddlePaddle 导出模型。",
        ),
    ),
    "LF205": Zh(
        "转换失败",
        "转换器停止了：遇到不支持的算子、属性或文件时，它会中止或段错误。",
        "请看它最后的几行输出；换一个 Paddle-Lite 版本（toolchain.paddlelite），或简化模型。",
        "转换器在子进程中运行；读取其退出码、信号和最后的几行输出。",
        (
            "查看模型中有什么会使转换器出错：`litefleet doctor models/NAME`。",
            "阅读转换器最后的几行输出；其中写明了算子或属性。",
            "在 `toolchain.paddlelite` 中设置另一个版本，再次运行 `litefleet convert`。",
        ),
    ),
    "LF206": Zh(
        "算子不受支持",
        "对于这个目标，这个 Paddle-Lite 版本没有某些算子的内核。",
        "用具有这些算子的 Paddle-Lite 版本转换（toolchain.paddlelite，或 `litefleet convert --try VERSION`），或"
        "改写模型，不使用这些算子。",
        "把程序的算子，与这个 Paddle-Lite 版本面向该目标所具有的算子比较；同时读取转换器自己的结论。",
        (
            "查看是哪些算子、哪些目标：`litefleet doctor models/NAME --for x86_64`。",
            "设置更新的 `toolchain.paddlelite`，然后 `litefleet convert`。",
            "含有 `*_grad` 或 `adam` 的模型是为训练保存的：请为推理重新导出。",
        ),
    ),
    "LF207": Zh(
        "源文件不是程序",
        "模型文件不是 PaddlePaddle 的程序（program）。",
        "请给出 PaddlePaddle 保存的 inference.pdmodel（或 __model__）文件。",
        "按 PaddlePaddle 保存的 Protocol Buffers 格式读取文件；它不是这种格式，或没有算子、输入或输出。",
        (
            "查看文件到底是什么：`litefleet doctor FILE`。",
            "Git LFS 指针是三行文字：请用 `git lfs pull` 取得真正的文件。",
            "为推理保存模型：用 `paddle.jit.save`，或模型库的导出脚本。",
        ),
    ),
    "LF208": Zh(
        "残留的量化算子",
        "导出的模型中仍有量化训练为统计数值范围而插入的算子；Paddle-Lite 没有它们的内核。",
        "用量化工具自己的保存函数重新导出模型，它会去掉这些算子。",
        "在程序中查找量化训练为统计数值范围而插入的算子。",
        (
            "用量化工具自己的函数导出：PaddleSlim 中的 `quanter.save_quantized_model(...)`。",
            "然后再查看：`litefleet doctor models/NAME`。",
        ),
    ),
    "LF209": Zh(
        "已知会使转换器崩溃",
        "已知 Paddle-Lite 的转换器会在这种形式的模型上崩溃：面向 ARM 时，有一个 pass 会读取 1 x 1 卷积的卷积核，"
        "而它不是保存的参数（核大小为 1 的一维卷积）。",
        "把该层改写为二维形式（对 x.unsqueeze(2) 使用核大小为 1 的 nn.Conv2D）并重新导出；或用 "
        "`litefleet convert --try VERSION` 试用另一个版本。",
        "程序中含有某种形式的算子，已知所配置的转换器会在其上崩溃：面向 ARM 时，是卷积核在程序中计算得出的 1 x 1 "
        "卷积；核大小为 1 的 `nn.Conv1D` 就是这样保存的。",
        (
            "试一试：`litefleet convert`；转换器在子进程中运行，崩溃也不会造成损失。",
            "如果崩溃，请设置另一个 `toolchain.paddlelite`。",
            "或使用二维形式：对输入做 `unsqueeze`，用核高为 1 的 `Conv2D`，再对输出做 `squeeze`；然后重新导出。",
        ),
    ),
    "LF210": Zh(
        "其他框架的格式",
        "文件是其他框架或其他推理引擎的模型；Paddle-Lite 只转换 PaddlePaddle 的格式。",
        "先转换为 PaddlePaddle 格式（X2Paddle 支持 ONNX、Caffe 和 TensorFlow），再给出含有 inference.pdmodel 和 "
        "inference.pdiparams 的文件夹。",
        "文件最初的字节（字节看不出时则看文件名）属于另一个框架的格式。",
        (
            "转换为 PaddlePaddle 格式：`pip install x2paddle`，"
            "`x2paddle --framework=onnx --model=model.onnx --save_dir=pd_model`。",
            "在 litefleet.yaml 中把文件夹 pd_model/inference_model 写为 `source:`。",
            "检查：`litefleet doctor pd_model/inference_model`。",
        ),
    ),
    "LF211": Zh(
        "另一版本可以转换",
        "配置的 Paddle-Lite 无法转换这个模型；另一个版本可以，其文件经过同样的检查。",
        "在 toolchain.paddlelite 中指定该版本，或保留 toolchain.also，并确认设备的运行库接受它（LF108）。",
        "配置的版本失败之后，依次尝试 `toolchain.also` 下的各版本；采用第一个通过所有检查的文件。",
        (
            "在 `toolchain.paddlelite` 中指定该版本，这样第一次尝试就会成功。",
            "确认设备的运行库接受该文件：`litefleet verify --limit NAME`。",
        ),
    ),
    "LF212": Zh(
        "训练用的程序",
        "程序是按训练时的样子保存的，含有梯度和优化器，Paddle-Lite 没有它们的内核。",
        "请导出用于推理的模型：`net.eval()` 之后 `paddle.jit.save(net, ...)`，`paddle.static.save_inference_model`，或 PaddleOCR、PaddleDetection 等的 `export_model.py`。",
        "读取程序的算子：梯度（`..._grad`）和优化器（`adam`、`momentum` 等）只在训练中出现。",
        (
            "导出用于推理的模型：在 PaddleOCR 中 `python tools/export_model.py -c CONFIG -o Global.pretrained_model=WEIGHTS`。",
            "然后再查看一次：`litefleet doctor models/NAME`。",
        ),
    ),
    "LF213": Zh(
        "已知会使运行库中止",
        "Paddle-Lite 会在这种形式的模型第一次运行时结束：它没有无维度的常量（形状 []），没有 float64，只有少数类型转换，也不能对未指明的维度求和。",
        "按发现中的说明修改导出方式，然后重新导出。",
        "程序创建了形状为 [] 的张量（`fill_constant`），接受 float64 输入，在内核没有的类型之间转换，对全部维度求和（`x.sum()`），"
        "或者在 x86 上对和、差、积取 `abs`；含有其中每一种的模型都用 2.13rc0 和 2.12 转换并运行过。",
        (
            "形状 []：用 PaddlePaddle 2.4 或更早的版本导出，其中标量的形状是 [1]。",
            "或改写该层：用 `paddle.full([1], value)` 代替 Python 数字，用固定长度的循环，用 `paddle.where` 代替 if/else。",
            "float64：用 `InputSpec(shape, 'float32')` 导出，模型内部也用 float32。",
            "`x.sum()`：写明维度，`x.sum(axis=[0, 1])`；x86 上的 `abs`：用 `paddle.maximum(y, -y)`。",
            "检查：`litefleet doctor FOLDER`。",
        ),
    ),
}
