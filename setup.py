"""Builds what pyproject.toml describes, and puts experiments/ and sweeps/ into the package, where an installed one finds them."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithExperiments(build_py):
    """Copies the two folders side by side, so that what they say of each other stays true."""

    def run(self) -> None:
        """Build the package, and unless it stays in its checkout, the folders in it."""
        super().run()
        if not self.editable_mode:
            for folder in ("experiments", "sweeps"):
                self.copy_tree(folder, str(Path(self.build_lib, "tadp_ray", "shipped", folder)))


setup(cmdclass={"build_py": WithExperiments})
