"""Names of Python objects that a checkpoint's pickle may mention: tensors, dictionaries, and plain data.

Nothing in this list is ever imported: `pickles` gives the names their meaning. The list separates harmless files from
those that name something unknown. The latter are refused, since they could run code for others who load them.
"""

from __future__ import annotations

import torch

DICTIONARIES = {
    *("builtins.dict", "collections.OrderedDict", "collections.Counter", "collections.defaultdict"),
    *("addict.Dict", "addict.addict.Dict", "easydict.EasyDict", "munch.Munch"),
    *("mmcv.utils.config.ConfigDict", "mmengine.config.config.ConfigDict"),
    *("yacs.config.CfgNode", "fvcore.common.config.CfgNode", "detectron2.config.config.CfgNode"),
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    *(f"haiku._src.data_structures.{name}" for name in ("frozendict", "FlatMap", "FlatMapping")),
    "flax.core.frozen_dict.FrozenDict",
}
_BUILTINS = {
    *("bool", "bytearray", "bytes", "complex", "float", "frozenset", "getattr", "int", "list", "object", "range"),
    *("set", "slice", "str", "tuple"),
}
"""Harmless here, where names are only text: even `getattr`, with which mmengine's logs name functions, does nothing."""
_NUMPY = {
    *("bool", "bool_", "bytes_", "datetime64", "dtype", "float16", "float32", "float64", "int8", "int16", "int32"),
    *("int64", "intc", "longlong", "ndarray", "str_", "timedelta64", "uint8", "uint16", "uint32", "uint64"),
}
_PLAIN = {
    *(f"builtins.{name}" for name in _BUILTINS),
    *(f"numpy.{name}" for name in _NUMPY),
    *("_codecs.encode", "argparse.Namespace", "collections.deque", "copyreg._reconstructor", "decimal.Decimal"),
    *("fractions.Fraction", "mmcv.utils.config.Config", "types.SimpleNamespace", "typing.Any", "uuid.UUID"),
    *("torch.Size", "torch.Tensor", "torch.device", "torch.nn.parameter.Buffer", "torch.nn.parameter.Parameter"),
    *("torch._C.Generator", "torch._tensor._rebuild_from_type_v2", "torch.serialization._get_layout"),
}
_PLAIN_MODULES = (
    *("datetime.", "pathlib.", "numpy.core.", "numpy.dtypes.", "numpy.random.", "omegaconf."),
    *("lightning.", "pytorch_lightning.", "mmengine.config.", "mmengine.logging."),
    *("torch.distributed.tensor.", "torch.distributed.device_mesh."),
    *("optax.", "jax.", "jaxlib."),
)
NAMED_TUPLES = {
    "_ByolExperimentState": ("online_params", "target_params", "online_state", "target_state", "opt_state"),
}
"""Field names of named tuples, which a pickle leaves out, by class name in any module."""
RECORDS = "torch.distributed.checkpoint.metadata.", "torch.distributed.checkpoint.filesystem."
"""Prefixes of modules whose classes describe where the parts of a distributed checkpoint lie."""
TENSORS = {f"torch._utils._rebuild_{kind}" for kind in ("tensor", "tensor_v2", "tensor_v3")}
SAME = {
    *("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"),
    "torch._utils._rebuild_device_tensor_from_cpu_tensor",
}
"""Functions that return their first argument, the tensor."""
ODD_TENSORS = {
    "torch._utils._rebuild_device_tensor_from_numpy": "a tensor of another device",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor on the meta device, without values",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_qtensor": "quantised",
    "torch._utils._rebuild_sparse_csr_tensor": "sparse",
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch._utils._rebuild_wrapper_subclass": "a tensor of a class of its own",
    "torch._utils._rebuild_xla_tensor": "a tensor of another device",
    "torch.distributed.tensor.DTensor": "a shard of a tensor (DTensor)",
}
TORCH_DTYPES = {f"torch.{name}": value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_STORAGE_TYPES: dict[str, torch.dtype] = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
    "Untyped": torch.uint8,
    "QInt8": torch.qint8,
    "QUInt8": torch.quint8,
    "QInt32": torch.qint32,
}
_STORAGE_NAMES = {
    f"{module}.{kind}Storage": dtype
    for kind, dtype in _STORAGE_TYPES.items()
    for module in ("torch", "torch.cuda", "torch.storage")
}
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
_KNOWN = {*DICTIONARIES, *_PLAIN, *TENSORS, *SAME, *ODD_TENSORS, *TORCH_DTYPES, *_STORAGE_NAMES}


def full_name(module: str, name: str) -> str:
    """The full name, equal for old and new places of objects that Python or numpy moved, e.g. `builtins.set`."""
    full = f"{_PYTHON_2.get(module, module)}.{name}"
    return full.replace("numpy._core.", "numpy.core.", 1) if full.startswith("numpy._core.") else full


def is_known(full: str) -> bool:
    """Whether a checkpoint may mention this name."""
    return full in _KNOWN or full.startswith((*_PLAIN_MODULES, *RECORDS)) or ".byol." in f".{full}"


def storage_type(full: str) -> torch.dtype | None:
    """The type of the values in a storage that the pickle calls `torch.FloatStorage`, ...; None if it is none."""
    return _STORAGE_NAMES.get(full)
