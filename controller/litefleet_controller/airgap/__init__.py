"""Bundle files: releases with all that they need in one ZIP, for devices that no network reaches.

index.json        what is in it, by hash
index.json.sig    its SSH signature, namespace "litefleet-bundle"; absent in an unsigned bundle
blobs/<sha256>    models, goldens and packed runtimes
agent/<sha256>.pyz
"""
