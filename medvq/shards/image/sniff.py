"""Detect the type of a file by its first bytes, not by its name."""

from __future__ import annotations

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".tif", ".tiff", ".webp", ".gif", ".pgm", ".ppm", ".pnm"}
)
"""A file with one of these suffixes that is not an image is a bad sample."""


def sniff(head: bytes) -> str | None:
    """Return the kind of image (`jpeg`, `png`, `bmp`, `tiff`, `webp`, `gif`, `pnm`) whose first 64 bytes are `head`.

    Return None if it is no known kind.
    """
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if head[:2] == b"BM" and len(head) >= 18 and head[14:18] in _BMP_HEADERS:
        return "bmp"
    if head[:2] in (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6") and head[2:3].isspace():
        return "pnm"
    return None


_BMP_HEADERS = {n.to_bytes(4, "little") for n in (12, 16, 40, 52, 56, 64, 108, 124)}


def describe(head: bytes) -> str:
    """Return what a file that is not an image seems to be, for a message."""
    text = head.lstrip().lower()
    if not head:
        return "the file is empty"
    if text.startswith((b"<!doctype html", b"<html", b"<?xml", b"<!--")):
        return "a web page, not an image"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image itself"
    if head[:4] == b"PK\x03\x04":
        return "a zip archive, not an image"
    if head[:4] == b"%PDF":
        return "a PDF, not an image"
    if not head.strip(b"\0"):
        return "only zero bytes"
    return "not an image that medvq reads"
