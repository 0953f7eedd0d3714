"""Commands that list what can be pretrained (methods, recipes) and which checkpoints are known (formats)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cli.common import EVALUATE, PRETRAIN, AsJson, app, print_json, print_table
from bench.markdown import markdown_table

if TYPE_CHECKING:
    from pretrain.recipes import Recipe


@app.command(group=PRETRAIN)
def methods(*, as_json: AsJson = False, markdown: bool = False) -> None:
    """List the methods that can be pretrained.

    Example: densebench methods --json

    Parameters
    ----------
    markdown
        Print a Markdown table (that of the README).
    """
    from dataclasses import asdict

    from pretrain.outside import every_method

    infos = [asdict(method.info) for method in every_method()]
    if as_json:
        return print_json(infos)
    keys = ["id", "unit", "partner", "loss", "second_network", "negatives", "fidelity", "paper"]
    columns, rows = [k.replace("_", " ") for k in keys], [[str(info[k]) for k in keys] for info in infos]
    if markdown:
        return print(markdown_table(columns, rows))
    print_table("Methods", columns, rows)


@app.command(group=PRETRAIN)
def recipes(name: str | None = None, *, as_json: AsJson = False) -> None:
    """List the recipes: a method with data, backbone, schedule and the paper's value; or show one whole.

    Example: densebench recipes densecl-mini

    Parameters
    ----------
    name
        Show this recipe with every setting, or the recipes of this method (a recipe of FILE.py, or FILE.py:NAME).
    """
    from pretrain.methods import gpu_memory, method_of
    from pretrain.outside import every_recipe, find_anywhere

    listed = list(every_recipe().values())
    if name is not None:
        listed = [recipe for recipe in listed if method_of(recipe).info.id == name] or [find_anywhere(name)]
        if len(listed) == 1:
            return print_json(listed[0].to_dict()) if as_json else _show(listed[0])
    if as_json:
        return print_json([recipe.to_dict() for recipe in listed])
    columns = ["recipe", "backbone", "epochs", "batch", "precision", "data", "expected", "cost", "GiB"]
    rows = [
        [r.name, r.backbone, str(r.epochs), str(r.batch_size), r.precision, r.data, r.expected, r.cost, gpu_memory(r)]
        for r in listed
    ]
    print_table("Recipes", columns, rows)
    print(
        "GiB: memory on a GPU in bf16 / fp32 with 256 images, computed, not measured. The papers' recipes are fp32; "
        "on a GPU bf16 is recommended: --set precision=bf16"
    )
    print("densebench recipes NAME: one recipe with every setting")


def _show(recipe: Recipe) -> None:
    """Print what a recipe says for people, then each setting as `--set` takes it."""
    from dataclasses import fields

    from pretrain.methods import method_of
    from pretrain.recipes import settings_of
    from pretrain.settings import PROSE, as_text

    prose = [item.name for item in fields(recipe) if item.metadata == PROSE]
    about = {"method": method_of(recipe).info.id} | {key: getattr(recipe, key) for key in prose}
    print(recipe.name, *(f"  {key}: {text}" for key, text in about.items() if text), sep="\n")
    print(f"\nevery setting; change one with `densebench pretrain {recipe.name} --set KEY=VALUE`:")
    for key, value in settings_of(recipe).items():
        if key not in ("name", "stages", *prose):
            print(f"  {key}={as_text(value)}")


@app.command(group=EVALUATE)
def formats(*, as_json: AsJson = False, markdown: bool = False) -> None:
    """List whose checkpoints are known by name, and where the names of their tensors were read.

    Others are imported, too: a backbone is found under any prefix, by the naming of its layers.

    Example: densebench formats

    Parameters
    ----------
    markdown
        Print a Markdown table with everything that is known of each.
    """
    from dataclasses import asdict

    from bench.checkpoints.formats import FORMATS

    listed = [asdict(form) for form in FORMATS]
    if as_json:
        return print_json(listed)
    keys = ["name", "keys", "network", "std", "license", "source"]
    if markdown:
        keys = ["name", "keys", "layouts", "network", "stem", "stride", "norm", "std", "license", "source"]
    columns = [{"network": "authors evaluate"}.get(key, key) for key in keys]
    rows = [
        [f[k] if isinstance(f[k], str) else (" " if k == "std" else ", ").join(map(str, f[k])) for k in keys]
        for f in listed
    ]
    if markdown:
        return print(markdown_table(columns, rows))
    print_table("Formats of checkpoints", columns, rows)
