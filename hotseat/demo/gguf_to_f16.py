"""Writes a quantised GGUF model again with 16-bit weights: the same model, twice the size, another footprint.

The demo needs two real models and one real model comes as a package. Its weights at full width make a second one that
is honestly different to swap: larger, slower to load, slower to speak.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gguf import GGUFReader, GGUFWriter

BLOCK_ROWS = 16384  # bounds the memory: a block of the largest matrix is some 40 MB
MOSTLY_F16 = 1  # llama.cpp's file type
NOT_COPIED = ("GGUF.", "general.architecture", "general.file_type", "general.name", "general.quantization_version")


def write_as_f16(source: Path, target: Path, *, name: str, progress: Callable[[float], None]) -> Path:
    """Write `source`'s weights as 16-bit floats to `target`, atomically: a reader sees the whole file or none.

    Args:
        source: A quantised GGUF file.
        target: Where to; its folder must exist.
        name: What the new model calls itself (`general.name`).
        progress: Told the finished part, 0 to 1.

    Raises:
        ImportError: `gguf` and `numpy` come with the `demo` extra only.
        OSError: The target cannot be written.
    """
    from gguf import GGUFReader, GGUFWriter  # noqa: PLC0415 - the demo extra is optional

    reader = GGUFReader(source)
    unfinished = target.with_name(f"{target.name}.part")
    writer = GGUFWriter(unfinished, str(reader.fields["general.architecture"].contents()))
    _copy_description(reader, writer, name=name)
    _announce_tensors(reader, writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    total = sum(tensor.n_elements for tensor in reader.tensors)
    done = 0
    for tensor in reader.tensors:
        writer.write_tensor_data(_unpacked(tensor))
        done += tensor.n_elements
        progress(done / total)
    writer.close()
    return unfinished.replace(target)


def _copy_description(reader: GGUFReader, writer: GGUFWriter, *, name: str) -> None:
    from gguf import GGUFValueType  # noqa: PLC0415 - the demo extra is optional

    writer.add_name(name)
    writer.add_file_type(MOSTLY_F16)
    for field in reader.fields.values():
        if not field.name.startswith(NOT_COPIED):
            is_array = field.types[0] == GGUFValueType.ARRAY
            writer.add_key_value(field.name, field.contents(), field.types[0], field.types[-1] if is_array else None)


def _announce_tensors(reader: GGUFReader, writer: GGUFWriter) -> None:
    import numpy as np  # noqa: PLC0415 - the demo extra is optional

    for tensor in reader.tensors:
        number_type = np.dtype(np.float32 if _is_f32(tensor) else np.float16)
        shape = [int(length) for length in reversed(tensor.shape)]
        writer.add_tensor_info(tensor.name, shape, number_type, int(tensor.n_elements) * number_type.itemsize)


def _unpacked(tensor: Any) -> Any:
    """Return a tensor's weights as 16-bit floats; the few that are 32-bit already (norms) stay so."""
    import numpy as np  # noqa: PLC0415 - the demo extra is optional
    from gguf import dequantize  # noqa: PLC0415 - as above

    if _is_f32(tensor):
        return tensor.data
    weights = np.empty([int(length) for length in reversed(tensor.shape)], dtype=np.float16)
    for start in range(0, len(weights), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        weights[rows] = dequantize(tensor.data[rows], tensor.tensor_type)
    return weights


def _is_f32(tensor: Any) -> bool:
    from gguf import GGMLQuantizationType  # noqa: PLC0415 - the demo extra is optional

    return bool(tensor.tensor_type == GGMLQuantizationType.F32)
