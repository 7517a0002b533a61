"""Write requirements.lock and gpu.lock beside this file; `make lock` does, with --upgrade.

Both pin every package that pyproject.toml asks for, with the hashes of all its files. gpu.lock has
what PyTorch's CUDA build needs on Linux, gigabytes that its CPU build does without.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
GPU = ("nvidia-", "cuda-", "triton")
HEAD = "# Made by: make lock\n"


def compiled(*options: str) -> dict[str, str]:
    """Return the pin of each package with its hashes, by name, for every platform and Python."""
    file = HERE / "requirements.lock"  # whose versions stay, unless an option says otherwise
    command = ["uv", "pip", "compile", "--universal", "--python-version=3.11", "--all-extras"]
    command += ["--generate-hashes", "--no-annotate", "--no-header", "--no-config", "--quiet"]
    command += [f"--output-file={file}", str(HERE.parent / "pyproject.toml"), *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    blocks = re.split(r"\n(?=\w)", file.read_text("utf-8").strip())
    return {re.match(r"[\w.-]+", block)[0]: block for block in blocks}


def hash_here(pin: str) -> str:
    """Return the hash of the file that pip takes for a pin here: perhaps of a build of its own."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--no-deps"]
    command += ["--ignore-installed", "--report", "-", pin]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    hashes = json.loads(done.stdout)["install"][0]["download_info"]["archive_info"]["hashes"]
    return f"--hash=sha256:{hashes['sha256']}"


def main() -> None:
    """Write both files."""
    pins = compiled(*sys.argv[1:])
    build = hash_here(pins["torch"].split()[0])
    if build not in pins["torch"]:
        pins["torch"] += f" \\\n    {build}"
    for file, wanted in (("requirements", False), ("gpu", True)):
        blocks = [pin for name, pin in pins.items() if name.startswith(GPU) == wanted]
        (HERE / f"{file}.lock").write_text(HEAD + "\n".join(blocks) + "\n", "utf-8")


if __name__ == "__main__":
    main()
