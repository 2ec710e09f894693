"""The small models and labelled data of docs/examples/models.py, and their .nb files, made once per cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.conftest import _once, _run, lite_environment, paddle_environment

__all__ = ["accuracy_models", "accuracy_nb"]

SCRIPT = Path(__file__).parent.parent / "docs" / "examples" / "models.py"


def accuracy_models() -> Path:
    """Return the folder with classifier, classifier-8bit, classifier-2bit, detector, segmenter, tagger, two-inputs, data."""
    recipe = hashlib.sha256(SCRIPT.read_bytes()).hexdigest()[:12]
    python = paddle_environment()
    with _once(f"accuracy-models-{recipe}") as folder:
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([python, SCRIPT, folder], check=True, capture_output=True, timeout=280)
            (folder / "done").touch()
        return folder


def accuracy_nb(model: str) -> Path:
    """Return a model's file for x86, as Paddle-Lite's own converter makes it."""
    source, opt = accuracy_models() / model, lite_environment().parent / "paddle_lite_opt"
    with _once(f"{source.parent.name}-{model}-nb") as folder:
        folder.mkdir(exist_ok=True)
        if not (folder / "model.nb").exists():
            files = [f"--model_file={source / 'inference.pdmodel'}", f"--param_file={source / 'inference.pdiparams'}"]
            _run(
                opt,
                *files,
                "--valid_targets=x86",
                "--optimize_out_type=naive_buffer",
                f"--optimize_out={folder / 'model'}",
            )
        return folder / "model.nb"
