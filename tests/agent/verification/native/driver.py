"""Drives the native engine in a process of its own, with any interpreter: a job on stdin, what came of it as a line on stdout.

Only the standard library and the agent; started by path, never imported.  `argv[1]` is the folder of the agent's package.
"""

import base64
import json
import sys


def stages(report):
    def stage(words):
        report.append(words)
        print("stage: " + words, flush=True)

    return stage


def run_case(engine, job, arrays, report):
    values = {name: arrays[name] for name in job["inputs"] if name in arrays}
    engine.select_predictor(values)
    engine.set_inputs(values, check=job.get("check", True))
    for name, levels in job.get("lod", {}).items():
        with engine._predictor.input(engine._order.index(name)) as tensor:
            tensor.set_lod(levels)
    for turn in range(job.get("runs", 1)):
        if turn:
            engine.set_inputs(values)
        engine.run()
    report["outputs"].append(
        [[v.dtype, list(v.shape), base64.b64encode(v.data).decode("ascii")] for v in engine.outputs()]
    )
    report["lods"].append(engine.output_lods())


def resident():
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[1]) * 4096


def soak(engine, job, arrays, report):
    """Run again and again, or load again and again, and tell the memory at each tenth of it."""
    values = {name: arrays[name] for name in job["inputs"]}
    first, report["rss"], report["same"] = None, [], True
    for turn in range(job["soak"]):
        if job.get("reload"):
            engine.load()
        engine.select_predictor(values)
        engine.set_inputs(values)
        engine.run()
        outputs = engine.outputs()
        first = first or outputs
        report["same"] = report["same"] and outputs == first
        if turn % (job["soak"] // 10) == 0:
            report["rss"].append(resident())


def write_and_read(engine, report):
    """Write and read back each type in the first input, past all checks of the model."""
    from litefleet_agent.formats.npz import DTYPES, Array

    report["types"] = {}
    for name, size in DTYPES.items():
        value = Array(name, (2, 3), bytes(range(1, 1 + 6 * size)) if name != "bool" else b"\1\0\1\1\0\0")
        try:
            with engine._predictor.input(0) as tensor:
                tensor.write(value)
            with engine._predictor.input(0) as tensor:
                report["types"][name] = tensor.read() == value
        except Exception as error:
            report["types"][name] = str(error)


def drive(job, report):
    from litefleet_agent.formats.engine_settings import EngineSettings
    from litefleet_agent.formats.nb import Tensor
    from litefleet_agent.formats.npz import read_npz
    from litefleet_agent.verification.native import NativePaddleLite

    declared = [Tensor(name, dtype, tuple(dims)) for name, dtype, dims in job.get("declared", [])]
    asked = EngineSettings(threads=job.get("threads", 0), power_mode=job.get("power_mode", ""))
    if "engine" in job:
        asked = EngineSettings.parse(job["engine"])
    engine = NativePaddleLite(
        job["runtime"], job["nb"], job["inputs"], job["outputs"], asked, job.get("sizes", 1),
        cache=job.get("cache", ""), declared=declared, on_stage=stages(report["stages"]),
    )  # fmt: skip
    engine.import_runtime()
    report["threads_set_by"], report["threads_taken"] = engine.threads_set_by, engine.threads_taken
    report["power_mode"] = engine.power_mode_set
    engine.load()
    from litefleet_agent.verification.native import config

    exported = config._Exported(engine._library.functions, engine._config.address)
    report["held"] = [exported.value_of("nnadapter_" + of) for of in ("device_names", "context_properties")]
    report["settings"] = [one.to_dict() for one in engine.setting_reports()]
    report["version"], report["known"] = engine.runtime_version, engine.layout_known
    report["output_names"], report["can_shrink"] = engine.loaded_output_names, engine.can_shrink
    report["base_size"] = engine._config.base_size
    for path in job["cases"]:
        run_case(engine, job, read_npz(path), report)
        if job.get("shrink"):
            before = resident()
            report["shrunk"] = engine.shrink_memory()
            report.setdefault("given_back", []).append(before - resident())
    if job.get("soak"):
        soak(engine, job, read_npz(job["cases"][0]), report)
    if job.get("types"):
        write_and_read(engine, report)
    report["loads"] = engine.loads
    if job.get("release"):  # so that what was loaded is destroyed before the end
        engine._cache.current = None


def main():
    sys.path.insert(0, sys.argv[1])
    job = json.load(sys.stdin)
    for name in job.get("without", []):
        sys.modules[name] = None
    for name in job.get("first", []):
        __import__(name)
    report = {"stages": [], "outputs": [], "lods": [], "python": list(sys.version_info[:2])}
    from litefleet_agent.verification.engine import PaddleLiteError

    try:
        drive(job, report)
    except PaddleLiteError as error:
        report["error"] = [error.kind, str(error)]
    report["numpy"] = getattr(sys.modules.get("numpy"), "__version__", "")
    print("\nresult: " + json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
