"""From ``module:attribute`` on the command line to an application, with an error for every way it can be wrong."""

from __future__ import annotations

import difflib
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard, cast

from floxide_amqp.apps.application import Floxide
from floxide_amqp.apps.cli.failures import UsageError
from floxide_amqp.core.workflow import WorkflowDefinition
from floxide_amqp.exceptions import FloxideError

AnyWorkflow = type[WorkflowDefinition[Any, Any, Any]]


def load_app(reference: str) -> Floxide:
    """Import an application; the current directory is searched first.

    Raises:
        UsageError: The reference leads to none; the message says what is there instead.
    """
    found = _load(reference)
    if isinstance(found, Floxide):
        return found
    if _is_workflow(found):
        raise UsageError(
            f"{reference} is the workflow {found.__name__}, and this command needs an application. "
            f"Make one beside it, app = Floxide(..., workflows=[{found.__name__}]), and name that. "
            "`floxide run` and `floxide graph` take a workflow as well."
        )
    raise _not_an_app(reference, found)


def load_workflow(reference: str, name: str | None) -> tuple[Floxide, AnyWorkflow]:
    """Import an application or a workflow class, and return the application with the workflow that is meant.

    Args:
        reference: ``module:attribute`` of either.
        name: The workflow's name; may be None where there is only one.

    Raises:
        UsageError: The reference leads to neither, or it stays open which workflow is meant.
        UnknownWorkflowError: The application has no workflow of this name.
    """
    found = _load(reference)
    if _is_workflow(found):
        if name is not None:
            raise UsageError(f"{reference} is the workflow {found.__name__} itself: leave {name!r} out.")
        return Floxide(workflows=[found]), found
    if not isinstance(found, Floxide):
        raise _not_an_app(reference, found)
    return found, workflow_of(found, reference, name)


def workflow_of(app: Floxide, reference: str, name: str | None) -> AnyWorkflow:
    """Return an application's workflow by name, or its only one; raises as `load_workflow`."""
    if name is not None:
        return app.registry.workflow(name)
    names = sorted({workflow for workflow, _ in app.registry.graphs})
    if len(names) != 1:
        raise UsageError(f"Name the workflow after {reference}; it has: {', '.join(names) or 'none'}.")
    return app.registry.workflow(names[0])


def _load(reference: str) -> object:
    module_name, colon, attribute = reference.partition(":")
    if not (module_name and colon and attribute):
        raise UsageError(
            f"{reference!r} does not name an application. Write module:attribute, as in shop:app for the object app "
            "in shop.py."
        )
    module = _import(module_name)
    found: object = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise _missing(module, module_name, attribute)
        found = getattr(found, part)
    return found


def _import(name: str) -> ModuleType:
    if name.endswith(".py") or "/" in name:
        dotted = name.removesuffix(".py").strip("./").replace("/", ".")
        raise UsageError(f"{name!r} is a path; name the module as an import does: {dotted}.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(f"Importing {name} failed: {error}. Is it installed in {sys.prefix}?") from error
        raise UsageError(
            f"There is no module {name!r} in {here} or on Python's path. Run floxide from the folder that holds it, "
            "or set PYTHONPATH."
        ) from error
    except FloxideError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's module does when it is imported
        raise UsageError(
            f"Importing {name} failed with {type(error).__name__}: {error}. Use --debug for the traceback."
        ) from error


def _missing(module: ModuleType, name: str, attribute: str) -> UsageError:
    apps = sorted(key for key, value in vars(module).items() if isinstance(value, Floxide))
    if apps:
        what = f"application {apps[0]}" if len(apps) == 1 else f"applications {', '.join(apps[:-1])} and {apps[-1]}"
        return UsageError(f"Module {name} has no {attribute!r}. It has the {what}.")
    close = difflib.get_close_matches(attribute, vars(module), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return UsageError(f"Module {name} has no {attribute!r}, and no application at all.{hint}")


def _not_an_app(reference: str, found: object) -> UsageError:
    kind = type(found).__name__
    article = "an" if kind[:1].lower() in "aeiou" else "a"
    call = f" If it makes the application, call it in the module: app = {reference.rpartition(':')[2]}()."
    return UsageError(
        f"{reference} is no application but {article} {kind}. Name a Floxide object.{call if callable(found) else ''}"
    )


def _is_workflow(found: object) -> TypeGuard[AnyWorkflow]:
    return isinstance(found, type) and issubclass(found, WorkflowDefinition) and hasattr(cast(Any, found), "graph")
