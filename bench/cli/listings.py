"""Commands that list what can be pretrained (methods, recipes) and which checkpoints are known (formats)."""

from __future__ import annotations

from bench.cli.common import EVALUATE, PRETRAIN, AsJson, app, print_json, print_table


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
        return print(*(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(keys), *rows)), sep="\n")
    print_table("Methods", columns, rows)


@app.command(group=PRETRAIN)
def recipes(*, as_json: AsJson = False) -> None:
    """List the recipes: a method with data, backbone, schedule and the paper's value.

    Example: densebench recipes
    """
    from pretrain.methods import gpu_memory
    from pretrain.outside import every_recipe

    listed = every_recipe().values()
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
        return print(*(f"| {' | '.join(row)} |" for row in (columns, ["---"] * len(keys), *rows)), sep="\n")
    print_table("Formats of checkpoints", columns, rows)
