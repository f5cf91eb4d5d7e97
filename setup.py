"""The package map and the native build; all else is in pyproject.toml.

The rooms lie side by side in the repository and are installed inside ``opensora_fast``. The native
extension is optional: without a C++ compiler the package installs without it and its reference,
torch and Triton backends serve.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
PACKAGE_DIR = {
    "opensora_fast": "opensora_fast",
    "opensora_fast.kernels": "kernels",
    "opensora_fast.models": "models",
    "opensora_fast.train": "train",
    "opensora_fast.bench": "bench",
}
PACKAGES = [
    name
    for package, folder in PACKAGE_DIR.items()
    for name in (package, *(f"{package}.{sub}" for sub in find_packages(str(ROOT / folder))))
]
DATA = ["*.json", "*.jsonl", "*.txt", "*.md", "*.safetensors"]
PACKAGE_DATA = {
    "opensora_fast": ["py.typed", "_C.pyi", "assets/**/*"],
    "opensora_fast.kernels": ["**/*.md"],
    "opensora_fast.train": [f"**/{pattern}" for pattern in DATA],
    "opensora_fast.bench": [f"**/{pattern}" for pattern in DATA],
}
NO_COMPILER = """
opensora-fast: no C++ compiler was found, so the native extension is left out.
The package works: its reference, torch and Triton backends serve every operator.
Install g++ or clang++ and run the installation again to add the native backends.
"""


def find_tool(name: str) -> str | None:
    """Path of a tool, first beside the running Python: its environment need not be active."""
    beside = str(Path(sys.executable).parent)
    return shutil.which(name, path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))


class CMakeBuild(build_ext):
    """Builds the extension with CMake in a build folder that outlives pip's temporary ones."""

    def build_extension(self, ext: Extension) -> None:
        compiler = os.environ.get("CXX", "").split()[:1] or ["c++", "g++", "clang++"]
        if not any(shutil.which(name) for name in compiler):
            print(NO_COMPILER, file=sys.stderr)
            return
        cmake = find_tool("cmake")
        if cmake is None:
            raise SystemExit(
                "opensora-fast: no cmake beside the C++ compiler: install 3.25 or newer"
            )
        import pybind11  # a build requirement: absent where only the metadata is asked for

        output = Path(self.get_ext_fullpath(ext.name)).resolve()
        config = "Debug" if self.debug else "Release"
        build = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}-{config.lower()}"
        # The isolated environment of one build is gone in the next: name every tool each time.
        settings = [
            f"-DCMAKE_BUILD_TYPE={config}",
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={output.parent}",
            f"-DOPENSORA_FAST_EXTENSION_SUFFIX={sysconfig.get_config_var('EXT_SUFFIX')}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DOPENSORA_FAST_CUDA={os.environ.get('OPENSORA_FAST_CUDA', 'AUTO')}",
            # The build folder would remember the architectures of the last build.
            f"-DCMAKE_CUDA_ARCHITECTURES={architectures}"
            if (architectures := os.environ.get("OPENSORA_FAST_CUDA_ARCHITECTURES"))
            else "-UCMAKE_CUDA_ARCHITECTURES",
        ]
        ninja = find_tool("ninja")
        generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 1))
        for command in (
            [cmake, "-S", ROOT, "-B", build, *generator, *settings],
            [cmake, "--build", build, "--target", "_C", "--parallel", jobs],
        ):
            if subprocess.run(command).returncode != 0:
                raise SystemExit("opensora-fast: the native build failed, its messages are above")
        if not output.is_file():
            raise SystemExit(f"opensora-fast: the build finished but did not write {output}")


setup(
    packages=PACKAGES,
    package_dir=PACKAGE_DIR,
    package_data=PACKAGE_DATA,
    ext_modules=[Extension("opensora_fast._C", sources=[], optional=True)],
    cmdclass={"build_ext": CMakeBuild},
)
