"""What README.md shows is true: its programs are compiled and run, and print what the page says; its commands exist."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("TENSORGRAD_BUILD", ROOT / "build"))
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def program_and_output(language: str) -> tuple[str, str]:
    """The block of that language, and the text block that follows it: what the program prints."""
    found = re.search(rf"^```{language}\n(.*?)^```$.*?^```text\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    assert found, f"README.md has no {language} program with its output"
    return found[1], found[2]


def test_the_cpp_program_prints_what_the_page_says(tmp_path):
    if not (BUILD / "libtensorgrad.so").exists():
        pytest.skip("the C++ library is not built here")
    source, expected = program_and_output("cpp")
    assert len(source.strip().splitlines()) <= 20
    (tmp_path / "main.cpp").write_text(source)
    compiler = os.environ.get("CXX", "c++")
    program = tmp_path / "main"
    flags = [f"-I{ROOT / 'include'}", f"-L{BUILD}", "-ltensorgrad", f"-Wl,-rpath,{BUILD}", "-o", str(program)]
    subprocess.run([compiler, "-std=c++20", str(tmp_path / "main.cpp"), *flags], check=True, timeout=120)
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == expected


def test_the_python_program_prints_what_the_page_says():
    pytest.importorskip("tensorgrad")
    source, expected = program_and_output("python")
    assert len(source.strip().splitlines()) <= 20
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == expected


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_command_exists(page):
    mentioned = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", page.read_text(), re.MULTILINE))
    assert mentioned <= make_targets()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_local_link_leads_somewhere(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(), flags=re.DOTALL)  # code has brackets of its own
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), target


def test_make_help_lists_the_two_main_commands():
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    done = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "make demo" in done.stdout and "make test" in done.stdout
