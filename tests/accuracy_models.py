"""The small models and labelled data of docs/examples/models.py, made once per cache."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from tests.conftest import _once, paddle_environment

__all__ = ["accuracy_models"]

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
