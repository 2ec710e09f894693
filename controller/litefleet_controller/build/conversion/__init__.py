"""From a source model to a .nb: preflight, variants, the converter, the static gate."""

from .convert import Artifact, admit, convert
from .preflight import Source, find_source, load_source
from .variant import Variant, make_variant

__all__ = ["Artifact", "Source", "Variant", "admit", "convert", "find_source", "load_source", "make_variant"]
