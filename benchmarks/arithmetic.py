"""Portable arithmetic for a benchmark that trains in its own process."""

import os
import sys

from dacsm.config.project import Project
from dacsm.runtime.processor import VARIABLES, hold_libraries


def hold_as(project: Project) -> None:
    """Start this program once more with the libraries held, where a recipe of the project's dataset asks for it.

    They read the variables as they are loaded, and here that has been.
    """
    recipes = (project.params.recipe(stage, project.dataset.name) for stage in ("pretrain", "adapt"))
    portable = any(recipe.arithmetic == "portable" for recipe in recipes)
    if portable and any(os.environ.get(name) != value for name, value in VARIABLES.items()):
        hold_libraries()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
