#!/usr/bin/env python3
"""Builds the book: `make book`.

mdbook makes pages of docs/ as docs/SUMMARY.md orders them; a warning of it is an error here. What the
pages link to outside of docs/ is laid beside them as plain text, so that the book is whole without the
repository and without a network. Then every link of every page must lead somewhere inside of the book,
and nothing that a page loads may come from another host.
"""

import html
import os
import pathlib
import re
import shutil
import subprocess
import sys
from urllib.parse import unquote, urldefrag

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
BOOK = ROOT / "target" / "book"
# Where copies of sources go, in the book.
SOURCE = "source"
LINK = re.compile(r'(<a\b[^>]*?\bhref=")([^"]*)(")')
ANCHOR = re.compile(r'\bid="([^"]*)"')
LOADED = re.compile(r'<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)="((?:https?:)?//[^"]*)"')


def main() -> int:
    build()
    shutil.copy(ROOT / ".tools" / "mermaid.min.js", BOOK / "mermaid.min.js")
    pages = sorted(BOOK.rglob("*.html"))
    for page in pages:
        text = page.read_text()
        page.write_text(LINK.sub(lambda link: link[1] + inside(page, link[2]) + link[3], text))
    faults = [fault for page in pages for fault in faults_of(page)]
    for fault in faults:
        print(f"book: {fault}", file=sys.stderr)
    if not faults:
        size = sum(file.stat().st_size for file in BOOK.rglob("*") if file.is_file())
        print(f"{len(pages)} pages, {size / 1e6:.0f} MB: {(BOOK / 'index.html').relative_to(ROOT)}")
    return 1 if faults else 0


def build() -> None:
    """Runs mdbook, and ends with what it has to say if that is more than its progress."""
    shutil.rmtree(BOOK, ignore_errors=True)
    mdbook = [ROOT / ".tools" / "bin" / "mdbook", "build"]
    environment = os.environ | {"MDBOOK_LOG": "warn", "NO_COLOR": "1"}
    done = subprocess.run(mdbook, cwd=ROOT, env=environment, capture_output=True, text=True)
    said = (done.stdout + done.stderr).strip()
    if done.returncode != 0 or said:
        sys.exit(f"book: mdbook is not content ({done.returncode}):\n{said}")


def inside(page: pathlib.Path, link: str) -> str:
    """The link, or one to a copy in the book if it leaves docs/."""
    if "://" in link or link.startswith(("#", "mailto:")):
        return link
    path, _ = urldefrag(unquote(html.unescape(link)))
    target = (DOCS / page.parent.relative_to(BOOK) / path).resolve()
    if target.is_relative_to(DOCS) and target.name == "README.html":
        return link.replace("README.html", "index.html")  # so mdbook calls the page, but not the link
    if target.is_relative_to(DOCS) or not target.is_relative_to(ROOT) or (page.parent / path).exists():
        return link
    source = target if target.exists() else target.with_suffix(".md")  # mdbook takes it for a page
    if not source.exists():
        return link
    copy = BOOK / SOURCE / f"{source.relative_to(ROOT)}.txt"
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(listing(source) if source.is_dir() else source.read_text())
    return os.path.relpath(copy, page.parent)


def listing(directory: pathlib.Path) -> str:
    """What git has in a directory."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=True).stdout


def faults_of(page: pathlib.Path) -> list[str]:
    """Links that lead nowhere, and what would be loaded from elsewhere."""
    text, name = page.read_text(), page.relative_to(BOOK)
    faults = [f"{name} loads {url}" for url in LOADED.findall(text)]
    for _, link, _ in LINK.findall(text):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, anchor = urldefrag(unquote(html.unescape(link)))
        target = page.parent / path if path else page
        if target.is_dir():
            target /= "index.html"
        if not target.exists():
            faults.append(f"{name}: {link} is not there")
        elif anchor and target.suffix == ".html" and anchor not in ANCHOR.findall(target.read_text()):
            faults.append(f"{name}: {link}: no such heading")
    return faults


if __name__ == "__main__":
    sys.exit(main())
