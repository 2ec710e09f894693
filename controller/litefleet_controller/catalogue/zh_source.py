"""Chinese articles: the source model and its conversion."""

from __future__ import annotations

from collections.abc import Mapping

from .zh_entry import Zh

__all__ = ["ZH_SOURCE"]

ZH_SOURCE: Mapping[str, Zh] = {
    "LF201": Zh(
        "找不到源模型",
        "模型的程序文件或参数文件不存在，或为空。",
        "请给出含有 inference.pdmodel 和 inference.pdiparams 的文件夹，或分别指明两个文件。",
    ),
    "LF202": Zh(
        "源模型为 PIR 格式",
        "PaddlePaddle 3 默认保存为 PIR 格式（inference.json），Paddle-Lite 的转换器无法读取。",
        "设置 FLAGS_enable_pir_api=0 重新导出，得到 inference.pdmodel。",
    ),
    "LF203": Zh(
        "参数文件不匹配",
        "参数文件是别的东西，或属于另一个模型：其中的张量与程序不一致。",
        "请给出与这个 .pdmodel 一起保存的 .pdiparams。",
    ),
    "LF204": Zh(
        "PaddlePaddle 版本较新",
        "保存模型的 PaddlePaddle 比这个转换器新；转换器不认识的属性可能缺失或被忽略。",
        "用更新的 Paddle-Lite 转换，或用较旧的 PaddlePaddle 导出；以与参考输出的比较为准。",
    ),
    "LF205": Zh(
        "转换失败",
        "转换器停止了：遇到不支持的算子、属性或文件时，它会中止或段错误。",
        "请看它最后的几行输出；换一个 Paddle-Lite 版本（toolchain.paddlelite），或简化模型。",
    ),
    "LF206": Zh(
        "算子不受支持",
        "对于这个目标，这个 Paddle-Lite 版本没有某些算子的内核。",
        "用更新的 Paddle-Lite 版本转换（toolchain.paddlelite）。",
    ),
    "LF207": Zh(
        "源文件不是程序",
        "模型文件不是 PaddlePaddle 的程序（program）。",
        "请给出 PaddlePaddle 保存的 inference.pdmodel（或 __model__）文件。",
    ),
    "LF208": Zh(
        "残留的量化算子",
        "导出的模型中仍有量化训练为统计数值范围而插入的算子；Paddle-Lite 没有它们的内核。",
        "用量化工具自己的保存函数重新导出模型，它会去掉这些算子。",
    ),
    "LF209": Zh(
        "已知会使转换器崩溃",
        "已知 Paddle-Lite 的转换器会在这种形式的模型上崩溃（例如一维卷积）。",
        "可以尝试转换；litefleet 在子进程中运行转换器。如果崩溃，请在 toolchain.paddlelite 中指定另一个版本，或把"
        "该算子改写为二维形式。",
    ),
    "LF210": Zh(
        "其他框架的格式",
        "文件是其他框架或其他推理引擎的模型；Paddle-Lite 只转换 PaddlePaddle 的格式。",
        "先转换为 PaddlePaddle 格式（X2Paddle 支持 ONNX、Caffe 和 TensorFlow），再给出含有 inference.pdmodel 和 "
        "inference.pdiparams 的文件夹。",
    ),
    "LF211": Zh(
        "另一版本可以转换",
        "配置的 Paddle-Lite 无法转换这个模型；另一个版本可以，其文件经过同样的检查。",
        "在 toolchain.paddlelite 中指定该版本，或保留 toolchain.also，并确认设备的运行库接受它（LF108）。",
    ),
}
