"""Former hashes of recipes whose settings are written in another way now.

A run folder or a card of an earlier version has the former hash, which stands for the same recipe.
"""

from __future__ import annotations

from collections.abc import Mapping

FORMER_HASHES: Mapping[str, str] = {
    # CP2's starting weights became the run's (`--init`), no longer a setting of the method.
    "77f8daf08e29f3c080c852f3ea04f80822e8d527b2ceac8cfcac61980852d693": (  # cp2-imagenet-200ep
        "07be0af74f0c831c02ee8f085ccc71f1f384bb5f0c5ead0f88b9f3caaa3872da"
    ),
    "ce1aaec5a286d9b630b0d9dc5ed205bfdd6e7bb90acddbb12a5c86cd964c5c57": (  # cp2-imagenet-600ep
        "f887cbdbf5da18e4213af8eff9d0f0a0630aa41d18d04a17b84c623173240142"
    ),
    "cf84d73def3bfb0be606fa456a68011e57e0c4e9543e24f0c1de1b4c430d8dbe": (  # cp2-quick-imagenet-20ep
        "f246d981fe2636bc8d1c92405773a0b040fa38a309f3600824f7d1daf5049807"
    ),
    "5edb5186df35f236efbd2cbe31ef61024cb3541f3e41678eca15d728a3fe7c0c": (  # cp2-mini
        "e32c37aae55f3bcb992c1281b41c26a7ba567252652753fcd15f13a9ed1611f5"
    ),
    "164cd55e756600c4c8f6c6442f27b9feb97508f94a598c74fc1649f64756261c": (  # cp2-quick-mini
        "b2fe7ded4e90531ad58a282771be2a1e2614d5a6d8061da2ab36d0ff1b01babc"
    ),
}
"""Present hash of each former one."""


def present_hash(recipe_sha256: str) -> str:
    """The present hash of the recipe with the present or former hash `recipe_sha256`."""
    return FORMER_HASHES.get(recipe_sha256, recipe_sha256)
