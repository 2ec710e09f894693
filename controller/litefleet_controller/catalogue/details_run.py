"""Details: what the model did when it ran."""

from __future__ import annotations

from collections.abc import Mapping

from litefleet_agent.findings import Certainty

from .entry import Details, Where

_RUN = (Where.RUN,)
_ENDED = (Where.RUN, Where.LOG)
_MEASURED_OR_TOLD = (Certainty.CERTAIN, Certainty.LIKELY)

RUN: Mapping[str, Details] = {
    "LF401": Details(
        "The model runs in a child process; the agent reads the signal that ended it and its last lines on stderr.",
        _ENDED,
        "The model's process, while running, died with SIGSEGV without a message",
        (
            "First compare the file with the machine: `litefleet inspect model.nb --for aarch64`.",
            "Also compare the runtime with the machine: `litefleet probe --limit NAME`.",
            "Explain its last messages: `your-program 2>&1 | litefleet doctor --log -`.",
            "If file and runtime fit, set another `toolchain.paddlelite` and convert again: `litefleet convert`.",
        ),
        (
            "Segmentation fault (core dumped)",
            "Fatal signal 11 (SIGSEGV), code 1 (SEGV_MAPERR)",
            "Illegal instruction",
            "exit code 139",
        ),
        (
            "PaddlePaddle/PaddleOCR#2962: a file for another machine",
            "PaddlePaddle/Paddle-Lite#3992: Segmentation fault of the Python demo",
            "measured with Paddle-Lite 2.13rc0 on x86_64: an ARM file of PP-OCR cls ends in SIGSEGV, with nothing on stderr",
        ),
        _MEASURED_OR_TOLD,
    ),
    "LF402": Details(
        "The child process ended with SIGABRT, or its last message is one of Paddle-Lite's failed checks.",
        _ENDED,
        "The model's process, while loading, died with SIGABRT: [F ... program.cc:356 RuntimeProgram] Check failed: (kernels.size() > 0): 0!>0",
        (
            "Read the last line: it names the operator, the file in Paddle-Lite's source, and the two values that differ.",
            "Explain the whole log: `litefleet doctor --log crash.log`.",
            "Compare your inputs with the model's inputs: `litefleet inspect model.nb`.",
        ),
        (
            "*** Check failure stack trace: ***",
            "Aborted (core dumped)",
            "terminate called after throwing an instance of 'paddle::lite::PaddleLiteException'",
            "double free or corruption (!prev)",
            "*** stack smashing detected ***: terminated",
        ),
        (
            "PaddlePaddle/Paddle-Lite#10178: a failed check in fc_compute.cc",
            "measured with Paddle-Lite 2.13rc0 on x86_64: a cut-off file, an empty file and an input of the wrong rank all end in an abort",
        ),
        _MEASURED_OR_TOLD,
    ),
    "LF403": Details(
        "litefleet compares every output of every golden case with the reference: shape, largest and mean difference, cosine, and the "
        "position of the largest value, within the tolerance of the file's precision.",
        _RUN,
        "softmax_0.tmp_0, case 1: max abs error 0.031 (allowed 0.0001 + 0.001 of the value), cosine 0.9971",
        (
            "Show the figures: `litefleet verify --limit NAME --json`.",
            "Check whether only one CPU part is affected: `litefleet status`.",
            "Convert without fp16 and quantisation, and prove again: `litefleet convert`, then `litefleet verify --limit NAME`.",
            "If the difference is normal for this precision, widen `models.NAME.tolerance`.",
        ),
        ("right on one board and wrong on another", "results differ between the PC and the device"),
        (
            "PaddlePaddle/Paddle-Lite#5450: one model, two armv8 boards, two results",
            "PaddlePaddle/Paddle-Lite#10349: mobilenet_v1 wrong on arm64",
        ),
    ),
    "LF404": Details(
        "Every item of every output must be finite. Before a conversion to fp16, litefleet reports weights beyond its range (65504).",
        (Where.SOURCE, Where.RUN),
        "softmax_0.tmp_0, case 1: 2 of 2 items are NaN or Inf",
        (
            "Check for quantisation on x86 and for fp16: `litefleet inspect model.nb --for x86_64`.",
            "Convert without them for this architecture under `models.NAME.options`, then `litefleet convert`.",
            "Prove again: `litefleet verify --limit NAME`. If it is still NaN at fp32, try another `toolchain.paddlelite`.",
        ),
        ("nan", "-nan", "inf"),
        (
            "PaddlePaddle/Paddle-Lite#10402: fp16 gives nan; compare with fp32 first",
            "PaddlePaddle/Paddle-Lite#10349: -nan in the results",
            "measured with Paddle-Lite 2.13rc0 on x86_64: int8 weights, a mixture of x86 and arm kernels, and a float64 input return NaN",
        ),
        (Certainty.CERTAIN, Certainty.LIKELY, Certainty.POSSIBLE),
    ),
    "LF405": Details(
        "Two golden cases with different inputs and different references gave the same bytes.",
        _RUN,
        "softmax_0.tmp_0 is the same for cases 1 and 2, whose references differ",
        (
            "Compare the file with the machine: `litefleet inspect model.nb --for x86_64`.",
            "Convert for this architecture: `litefleet convert --for x86_64`.",
            "Check numpy's version in your own program: it must be below 2 (`litefleet explain LF304`).",
        ),
        ("every image gives the same result", "outputs all zeros"),
        (
            "PaddlePaddle/Paddle-Lite#9049: always the same class on the device",
            "measured with Paddle-Lite 2.13rc0 on x86_64: an ARM file of PP-OCR det answers zeros in 0.03 ms",
        ),
    ),
    "LF406": Details(
        "litefleet runs the same input several times and compares the outputs with each other.",
        _RUN,
        "sigmoid_0.tmp_0, case 1, between two runs of one input: max abs error 1.7e+33 (allowed 0.0001 + 0.001 of the value), cosine 0.0000",
        (
            "Compare the file with the machine: `litefleet inspect model.nb --for aarch64`.",
            "In your own program, copy an output before the next run: `numpy()` is a view of memory that the next `run()` overwrites.",
            "On ARM, try one thread: `config.set_threads(1)` before you create the predictor.",
        ),
        ("each run gives another result",),
        (
            "PaddlePaddle/Paddle-Lite#10479: unstable outputs after conversion",
            "PaddlePaddle/PaddleOCR#15826: the ids change from run to run",
            "measured with Paddle-Lite 2.13rc0 on x86_64: `numpy()` of an output is a view that the next `run()` overwrites",
        ),
    ),
    "LF407": Details(
        "litefleet compares the shape and element type of each output with the reference before it compares values.",
        _RUN,
        "fetch_0, case 1: it is float32 [1, 40, 97] where the reference is float32 [1, 40, 6625]",
        (
            "Make the golden outputs from the same model: remove `models.NAME.golden.files`, and litefleet makes them from `source:`.",
            "Show the file's outputs: `litefleet inspect model.nb`.",
        ),
    ),
    "LF408": Details(
        "The child process exceeded `verify.time_limit_s`, and the agent stopped it.",
        _RUN,
        "The model's process, while running, was still running after 60 s",
        (
            "Raise `verify.time_limit_s` in litefleet.yaml; the first run on a GPU compiles its kernels and may take minutes.",
            "Lower `verify.runs` and `verify.warmup` for large models.",
            "Check the device's load: `ssh USER@HOST uptime`.",
        ),
    ),
    "LF409": Details(
        "The device times the runs after the warm-up; litefleet compares p50, p90 and p99 with `models.NAME.gates`.",
        _RUN,
        "p90_ms is 212.4 ms; 150.0 ms are allowed",
        (
            "Measure again when the device is idle: `litefleet verify --limit NAME`.",
            "Check temperature and clock rate: `cat /sys/class/thermal/thermal_zone*/temp /sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq`.",
            "Raise the limit under `models.NAME.gates`, or use a smaller model.",
        ),
    ),
    "LF410": Details(
        "litefleet compares the highest resident size of the model's process with `models.NAME.gates.peak_rss_mb`.",
        _RUN,
        "the peak is 402 MiB; 256 MiB are allowed",
        (
            "Show the figures: `litefleet verify --limit NAME --json`.",
            "Raise `models.NAME.gates.peak_rss_mb`, or use a smaller model. Quantised weights do not help: they are expanded at load.",
        ),
    ),
    "LF411": Details(
        "The child process was killed at its memory limit or by SIGKILL, or its last message reports that memory was unavailable.",
        _ENDED,
        "The model's process, while loading, could not get memory: terminate called after throwing an instance of 'std::bad_alloc'",
        (
            "Check the kernel's log: `dmesg | grep -i 'killed process'` on the device.",
            "Inspect the file first: damaged sizes request huge amounts of memory (`litefleet inspect model.nb`), and so can a file of "
            "another version (`litefleet explain LF108`).",
            "Free memory on the device, or use a smaller model.",
        ),
        (
            "Killed",
            "exit code 137",
            "std::bad_alloc",
            "no enough for mallocing 4294946096 bytes",
            "MemoryError: std::bad_alloc",
        ),
        (
            "PaddlePaddle/Paddle-Lite#3050: std::bad_alloc with a model of 400 MB",
            "PaddlePaddle/Paddle-Lite#4725: std::bad_alloc, because the versions differ",
            "PaddlePaddle/Paddle-Lite-Demo#290: no enough for mallocing 4294946096 bytes",
        ),
        _MEASURED_OR_TOLD,
    ),
    "LF412": Details(
        "litefleet compares names, shapes and types of the golden files with the inputs and outputs of the .nb, and checks that values "
        "are finite, before it loads the model.",
        (Where.HOST, Where.DEVICE),
        "case 1: input x has shape [1, 1, 48, 192], the model takes [1, 3, 48, 192]",
        (
            "Show the model's inputs: `litefleet inspect model.nb`.",
            "Let litefleet make the golden files: remove `models.NAME.golden.files`, and set `models.NAME.inputs` for variable sizes.",
            "For your own .npz: store one array for each input and output, under its name, in the model's type.",
        ),
    ),
    "LF413": Details(
        "litefleet compares the fastest run with that of the previous release on the same device; the limit is `rollout.gates.regression.latency`.",
        _RUN,
        "fastest run 61.0 ms, before 38.2 ms: +60%",
        (
            "Measure again: `litefleet retry --failed`.",
            "Compare kernels of both files: `litefleet inspect old.nb`, `litefleet inspect new.nb`.",
            "If the new speed is intended, raise `rollout.gates.regression.latency` and run `litefleet rollout` again.",
        ),
    ),
    "LF414": Details(
        "litefleet compares the peak memory with that of the previous release on the same device; the limit is `rollout.gates.regression.memory`.",
        _RUN,
        "peak memory 402 MiB, before 210 MiB: +91%",
        (
            "Measure again: `litefleet retry --failed`.",
            "If the growth is intended, raise `rollout.gates.regression.memory` and run `litefleet rollout` again.",
        ),
    ),
    "LF415": Details(
        "A log or a crash report shows several threads, or a predictor that threads share.",
        (Where.LOG,),
        "line 41: Segmentation fault, with 4 threads",
        (
            "Create one predictor per thread, on the main thread, and use it in that thread only; or use one process per predictor.",
            "Try one thread: `config.set_threads(1)` before you create the predictor.",
            "Prove the model alone, in a separate process: `litefleet verify --limit NAME`.",
        ),
        ("Segmentation fault, now and then", "paddle::lite::RuntimeProgram::Run()"),
        (
            "PaddlePaddle/Paddle-Lite#9886: crashes now and then; where a predictor may be made and used",
            "PaddlePaddle/Paddle-Lite#9874: one predictor, two threads",
            "PaddlePaddle/Paddle-Lite#4014: making predictors in several threads at once",
            "PaddlePaddle/PaddleOCR#7461: PP-OCRv3 with 4 threads",
        ),
        (Certainty.LIKELY, Certainty.POSSIBLE),
    ),
    "LF416": Details(
        "A log contains a failed check that an empty tensor causes. In its own runs, litefleet sets all inputs that the file names.",
        (Where.LOG,),
        "line 12: Check failed: output_dims[unk_dim_idx] * capacity == -input_size (0 vs. -1) Invalid shape is given.",
        (
            "List the inputs: `litefleet inspect model.nb`; detection models have up to three (image, im_shape, scale_factor).",
            "Set each input: `predictor.get_input(i)` in the listed order, `resize` and fill it, then `run()`.",
            "Use the exact name of an input: `get_input_by_name` returns an empty object for an unknown name.",
        ),
        (
            "Check failed: output_dims[unk_dim_idx] * capacity == -input_size (0 vs. -1) Invalid shape is given.",
            "Segmentation fault",
            "CheckShape",
        ),
        (
            "PaddlePaddle/Paddle-Lite#9917: three inputs, only one set",
            "PaddlePaddle/Paddle-Lite#3829: Invalid shape is given",
            "PaddlePaddle/Paddle-Lite#3982: two inputs, segmentation fault",
            "measured with Paddle-Lite 2.13rc0 on x86_64: an input that was never set ends in an abort in run()",
        ),
        (Certainty.LIKELY, Certainty.POSSIBLE),
    ),
    "LF417": Details(
        "A log contains a failed check that compares dimensions; litefleet checks the golden's own shapes before the run (LF412).",
        (Where.LOG,),
        "line 9: Check failed: (k_ == w_dims[0]): 1200!==120",
        (
            "Show the dimensions of the model's inputs: `litefleet inspect model.nb`; `?` means any size.",
            "Resize the picture to them, in the order N, C, H, W, before `from_numpy`.",
            "A wrong number of channels can cause wrong outputs without an error: check the proof with `litefleet verify`.",
        ),
        (
            "Check failed: (k_ == w_dims[0]): 1200!==120",
            "Check failed: (param_.axes[i] < in_dims.size()): 1!<0 The index of dimension in axes must be less than the size of input shape.",
        ),
        (
            "PaddlePaddle/Paddle-Lite#10178: k_ == w_dims[0]",
            "PaddlePaddle/Paddle-Lite#6013: the input's size is not the trained one",
            "PaddlePaddle/Paddle-Lite-Demo#274: the index of dimension in axes",
            "measured with Paddle-Lite 2.13rc0 on x86_64: one channel instead of three gives a wrong answer with exit code 0",
        ),
        (Certainty.LIKELY, Certainty.POSSIBLE),
    ),
    "LF418": Details(
        "A log contains Paddle-Lite's own warning; litefleet's run converts no types and checks the golden's types first (LF412).",
        (Where.LOG,),
        "line 3: Error input tensor precision type. Input index (0) Tensor name (image) Require precision type (float) Input precision "
        "type (uint8_t).",
        (
            "Convert the input first: `x = x.astype('float32')`; in C++, fill `mutable_data<float>()`.",
            "Show the types: `litefleet inspect model.nb`.",
        ),
        (
            "Error input tensor precision type. Input index (0) Tensor name (image) Require precision type (float) Input precision type (uint8_t).",
        ),
        (
            "PaddlePaddle/Paddle-Lite#10183: uint8 into a float input",
            "measured with Paddle-Lite 2.13rc0 on x86_64: float64 or uint8 into a float32 input answers NaN with exit code 0",
        ),
        _MEASURED_OR_TOLD,
    ),
    "LF420": Details(
        "The goldens' input sizes differ in more than the first dimension; the proof reloads the model for each size.",
        (Where.RUN,),
        "The cases have 2 input sizes (3 x 48 x 96 and 3 x 48 x 192); the model was loaded anew for each.",
        (
            "Resize or pad every input to the one size that `models.NAME.inputs` names.",
            "If you need several sizes, keep one predictor for each size.",
            "Never resize an input of a predictor that has run with another height or width.",
        ),
        ("free(): invalid next size", "double free or corruption", "wrong answers for every second picture"),
        (
            "measured with Paddle-Lite 2.13rc0 on x86_64: cls at width 96, then 192, gave 0.756 instead of 0.568; rec and det aborted",
        ),
        (Certainty.CERTAIN,),
    ),
    "LF422": Details(
        "The agent compares each request with the inputs that the .nb on the device declares, before it passes the request to Paddle-Lite.",
        (Where.RUN,),
        "request 1 of 2: cls: x is ? x 3 x 48 x 192, and 1 x 1 x 48 x 192 was sent",
        (
            "Show the file's inputs: `litefleet inspect FILE.nb`.",
            "Show the device's current release: `litefleet status`.",
        ),
    ),
    "LF419": Details(
        "A bench measures that the resident memory of one process grows steadily over the second half of its runs; or resident sizes in a log grow.",
        (Where.RUN, Where.LOG),
        "Resident memory grew from 84.1 MB to 141.6 MB in 60000 runs, 0.96 MB per 1,000 runs.",
        (
            "Measure longer: `litefleet bench --seconds 3600` reports the growth per 1,000 runs and per hour.",
            "Create the predictor once, and use it for all requests.",
            "With OpenCL, restart the worker after a number of runs, and use a newer Paddle-Lite.",
        ),
        ("Killed, after hours", "Out of memory: Killed process"),
        (
            "PaddlePaddle/Paddle-Lite#10236: 1 GB in 20 hours with OpenCL",
            "PaddlePaddle/Paddle-Lite#9864: growth with a thread pool",
        ),
        (Certainty.CERTAIN, Certainty.LIKELY, Certainty.POSSIBLE),
    ),
    "LF421": Details(
        "A bench measures that the clock rate falls and p50 rises, each by a tenth or more compared with the first quarter of its time.",
        (Where.RUN,),
        "After 312 s the CPU's frequency fell from 1800 to 1200 MHz, and p50 rose from 12.1 to 18.0 ms; it was up to 84 degrees Celsius hot.",
        (
            "Check temperature and clock rate over time in the chart of `litefleet bench --seconds 1800 --html report.html`.",
            "Improve the cooling, and check the power supply: boards also lower the clock rate when the supply is weak.",
            "If it persists, use the p90 from after the drop for `models.NAME.gates`, or use a smaller model.",
        ),
        ("slower after some minutes than at the start",),
        (),
        (Certainty.CERTAIN,),
    ),
    "LF423": Details(
        "The process that runs the model passes on what Paddle-Lite's binding raised, or the error code with which its process ended.",
        (Where.RUN,),
        "While running case 1: RuntimeError: the input has 3 dimensions",
        (
            "Run the same inputs alone: `litefleet infer FILE.npz --limit NAME`.",
            "Try another version of the converter and the runtime together: `litefleet convert --try VERSION`.",
            "Show the end of the process's output: `litefleet verify --limit NAME --json`.",
        ),
    ),
    "LF430": Details(
        "litefleet runs the data set with the reference engine on the operator's machine and with the release on the device, and compares the "
        "scores with `golden.min` and `golden.drop`.",
        (Where.RUN,),
        "top1 is 0.8800 on 1,000 samples, and 0.9500 with PaddlePaddle 2.6.2: it drops by 0.0700, and 0.01 is allowed; most in class cat, 0.9600 to 0.7100.",
        (
            "Show the classes that lost most: `litefleet evaluate --limit NAME`.",
            "Convert without fp16 and quantisation under `models.NAME.options`, then `litefleet evaluate --limit NAME`.",
            "Quantise after training with pictures of your own (PaddleSlim), which loses less than quantising weights alone.",
            "If the loss is acceptable, raise `golden.drop` or lower `golden.min`.",
        ),
        ("accuracy drops after quantization", "right on the PC and worse on the device"),
    ),
    "LF431": Details(
        "litefleet compares the reference engine's own score with `golden.min` and with guessing, and the worth of one sample with `golden.drop`.",
        (Where.RUN,),
        "PaddlePaddle 2.6.2 reaches top1 0.1030 with 10 classes, which guessing reaches too.",
        (
            "Compare `preprocess:` with the model's training: colours, mean, std, size (`litefleet docs infer`).",
            "Check the numbers of the classes: folders are numbered in the order of their names, unless `classes.txt` names another order.",
            "Use more samples: with 1,000, one is worth 0.001.",
        ),
    ),
    "LF432": Details(
        "litefleet runs the source model with the reference engine in a confined process, before any device is contacted for it; the "
        "engine ended with an error, crashed, or did not finish in time.",
        (Where.SOURCE, Where.CONVERSION),
        "PaddlePaddle 2.6.2 could not run the model (SIGABRT), so there is no reference to compare with.",
        (
            "Show the error alone: `litefleet convert -m NAME`.",
            "State sizes and ranges that the model takes, `inputs: {ids: {range: [0, 18000]}}` (docs/configuration.md), or your own files, `golden: {inputs: [a.npz]}`.",
            "Make the answers elsewhere, and give them: `golden: {files: [a.npz, b.npz]}`.",
        ),
    ),
    "LF425": Details(
        "When a golden is made, the reference runs it again with weights that are damaged in known ways (one layer times 1.01, 1 % "
        "noise, rounding to 8 bits, two classes swapped); cases are compared with each other, with constant answers and with "
        "permuted ones, by the comparison that devices use.",
        (Where.RUN,),
        "The golden is weak: it would accept classes 3 and 7 swapped.",
        (
            "Show what each output is compared by: `litefleet plan` says the kind and why.",
            "Give inputs for which the answers differ: `golden: {files: [cat.npz, dog.npz]}`.",
            "Narrow the comparison of an output: `outputs: {NAME: {compare: topk, score: 0.001}}`.",
        ),
    ),
    "LF426": Details(
        "A golden's output and the device's are both empty, or hold only rows at the detector's own threshold.",
        (Where.RUN,),
        "multiclass_nms3_0.tmp_0, case 1: both are empty, so this case proves little",
        (
            "Look at the golden's inputs: random numbers show a detector nothing.",
            "Give pictures in which the model finds something: `golden: {files: [a.npz, b.npz]}`.",
        ),
    ),
}
