"""Signing releases and bundle files with an ed25519 SSH key, by ssh-keygen."""

from __future__ import annotations

from .signer import BUNDLE_NAMESPACE, RELEASE_NAMESPACE, TRUST_NAMESPACE, Signer, seal_bytes
from .sshsig import SigningError, signer_of

__all__ = [
    "BUNDLE_NAMESPACE",
    "RELEASE_NAMESPACE",
    "TRUST_NAMESPACE",
    "Signer",
    "SigningError",
    "seal_bytes",
    "signer_of",
]
