"""Signing releases and bundle files with an ed25519 SSH key, by ssh-keygen."""
