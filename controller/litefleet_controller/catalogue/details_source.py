"""Details: the source model and its conversion."""

from __future__ import annotations

from collections.abc import Mapping

from litefleet_agent.findings import Certainty

from .entry import Details, Where

_CONVERT = (Where.SOURCE, Where.CONVERSION)

SOURCE: Mapping[str, Details] = {
    "LF201": Details(
        "litefleet checks the folder or file that `source:` names before it runs the converter.",
        (Where.SOURCE,),
        "models/cls holds no PaddlePaddle model (inference.pdmodel).",
        (
            "List the files: `ls -l models/cls`; inference.pdmodel and inference.pdiparams must both exist and not be empty.",
            "Other names work if you give both files: `source: {model: FILE, params: FILE}` in litefleet.yaml.",
            "Check it: `litefleet doctor models/cls`.",
        ),
        (
            "Error, Unsupported model format!",
            "Check failed: file_: Unable to open file",
            "2. You can also appoint the model and params file in custom format",
        ),
        (
            "PaddlePaddle/Paddle-Lite#8758: Unable to open file",
            "PaddlePaddle/FastDeploy#1843: Unsupported model format!",
        ),
    ),
    "LF202": Details(
        "The model file is JSON that identifies itself as PIR, in the folder or as the given file.",
        (Where.SOURCE, Where.LOG),
        "models/cls holds PaddlePaddle 3's PIR format (JSON) only, and no .pdmodel.",
        (
            "Export again in the old format: `export FLAGS_enable_pir_api=0`, then run the same export script.",
            "The result contains inference.pdmodel beside inference.pdiparams; use both.",
            "Check it: `litefleet doctor models/cls`.",
        ),
        ("Error, Unsupported model format!", "inference.json instead of inference.pdmodel"),
        (
            "PaddlePaddle/Paddle-Lite#10666: PaddlePaddle 3 writes .json; the maintainers' workaround",
            "PaddlePaddle/Paddle-Lite#10662: model.json and Unsupported model format!",
        ),
    ),
    "LF203": Details(
        "litefleet compares every tensor in the parameters file, in order, with the type and the dimensions that the program declares.",
        (Where.SOURCE, Where.LOG),
        "The program needs 64 parameters; the parameters file holds 61.",
        (
            "Use both files from one export; do not combine a .pdmodel of one run with a .pdiparams of another.",
            "A .pdparams file (a training checkpoint) is not a .pdiparams file: export the model for inference.",
            "With opt by hand, a combined model needs `--model_file` and `--param_file`, not `--model_dir`.",
        ),
        (
            "Check failed: version == 0U (3734289112 vs. 0) Only version 0 is supported",
            "Check failed: reader->ReachEnd(): You are not allowed to load partial data via LoadCombinedParamsPb, use LoadParam instead.",
        ),
        (
            "PaddlePaddle/Paddle-Lite#3740: Only version 0 is supported; a combined model given as a folder",
            "PaddlePaddle/Paddle-Lite#4302: the same, a wrong path",
            "PaddlePaddle/Paddle-Lite#9036: not allowed to load partial data",
        ),
    ),
    "LF204": Details(
        "litefleet searches the operators for attributes and outputs that newer PaddlePaddle versions omit and this converter requires; it compares the version that wrote the program with those that the release supports.",
        (Where.SOURCE, Where.LOG),
        "2 x swish without the attribute beta, as PaddlePaddle 2.6.2 saves it; Paddle-Lite 2.13rc0's converter stops at that, as 2.12 and 2.10 do.",
        (
            "Try it: `litefleet convert`. If it converts and the proof passes, there is nothing to do.",
            "If it stops, set a newer `toolchain.paddlelite`, or export the model with an older PaddlePaddle.",
        ),
        (
            "Check failed: it != attrs().end(): No attributes called beta found for swish",
            "Check failed: it != attrs().end(): No attributes called fix_seed found for dropout",
            "Check failed: it != outputs_.end():",
        ),
        (
            "PaddlePaddle/PaddleOCR#11732: PaddlePaddle 2.6 and 'beta' of swish",
            "PaddlePaddle/Paddle-Lite#10531: known, and fixed in v2.14",
            "PaddlePaddle/Paddle-Lite#9823: 'fix_seed' of dropout; a newer opt converts it",
            "PaddlePaddle/Paddle-Lite#10511: it != outputs_.end()",
        ),
        (Certainty.LIKELY, Certainty.POSSIBLE),
    ),
    "LF205": Details(
        "The converter runs in a child process; litefleet reads its exit code, its signal and its last lines.",
        (Where.CONVERSION, Where.LOG),
        "Paddle-Lite 2.13rc0's converter, target arm, stopped itself at a failed check. Its output: Check failed: it != attrs().end(): No attributes called beta found for swish.",
        (
            "List the parts of the model that converters cannot handle: `litefleet doctor models/NAME`.",
            "Read the converter's last lines; they name the operator or the attribute.",
            "Set another version in `toolchain.paddlelite` and run `litefleet convert` again.",
        ),
        ("Aborted (core dumped)", "Segmentation fault (core dumped)", "Check failed: it != attrs().end()"),
        (
            "PaddlePaddle/Paddle-Lite#10240: opt 2.10 stops at an attribute",
            "PaddlePaddle/Paddle-Lite#10621: opt 2.13rc0 stops at 'beta' of swish",
            "measured with Paddle-Lite 2.13rc0 on x86_64: a bad target, a missing file and an unwritable output all end in an abort",
        ),
    ),
    "LF206": Details(
        "litefleet compares the program's operators with those that this Paddle-Lite version has for the target, and reads the converter's own result.",
        (*_CONVERT, Where.LOG),
        "Paddle-Lite 2.10 has no kernel on x86 for matmul_v2 (x 12); Paddle-Lite 2.13rc0 has.",
        (
            "List the operators and the targets: `litefleet doctor models/NAME --for x86_64`.",
            "Set a newer `toolchain.paddlelite`, then `litefleet convert`.",
            "A model that contains `*_grad` or `adam` was saved for training: export it for inference.",
        ),
        (
            "Error: This model is not supported, because 1 ops are not supported on 'x86'. These unsupported ops are: 'nearest_interp_v2'.",
            "Check failed: op: no Op found for",
        ),
        (
            "PaddlePaddle/Paddle-Lite#6600: nearest_interp_v2 on x86, fine on arm",
            "PaddlePaddle/Paddle-Lite#9188: the same; a newer version has it",
            "PaddlePaddle/Paddle-Lite#8069: a training program with 20 unsupported operators",
            "measured with Paddle-Lite 2.10 on x86_64: PP-OCRv4 rec fails for x86 with 'matmul_v2'; 2.13rc0 converts it",
        ),
        (Certainty.CERTAIN, Certainty.LIKELY),
    ),
    "LF207": Details(
        "litefleet reads the file as the protocol buffer that PaddlePaddle saves; the file is not one, or has no operators, inputs or outputs.",
        (Where.SOURCE,),
        "The model file (512 bytes) is not a PaddlePaddle program: it ends in the middle of a field.",
        (
            "Identify the file: `litefleet doctor FILE`.",
            "A Git LFS pointer is a text file of three lines: fetch the model file with `git lfs pull`.",
            "Save the model for inference: `paddle.jit.save`, or the model zoo's export script.",
        ),
        ("Check failed: pb_prog->ParseFromString", "[libprotobuf ERROR ...] Error parsing message"),
    ),
    "LF208": Details(
        "litefleet searches the program for operators that quantisation-aware training inserts to observe ranges.",
        (Where.SOURCE, Where.LOG),
        "The exported program still holds training-time quantisation operators: 14 moving_average_abs_max_scale.",
        (
            "Export with the quantiser's own function: `quanter.save_quantized_model(...)` in PaddleSlim.",
            "Then check again: `litefleet doctor models/NAME`.",
        ),
        ("These unsupported ops are: 'moving_average_abs_max_scale'.",),
        ("PaddlePaddle/Paddle-Lite#9036: 'moving_average_abs_max_scale' is not supported on 'arm'",),
    ),
    "LF209": Details(
        "The program contains an operator in a form on which the configured converter is known to crash: for ARM, a 1 x 1 convolution whose filter is computed in the program, which is how `nn.Conv1D` with kernel 1 is saved.",
        (Where.SOURCE,),
        "1 x 1 convolution with a computed filter, 3 of them (nn.Conv1D with kernel 1): Paddle-Lite 2.13rc0's converter segfaults at it for arm; for x86 it does not.",
        (
            "Try it: `litefleet convert`; the converter runs in a child process, so a crash has no other effect.",
            "If it crashes, set another `toolchain.paddlelite`.",
            "Or use the 2-D form: `unsqueeze` the input, `Conv2D` with a kernel of height 1, `squeeze` the output; then export again.",
        ),
        ("Segmentation fault (core dumped)",),
        ("PaddlePaddle/Paddle-Lite#9263: nn.Conv1D with kernel 1, on an RK3399",),
        (Certainty.LIKELY,),
    ),
    "LF210": Details(
        "The file's first bytes (or its name, if they are not conclusive) are those of another framework's format.",
        (Where.SOURCE, Where.FILE),
        "model.onnx is an ONNX model.",
        (
            "Convert it to PaddlePaddle: `pip install x2paddle`, `x2paddle --framework=onnx --model=model.onnx --save_dir=pd_model`.",
            "Give the folder pd_model/inference_model as `source:` in litefleet.yaml.",
            "Check it: `litefleet doctor pd_model/inference_model`.",
        ),
        (
            "Error, Unsupported model format!",
            "The model format cannot be recognized. Please make sure you use the correct interface and model file.",
        ),
        ("PaddlePaddle/Paddle-Lite#9578: from ONNX by x2paddle",),
        (Certainty.CERTAIN, Certainty.LIKELY),
    ),
    "LF211": Details(
        "litefleet tries the versions under `toolchain.also` in order after the configured version failed, and uses the first whose file "
        "passes all checks.",
        (Where.CONVERSION,),
        "Paddle-Lite 2.13rc0 made this file, as others could not: 2.10 reported LF206: Paddle-Lite 2.10 has no kernel on x86 for matmul_v2 (x 12).",
        (
            "Set `toolchain.paddlelite` to that version, so that the first attempt succeeds.",
            "Check that the devices' runtime accepts the file: `litefleet verify --limit NAME`.",
        ),
        references=("measured with Paddle-Lite 2.10 and 2.13rc0 on x86_64: PP-OCRv4 rec for x86",),
    ),
    "LF212": Details(
        "litefleet reads the program's operators: gradients (`..._grad`) and optimizers (`adam`, `momentum`, ...) occur in training only.",
        (Where.SOURCE, Where.LOG),
        "The program holds operators that train: adam, conv2d_grad, mul_grad, relu_grad.",
        (
            "Export for inference: `python tools/export_model.py -c CONFIG -o Global.pretrained_model=WEIGHTS` in PaddleOCR.",
            "Then check again: `litefleet doctor models/NAME`.",
        ),
        ("These unsupported ops are: 'adam, batch_norm_grad, concat_grad, conv2d_grad, ...'.",),
        (
            "PaddlePaddle/Paddle-Lite#8069: 20 ops are not supported on 'arm'",
            "PaddlePaddle/Paddle-Lite#4884: 27 ops are not supported on 'arm'",
        ),
    ),
    "LF213": Details(
        "The program creates a tensor of shape [] (`fill_constant`), takes a float64 input, casts between types that the kernel lacks, sums over all dimensions (`x.sum()`), or, for x86, takes `abs` of a sum, difference or product; each was measured on models that were converted and run with 2.13rc0 and 2.12.",
        (Where.SOURCE,),
        "2 x fill_constant with shape []: every Paddle-Lite aborts at the first run of such a model. PaddlePaddle 2.5 and later save if/else, LSTM, GRU and nonzero so; export with PaddlePaddle 2.4, or give the constants the shape [1].",
        (
            "For shape []: export with PaddlePaddle 2.4 or older, where scalars have the shape [1].",
            "Or rewrite the layer: `paddle.full([1], value)` instead of a Python number, a loop over a fixed length, `paddle.where` instead of if/else.",
            "For float64: export with `InputSpec(shape, 'float32')`, and use float32 inside the model too.",
            "For `x.sum()`: name the dimensions, `x.sum(axis=[0, 1])`; for `abs` on x86: `paddle.maximum(y, -y)`.",
            "Check it: `litefleet doctor FOLDER`.",
        ),
        (
            "no valid out_shape. Must set one of shape_tensor, or shape_tensor_list, or shape.",
            "other has not been implemented transform with dtype5 X, dtype6 Out",
            "unsupported active type:abs",
            "Aborted (core dumped)",
        ),
        (),
        (Certainty.CERTAIN, Certainty.LIKELY),
    ),
}
