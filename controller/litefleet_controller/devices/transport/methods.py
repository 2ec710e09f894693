"""The algorithms of an SSH connection: fast and safe ones, and the old ones that `legacy: true` permits for one device.

Signatures of the operator's own keys are not listed: asyncssh takes the best one that the server announces.
"""

from __future__ import annotations

# AES-GCM with the CPU's own instructions is the cheapest on both ends of most fleets; curve25519 keeps a handshake at 8 ms
# (the post-quantum exchange takes 124 ms with the OpenSSH client).  The rest stays on offer for older and smaller servers.
CIPHERS = (
    "aes128-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-ctr",
    "aes256-ctr",
)
KEX = (
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group14-sha256",
)

# SHA-1 and CBC: what servers from before 2016 have.  Both are broken enough that nobody should use them unasked.
LEGACY_CIPHERS = ("aes128-cbc", "aes256-cbc", "3des-cbc")
LEGACY_KEX = ("diffie-hellman-group14-sha1", "diffie-hellman-group-exchange-sha1")
LEGACY_HOST_KEY = "ssh-rsa"
LEGACY = frozenset((*LEGACY_CIPHERS, *LEGACY_KEX, LEGACY_HOST_KEY))
"""What `legacy: true` permits."""
