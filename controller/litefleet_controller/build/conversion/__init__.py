"""From a source model to a .nb: preflight, variants, the converter, the static gate."""
